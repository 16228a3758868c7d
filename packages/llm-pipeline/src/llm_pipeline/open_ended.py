"""JSON that stops before its end: what can be said of it already."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Any

from llm_pipeline.grammar import CUT_ESCAPE

__all__ = ["Closed", "broke_off", "close"]

# The rest of a text behind the place where a strict reader gave up, if all that is wrong is that the text ends.
_BEGUN = re.compile(
    r"\s*(?:[-+.\deE]*|t(?:r(?:ue?)?)?|f(?:a(?:l(?:se?)?)?)?|n(?:u(?:ll?)?)?"
    r'|"(?:[^"\\]|\\.)*+\\?|\\(?:u[0-9a-fA-F]{0,3})?'
    r"|(?<=\\)u[0-9a-fA-F]{0,3}|(?<=\\u)[0-9a-fA-F]{0,3})\Z",
    re.DOTALL,
)
_LAST_WORD = re.compile(r"[-+.\w]*\Z")
_CUT_WORD = re.compile(r"(?:-|\+|t|tr|tru|f|fa|fal|fals|n|nu|nul|[-\d.]+[eE][-+]?|[-\d]*\.)\Z")
# What jiter and the strict reader would read differently is left to the relaxed reader.
_UNUSUAL = re.compile(r"NaN|Infinity|\d[eE]\+?(?:[3-9]\d\d|\d{4})|\d{4000}")


@dataclass(frozen=True, slots=True)
class Closed:
    """The value of a text that broke off."""

    value: Any
    guesses: tuple[str, ...]
    """What besides closing the open brackets had to be done."""
    in_text: bool
    """Whether the text broke off inside a string."""


def broke_off(text: str, failed_at: int) -> bool:
    """Tell whether a strict reader that gave up at `failed_at` lacked nothing but the rest of the text."""
    return _BEGUN.match(text, failed_at) is not None


def close(text: str, *, dropping_cut: bool) -> Closed | None:
    """Return the value of a JSON text that broke off; None if it is no such thing.

    `dropping_cut` leaves out a number at the very end, as its last digits may be missing; half a word (``tru``)
    is left out in any case, text is kept as far as it came.
    """
    import jiter

    if _UNUSUAL.search(text):
        return None
    in_text = _ends_in_text(text)
    guesses = ["text that was cut off"] if in_text else []
    kept = text
    if in_text:
        kept = CUT_ESCAPE.sub(r"\1", text)
    else:
        word = _LAST_WORD.search(text)
        last = word.group() if word else ""
        suspect = bool(last) and (dropping_cut or _CUT_WORD.search(last) is not None)
        if suspect and last not in ("true", "false", "null"):
            kept = text[: len(text) - len(last)]
            guesses.append("dropped the value that was cut off")
    try:
        data = kept.encode()
    except UnicodeEncodeError:
        return None
    try:
        value = jiter.from_json(data, partial_mode="trailing-strings", catch_duplicate_keys=True)
    except ValueError:
        try:
            value = jiter.from_json(data, partial_mode="trailing-strings")
        except ValueError:
            return None
        guesses.append("duplicate key")
    return Closed(value, tuple(guesses), in_text)


_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def _ends_in_text(text: str) -> bool:
    """Tell whether the last string of a JSON text is still open."""
    strings = deque(_STRING.finditer(text), maxlen=1)
    if not strings or strings[0].end() < len(text):
        return False
    return not _CLOSED_STRING.fullmatch(strings[0].group())


_CLOSED_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
