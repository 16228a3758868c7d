"""Words and strings of relaxed JSON: what a bare word means, and what follows a backslash."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

__all__ = ["bare_value", "unescape"]

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_LOOSE_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_RADIX = re.compile(r"([+-]?)0([xX][\da-fA-F]+|[oO][0-7]+|[bB][01]+)")
_LEADING_ZERO = re.compile(r"[+-]?0\d")
_PHONE = re.compile(r"\+\d{7,15}")
_WORDS: dict[str, tuple[Any, str]] = {
    "true": (True, ""),
    "false": (False, ""),
    "null": (None, ""),
    "True": (True, "Python word"),
    "False": (False, "Python word"),
    "None": (None, "Python word"),
    "TRUE": (True, "word in capitals"),
    "FALSE": (False, "word in capitals"),
    "NULL": (None, "word in capitals"),
    "Null": (None, "word in capitals"),
    "nil": (None, "word of another language"),
    "undefined": (None, "word of another language"),
}
_NOT_FINITE: dict[str, float] = {
    "nan": math.nan,
    "inf": math.inf,
    "infinity": math.inf,
    "+inf": math.inf,
    "+infinity": math.inf,
    "-inf": -math.inf,
    "-infinity": -math.inf,
}
# The most digits that int() takes by default (sys.set_int_max_str_digits); longer ones stay text.
_MOST_DIGITS = 4300

_SIMPLE = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
_BORROWED = {"'": "'", "`": "`", "0": "\0", "v": "\v", "\n": "", "“": "“", "”": "”", "’": "’"}
_ESCAPE = re.compile(
    r"\\(?:u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|(\r\n|.))",
    re.DOTALL,
)
_SURROGATES = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")


def bare_value(word: str) -> tuple[Any, str]:
    """Return the value of a word without quotes and the name of the edit, empty if the word is plain JSON.

    Whatever is no number or constant keeps its characters as text: ``02139`` must not become 2139,
    nor ``+41311234567`` lose its sign.
    """
    if word in _WORDS:
        return _WORDS[word]
    if word.lower() in _NOT_FINITE:
        return _NOT_FINITE[word.lower()], "number that is not finite"
    match = _JSON_NUMBER.fullmatch(word)
    if match is not None:
        return _number(word, whole=not (match.group(1) or match.group(2)), edit="")
    radix = _RADIX.fullmatch(word)
    if radix is not None:
        return int(word, 0), "number in another radix"
    if _PHONE.fullmatch(word):
        return word, "bare text"
    if _LOOSE_NUMBER.fullmatch(word) and not _LEADING_ZERO.match(word) and not word.endswith("_"):
        digits = word.replace("_", "")
        whole = digits.lstrip("+-").isdigit()
        return _number(digits, whole=whole, edit="number in another notation", text=word)
    return word, "bare text"


def _number(digits: str, *, whole: bool, edit: str, text: str = "") -> tuple[Any, str]:
    if whole:
        if len(digits) > _MOST_DIGITS:
            return text or digits, "number kept as text"
        return int(digits), edit
    value = float(digits)
    if math.isinf(value):
        return text or digits, "number kept as text"
    return value, edit


def unescape(body: str, deviates: Callable[[str, bool], None]) -> str:
    """Resolve the backslashes in a string's body.

    `deviates` is told the name of each edit and whether it is a guess.
    A backslash before a character that it does not belong to stays, as in regular expressions and Windows paths.
    """

    def resolve(match: re.Match[str]) -> str:
        braced, short, byte, long, char = match.groups()
        if short is not None:
            return chr(int(short, 16))
        if char is None:
            deviates("escape of another language", False)
            code = int(braced or byte or long, 16)
            if code > 0x10FFFF:
                deviates("unknown escape kept", True)
                return match.group()
            return chr(code)
        if char in _SIMPLE:
            return _SIMPLE[char]
        if char in _BORROWED or char == "\r\n":
            deviates("escape of another language", False)
            return _BORROWED.get(char, "")
        deviates("unknown escape kept", True)
        return match.group()

    text = _ESCAPE.sub(resolve, body)
    if max(text, default="") >= "\ud800":
        return _SURROGATES.sub(_join_surrogates, text)
    return text


def _join_surrogates(match: re.Match[str]) -> str:
    return match.group().encode("utf-16", "surrogatepass").decode("utf-16")
