"""Reading request bodies: one field at a time, refused in the vendor's words when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llm_sim.errors import Refusal
from llm_sim.exchange import Json

Refuse = Callable[[str, str, str], Refusal]
"""Makes a vendor's refusal of a bad request from message, parameter and kind; kinds are
`missing`, `type`, `value`, `unknown`."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_JSON_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


def dump(value: object) -> bytes:
    """Write compact JSON in UTF-8; lone surrogates become question marks."""
    return _encode(value).encode("utf-8", "replace")


def quote(text: str) -> str:
    """Write a JSON string."""
    return _encode(text)


def json_type(value: object) -> str:
    """Name a value's JSON type."""
    for kind, name in _JSON_TYPES.items():
        if isinstance(value, kind):
            return name
    return "integer" if isinstance(value, int) else "decimal"


class Fields:
    """The fields of one request body."""

    __slots__ = ("body", "refuse")

    def __init__(self, body: Json, refuse: Refuse) -> None:
        self.body = body
        self.refuse = refuse

    def known(self, names: Iterable[str]) -> None:
        """Refuse any field that is not among `names`."""
        unknown = self.body.keys() - names
        if unknown:
            name = min(unknown)
            raise self.refuse(f"Unknown parameter: '{name}'.", name, "unknown")

    def text(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.body.get(name)
        if value is None:
            raise self.missing(name)
        if not isinstance(value, str):
            raise self._type(name, value, "a string")
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
            raise self._type(name, value, "an array")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return an object, empty if it is left out or null."""
        value = self.body.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._type(name, value, "an object")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean."""
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._type(name, value, "a boolean")
        return value

    def count(self, name: str, *, least: int = 1) -> int | None:
        """Return a whole number of at least `least`, or None if it is left out or null."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._type(name, value, "an integer")
        if value < least:
            raise self.refuse(
                f"Invalid '{name}': integer below minimum value. "
                f"Expected a value >= {least}, but got {value} instead.",
                name,
                "value",
            )
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number from `low` to `high`, both inclusive, or None."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._type(name, value, "a decimal")
        if not low <= value <= high:
            side, edge = (
                ("below minimum", f">= {low:g}")
                if value < low
                else ("above maximum", f"<= {high:g}")
            )
            raise self.refuse(
                f"Invalid '{name}': decimal {side} value. "
                f"Expected a value {edge}, but got {value} instead.",
                name,
                "value",
            )
        return float(value)

    def words(self, name: str) -> tuple[str, ...]:
        """Return a text or a list of texts as a tuple."""
        value = self.body.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self._type(name, value, "a string or an array of strings")
        return tuple(value)

    def missing(self, name: str) -> Refusal:
        """Make the refusal for a field that is left out."""
        return self.refuse(f"Missing required parameter: '{name}'.", name, "missing")

    def _type(self, name: str, value: object, expected: str) -> Refusal:
        article = "an" if json_type(value)[0] in "aio" else "a"
        return self.refuse(
            f"Invalid type for '{name}': expected {expected}, "
            f"but got {article} {json_type(value)} instead.",
            name,
            "type",
        )
