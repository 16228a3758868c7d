"""Hold a repaired value against the text it is said to come from.

A repairer may close brackets and drop what it does not understand, but it must not invent: every key and every
string of its value must stand in the text, every number as a number of the text with the same value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["NotPlain", "plain", "unfounded"]

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.])")
_NOISE = re.compile(r"[\s\\\"'`“”‘’]+")
_WORDS: dict[Any, tuple[str, ...]] = {
    True: ("true",),
    False: ("false",),
    None: ("null", "none", "nil", "undefined"),
}


class NotPlain(ValueError):
    """A value holds what JSON has no form for."""


def plain(value: Any) -> Any:
    """Return `value` with tuples as lists and keys as text.

    Raises NotPlain for sets, bytes, complex numbers, `...` and other objects. The value must not be nested
    deeper than the interpreter can recurse.
    """
    if isinstance(value, dict):
        texts = {_key(key): plain(item) for key, item in value.items()}
        if len(texts) != len(value):
            raise NotPlain("keys that become equal as text")
        return texts
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise NotPlain(f"a {type(value).__name__}")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (bool, int, float)):
        return {"None": "null", "True": "true", "False": "false"}.get(str(key), str(key))
    raise NotPlain(f"a key of type {type(key).__name__}")


def unfounded(value: Any, text: str) -> str | None:
    """Return the first piece of `value` that does not stand in `text`, as its repr; None if all do."""
    numbers = {float(match) for match in _NUMBER.findall(text)}
    squeezed = _NOISE.sub("", text)
    lowered = text.lower()
    for leaf in _leaves(value):
        if isinstance(leaf, str):
            founded = (
                leaf in text
                or _NOISE.sub("", leaf) in squeezed
                or _NOISE.sub("", json.dumps(leaf)[1:-1]) in squeezed
            )
        elif leaf is None or isinstance(leaf, bool):
            founded = any(word in lowered for word in _WORDS[leaf])
        else:
            founded = _number_in(leaf, numbers, text)
        if not founded:
            return repr(leaf)[:80]
    return None


def _number_in(leaf: float, numbers: set[float], text: str) -> bool:
    try:
        return float(leaf) in numbers
    except OverflowError:
        return str(leaf) in text


def _leaves(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.keys()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        else:
            yield item
