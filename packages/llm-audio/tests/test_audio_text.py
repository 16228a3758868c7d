"""Texts in pieces for a voice, and transcripts of pieces as one text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_audio import merge_transcripts, split_text
from llm_core import InvalidValue


@given(st.text(max_size=400), st.integers(1, 60), st.integers(1, 60))
def test_pieces_hold_the_whole_text_and_keep_the_limit(text: str, limit: int, first: int) -> None:
    pieces = split_text(text, max_characters=limit, first_characters=first)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in pieces)
    assert not pieces or len(pieces[0]) <= first


@given(st.lists(st.from_regex(r"[A-Z][a-z]{2,9} [a-z]{3,9}[.!?]", fullmatch=True), min_size=1))
def test_no_sentence_is_cut_that_fits(sentences: list[str]) -> None:
    pieces = split_text(" ".join(sentences), max_characters=45)
    assert [s for piece in pieces for s in re.split(r"(?<=[.!?]) ", piece)] == sentences


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("One two. Three four. Five six.", 22, ["One two. Three four.", "Five six."]),
        ("First paragraph.\n\nSecond one. Third.", 30, ["First paragraph.", "Second one. Third."]),
        ("We met Dr. Smith there. He left.", 25, ["We met Dr. Smith there.", "He left."]),
        ("It was J. R. Smith who came.", 20, ["It was J. R. Smith", "who came."]),
        ("a long clause, another one here", 20, ["a long clause,", "another one here"]),
        ('He said "No." Then he left us.', 20, ['He said "No."', "Then he left us."]),
        ("これは文です。次の文です。", 8, ["これは文です。", "次の文です。"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("xe\u0301y", 2, ["x", "e\u0301", "y"]),
        ("x" + "e\u0301", 2, ["x", "e\u0301"]),
        ("  \n ", 5, []),
    ],
)
def test_a_text_is_cut_where_a_voice_pauses(text: str, limit: int, pieces: list[str]) -> None:
    assert split_text(text, max_characters=limit) == pieces


@pytest.mark.parametrize(
    "limits", [{"max_characters": 0}, {"max_characters": 5, "first_characters": 0}]
)
def test_limits_below_one_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(InvalidValue, match="1 or more"):
        split_text("x", **limits)


@pytest.mark.parametrize(
    ("before", "after", "overlap", "whole"),
    [
        ("the quick brown fox", "brown fox jumps over", 2, "the quick brown fox jumps over"),
        ("Yes. The quick, Brown fox.", "brown fox jumps", 2, "Yes. The quick, Brown fox. jumps"),
        ("the quick brown fo", "brown fox jumps", 2, "the quick brown fox jumps"),
        ("the quick brown fo", "ick brown fox jumps", 2, "the quick brown fox jumps"),
        ("the quick brown fox ju", "rown fox jumps over", 2, "the quick brown fox jumps over"),
        ("nothing alike", "at all here", 2, "nothing alike at all here"),
        ("the end", "the end", 2, "the end"),
        ("one two", "two one", 0, "one two two one"),
        ("", "words", 2, "words"),
        ("words", "", 2, "words"),
    ],
)
def test_what_both_have_is_kept_once(before: str, after: str, overlap: float, whole: str) -> None:
    assert merge_transcripts(before, after, overlap_seconds=overlap) == whole


@given(st.integers(4, 40), st.integers(2, 8))
def test_distinct_words_are_merged_exactly(count: int, common: int) -> None:
    words = [f"w{n}" for n in range(count + common)]
    cut = count // 2
    before, after = " ".join(words[: cut + common]), " ".join(words[cut:])
    assert merge_transcripts(before, after, overlap_seconds=2) == " ".join(words)
