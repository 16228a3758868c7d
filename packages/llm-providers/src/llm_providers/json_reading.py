"""Reading JSON that a server sent and that may be anything: wrong types read as if they were missing."""

from __future__ import annotations

import json
from typing import Any

__all__ = [
    "MalformedBody",
    "dict_at",
    "dicts_at",
    "int_at",
    "number_at",
    "parse_json",
    "parse_object",
    "shown",
    "text_at",
]

_MAX_INTEGER = 2**63
"""Counts above this are nonsense, and floats like 1e308 would become integers of 309 digits."""


class MalformedBody(ValueError):
    """The bytes are not the JSON that was expected."""


def parse_json(content: bytes | str) -> Any:
    """Return the JSON value of `content`; raises MalformedBody for anything else, however deep or odd."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"not JSON ({error}): {shown(content)}") from None


def parse_object(content: bytes | str) -> dict[str, Any]:
    """Return the JSON object of `content`; raises MalformedBody for anything else."""
    value = parse_json(content)
    if not isinstance(value, dict):
        raise MalformedBody(f"JSON, but not an object: {shown(content)}")
    return value


def shown(content: bytes | str) -> str:
    """Return the beginning of `content` for an error message, at most 120 characters."""
    text = content[:240].decode("utf-8", "replace") if isinstance(content, bytes) else content
    text = " ".join(text[:240].split())
    return repr(text if len(text) <= 120 else text[:117] + "...")


def text_at(value: Any, *path: str | int) -> str:
    """Return the string under `path`, or an empty one."""
    found = _at(value, path)
    return found if isinstance(found, str) else ""


def int_at(value: Any, *path: str | int) -> int:
    """Return the count under `path`, zero or more; 0 for anything that is no such number."""
    found = _at(value, path)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return 0
    return int(found) if 0 <= found < _MAX_INTEGER else 0


def number_at(value: Any, *path: str | int) -> float | None:
    """Return the finite number under `path`, zero or more; None for anything else."""
    found = _at(value, path)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return float(found) if 0 <= found < _MAX_INTEGER else None


def dict_at(value: Any, *path: str | int) -> dict[str, Any]:
    """Return the object under `path`, or an empty one."""
    found = _at(value, path)
    return found if isinstance(found, dict) else {}


def dicts_at(value: Any, *path: str | int) -> list[dict[str, Any]]:
    """Return the objects in the list under `path`; whatever else is in it is passed over."""
    found = _at(value, path)
    if not isinstance(found, list):
        return []
    return [item for item in found if isinstance(item, dict)]


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value
