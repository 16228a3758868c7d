"""Transcripts of overlapping pieces as one text."""

from __future__ import annotations

import re

__all__ = ["merge_transcripts"]

_WORDS_A_SECOND = 5
"""More than people say: fast speech is about four words a second (200 to 240 words a minute)."""


def merge_transcripts(before: str, after: str, *, overlap_seconds: float) -> str:
    """Join the texts of two pieces whose sounds overlap by `overlap_seconds`; what both have is kept once.

    The overlap is the longest run of words, letter case and punctuation aside, that ends the one and begins the other;
    a word at either edge that was cut in two may stand outside of it and is left out.
    Without an overlap, or without words in common, the texts are joined by a space.
    """
    before, after = before.rstrip(), after.lstrip()
    if not before or not after:
        return before or after
    if overlap_seconds <= 0:
        return f"{before} {after}"
    most = int(overlap_seconds * _WORDS_A_SECOND) + 2
    ends = list(re.finditer(r"\S+", before))[-most - 1 :]
    begins = list(re.finditer(r"\S+", after))[: most + 1]
    old, new = [_bare(m[0]) for m in ends], [_bare(m[0]) for m in begins]
    for size in range(min(len(old), len(new)), 0, -1):
        # One broken word after the common run in `before`, one before it in `after`.
        for cut_old, cut_new in ((0, 0), (1, 0), (0, 1), (1, 1)):
            stop = len(old) - cut_old
            if stop - size < 0 or cut_new + size > len(new):
                continue
            common = old[stop - size : stop]
            if not any(common) or common != new[cut_new : cut_new + size]:
                continue
            # A single word in common is too little evidence to leave out another one that is not a part of its like.
            whole_after, whole_before = new[cut_new + size :][:1], old[: stop - size][-1:]
            if size == 1 and not (
                _all_begin(whole_after, old[stop:]) and _all_end(whole_before, new[:cut_new])
            ):
                continue
            rest = after[begins[cut_new + size - 1].end() :].lstrip()
            kept = before[: ends[stop - 1].end()]
            return f"{kept} {rest}" if rest else kept
    return f"{before} {after}"


def _all_begin(words: list[str], broken: list[str]) -> bool:
    """Tell whether each broken word begins the whole one, if there is any."""
    return all(words and words[0].startswith(part) for part in broken)


def _all_end(words: list[str], broken: list[str]) -> bool:
    """Tell whether each broken word ends the whole one, if there is any."""
    return all(words and words[0].endswith(part) for part in broken)


def _bare(word: str) -> str:
    return re.sub(r"\W+", "", word).casefold()
