"""Reading request bodies: one field at a time, refused in the vendor's words when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from llm_sim.errors import Refusal
from llm_sim.exchange import Json


class Wording(Protocol):
    """How a vendor words that a field is wrong."""

    def unknown(self, name: str) -> Refusal:
        """Refuse a field that the vendor does not know."""
        ...

    def missing(self, name: str) -> Refusal:
        """Refuse a request without a field that must be there."""
        ...

    def wrong_type(self, name: str, value: object, expected: str) -> Refusal:
        """Refuse a value that is not `expected`: an article and a JSON type."""
        ...

    def below(self, name: str, value: float, least: float) -> Refusal:
        """Refuse a number that is too small; `least` is allowed."""
        ...

    def above(self, name: str, value: float, most: float) -> Refusal:
        """Refuse a number that is too large; `most` is allowed."""
        ...


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_JSON_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


def dump(value: object) -> bytes:
    """Write compact JSON in UTF-8; lone surrogates become question marks."""
    return _encode(value).encode("utf-8", "replace")


def quote(text: str) -> str:
    """Write a JSON string."""
    return _encode(text)


def read_object(text: str) -> Json:
    """Read the arguments of a tool call; {} for what is no JSON object, as a script may hold."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def json_type(value: object) -> str:
    """Name a value's JSON type."""
    for kind, name in _JSON_TYPES.items():
        if isinstance(value, kind):
            return name
    return "integer" if isinstance(value, int) else "decimal"


class Fields:
    """The fields of one request body."""

    __slots__ = ("body", "wording")

    def __init__(self, body: Json, wording: Wording) -> None:
        self.body = body
        self.wording = wording

    def known(self, names: Iterable[str]) -> None:
        """Refuse any field that is not among `names`."""
        unknown = self.body.keys() - names
        if unknown:
            raise self.wording.unknown(min(unknown))

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.body.get(name)
        if value is None:
            raise self.wording.missing(name)
        if not isinstance(value, str):
            raise self.wording.wrong_type(name, value, "a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None if it is left out or null."""
        return None if self.body.get(name) is None else self.text(name)

    def items(self, name: str) -> list[Any]:
        """Return a list, empty if it is left out or null."""
        value = self.body.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wording.wrong_type(name, value, "an array")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return an object, empty if it is left out or null."""
        value = self.body.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wording.wrong_type(name, value, "an object")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean."""
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wording.wrong_type(name, value, "a boolean")
        return value

    def count(self, name: str, *, least: int = 1, most: int | None = None) -> int | None:
        """Return a whole number from `least` to `most`, or None if it is left out or null."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wording.wrong_type(name, value, "an integer")
        if value < least:
            raise self.wording.below(name, value, least)
        if most is not None and value > most:
            raise self.wording.above(name, value, most)
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number from `low` to `high`, both inclusive, or None."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wording.wrong_type(name, value, "a decimal")
        if value < low:
            raise self.wording.below(name, value, low)
        if value > high:
            raise self.wording.above(name, value, high)
        return float(value)

    def words(self, name: str) -> tuple[str, ...]:
        """Return a text or a list of texts as a tuple."""
        value = self.body.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.wording.wrong_type(name, value, "a string or an array of strings")
        return tuple(value)
