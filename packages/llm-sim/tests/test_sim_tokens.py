"""Counting tokens."""

from __future__ import annotations

import base64
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_sim import tokens


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("hello world", ["hello", " world"]),
        ("internationally", ["interna", "tionall", "y"]),
        ("12345", ["123", "45"]),
        ("a, b!", ["a", ",", " b", "!"]),
        ("a  b\n", ["a", "  ", "b", "\n"]),
        ("日本語", ["日本", "語"]),
    ],
)
def test_text_is_cut_by_the_rule(text: str, pieces: list[str]) -> None:
    assert tokens.split(text) == pieces
    assert tokens.count(text) == len(pieces)


@given(st.text())
def test_the_pieces_are_the_text(text: str) -> None:
    assert "".join(tokens.split(text)) == text


def test_english_counts_about_four_characters_a_token() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 8))) for _ in range(500)]
    text = " ".join(words)
    assert 3.5 < len(text) / tokens.count(text) < 6


def test_the_length_of_sound_that_is_not_wav_is_estimated() -> None:
    data = base64.b64encode(b"\xff\xfb" + bytes(31_998)).decode()
    assert tokens.count_audio_seconds(data) == 2.0
    assert tokens.count_audio_seconds("!!") < 0.001
