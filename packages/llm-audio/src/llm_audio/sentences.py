"""Long texts in pieces that a voice can speak one after the other."""

from __future__ import annotations

import re
import unicodedata

from llm_core import InvalidValue

__all__ = ["split_text"]

_BREAKS = (
    re.compile(r"\n\s*\n\s*"),
    re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))\s+|(?<=[。！？])\s*"),
    re.compile(r"(?<=[,;:–—，、；：])\s*"),
    re.compile(r"\s+"),
)
"""Where a text may be cut, best first: between paragraphs, sentences, clauses, words."""

_ABBREVIATIONS = frozenset(
    {
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "sr",
        "jr",
        "vs",
        "etc",
        "e.g",
        "i.e",
        "no",
        "fig",
        "vol",
        "approx",
        "dept",
        "gen",
        "col",
        "capt",
        "lt",
        "rev",
        "hon",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "bzw",
        "usw",
        "z.b",
        "d.h",
        "nr",
    }
)


def split_text(text: str, *, max_characters: int, first_characters: int | None = None) -> list[str]:
    """Cut `text` into pieces of at most `max_characters`, in order, that hold every word of it.

    Pieces are as long as they may be and end with a paragraph, else a sentence, a clause, a word; only a word that is
    longer than a piece is cut itself. White space at the cuts is left out, so no piece begins or ends with any.
    `first_characters` is a lower limit for the first piece, so that there is something to hear soon.
    Raises InvalidValue for a limit below 1. A text of white space has no pieces.
    """
    first = max_characters if first_characters is None else first_characters
    for field, limit in (("max_characters", max_characters), ("first_characters", first)):
        if limit < 1:
            raise InvalidValue.of(field, limit, "1 or more")
    pieces: list[str] = []
    rest = text.strip()
    while rest:
        limit = max_characters if pieces else min(first, max_characters)
        end = len(rest) if len(rest) <= limit else _last_break(rest, limit)
        pieces.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return pieces


def _last_break(text: str, limit: int) -> int:
    """Return the best place for a cut at or before `limit`, in the second half of what is allowed if possible."""
    window = text[: limit + 1]
    last_resort = 0
    for pattern in _BREAKS:
        places = [m.start() for m in pattern.finditer(window) if 0 < m.start() <= limit]
        places = [place for place in places if not _is_abbreviation(text, place)] or (
            places if pattern is _BREAKS[-1] else []
        )
        if places and places[-1] >= limit // 2:
            return places[-1]
        last_resort = max([last_resort, *places])
    return last_resort or _whole_character(text, limit)


def _is_abbreviation(text: str, place: int) -> bool:
    """Tell whether the full stop before `place` belongs to its word: ``Dr.``, ``e.g.``, or an initial."""
    if text[place - 1] != ".":
        return False
    word = re.search(r"(\S*)\.$", text[max(place - 20, 0) : place])
    if word is None:
        return False
    bare = word[1].lstrip("(\"'“‘").lower()
    return bare in _ABBREVIATIONS or (len(bare) == 1 and bare.isalpha())


def _whole_character(text: str, limit: int) -> int:
    """Return `limit`, or a place before it that does not part a letter from its accents or an emoji's parts."""
    end = limit
    while end and (
        unicodedata.combining(text[end]) or text[end] in "\u200d\ufe0f" or text[end - 1] == "\u200d"
    ):
        end -= 1
    return end or limit
