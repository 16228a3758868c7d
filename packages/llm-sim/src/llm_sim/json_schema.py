"""Examples of a JSON schema: one value that satisfies it, the same every time.

Covers what the vendors accept for structured outputs and tools: types, `enum`, `const`,
`properties`/`required`, `items`/`prefixItems`, local `$ref`, `anyOf`/`oneOf`/`allOf`, `format`,
and the bounds of numbers, lengths and counts. `pattern` is met for simple patterns only, `not`
and `if` are not looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 12

_FORMATS = {
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


_MOST_VALUES = 10_000
"""How many values an example may hold; what a schema asks for beyond is left out."""
_LONGEST_STRING = 100_000

_MALFORMED = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class InvalidSchema(ValueError):
    """What was given is no JSON schema."""


def example(schema: Mapping[str, Any] | bool, *, text: str = "example") -> Any:
    """Make a value that satisfies the schema; free strings are filled with `text`.

    Raises InvalidSchema for what is malformed.
    """
    root = schema if isinstance(schema, Mapping) else {}
    try:
        return _Maker(root, text).make(schema, "", 0)
    except (*_MALFORMED, re.error) as error:  # whatever a keyword with a wrong value leads to
        raise InvalidSchema(f"{type(error).__name__}: {error}") from error


class _Maker:
    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text = text
        self._left = _MOST_VALUES

    def make(self, schema: Mapping[str, Any] | bool, name: str, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, Mapping):
            return self._text
        schema = self._flat(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if "default" in schema and depth:
            return schema["default"]
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.make(self._shallowest(schema, key, depth), name, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = "null" if depth >= _MAX_DEPTH and "null" in kind else kind[0]
        if kind is None:
            kind = _implied_type(schema)
        make = getattr(self, f"_{kind}", None)
        return make(schema, name, depth) if make else None

    def _flat(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """Follow `$ref` and merge `allOf` into one mapping."""
        for _ in range(_MAX_DEPTH):
            if "$ref" not in schema:
                break
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**self._resolve(str(schema["$ref"])), **rest}
        if not schema.get("allOf"):
            return schema
        merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            for key, value in self._flat(part, depth).items():
                if key == "properties":
                    merged[key] = {**merged.get(key, {}), **value}
                elif key == "required":
                    merged[key] = [*merged.get(key, []), *value]
                else:
                    merged.setdefault(key, value)
        return merged

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        for part in reference.lstrip("#").strip("/").split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            if part:
                found = found.get(part, {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def _shallowest(self, schema: Mapping[str, Any], key: str, depth: int) -> Mapping[str, Any]:
        """Take the first branch, but one that cannot recur once the value is deep."""
        rest = {
            k: v for k, v in schema.items() if k not in ("anyOf", "oneOf", "title", "description")
        }
        branches = [{**rest, **self._flat(branch, depth)} for branch in schema[key]]
        if depth >= _MAX_DEPTH // 2:
            branches.sort(key=lambda branch: branch.get("type") in ("object", "array", None))
        return branches[0]

    def _null(self, schema: Mapping[str, Any], name: str, depth: int) -> None:
        return None

    def _boolean(self, schema: Mapping[str, Any], name: str, depth: int) -> bool:
        return True

    def _object(self, schema: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = list(schema.get("required") or ())
        names = required if depth >= _MAX_DEPTH // 2 else [*properties, *required]
        made = {
            key: self.make(properties.get(key, True), key, depth + 1)
            for key in dict.fromkeys(names)
        }
        free = schema.get("additionalProperties", True)
        missing = int(schema.get("minProperties", 0)) - len(made)
        for index in range(min(missing, max(self._left, 0))):
            made[f"key{index}"] = self.make(free, name, depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        least = int(schema.get("minItems", 0 if depth >= _MAX_DEPTH // 2 else 1))
        size = min(max(least, 0), int(schema.get("maxItems", max(least, 1))))
        prefix = schema.get("prefixItems") or []
        size = min(max(size, int(schema.get("minItems", 0))), max(self._left, 0))
        items = schema.get("items", True)
        made = [
            self.make(prefix[i] if i < len(prefix) else items, name, depth + 1) for i in range(size)
        ]
        if schema.get("uniqueItems"):
            choices = items.get("enum") if isinstance(items, Mapping) else None
            made = [_vary(value, i, choices) for i, value in enumerate(made)]
        return made

    def _string(self, schema: Mapping[str, Any], name: str, depth: int) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        if "pattern" in schema:
            return _matching(schema["pattern"], self._text)
        text = self._text if depth == 0 or not name else f"{name} {self._text}"
        text = text.ljust(min(int(schema.get("minLength", 0)), _LONGEST_STRING), ".")
        return text[: int(schema["maxLength"])] if "maxLength" in schema else text

    def _integer(self, schema: Mapping[str, Any], name: str, depth: int) -> int:
        step = schema.get("multipleOf", 1)
        low = _ceiling(schema.get("minimum"), schema.get("exclusiveMinimum"))
        high = -_ceiling(
            _negative(schema.get("maximum")), _negative(schema.get("exclusiveMaximum"))
        )
        value = math.ceil(min(max(1.0, low), high) / step) * step
        return int(value if value <= high else math.floor(high / step) * step)

    def _number(self, schema: Mapping[str, Any], name: str, depth: int) -> float:
        low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
        high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
        value = min(max(1.5, low), high)
        if value in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")):
            value = (max(low, high - 2) + min(high, low + 2)) / 2
        if step := schema.get("multipleOf"):
            multiple = math.ceil(value / step) * step
            value = multiple if multiple <= high else math.floor(high / step) * step
        return float(value)


def _implied_type(schema: Mapping[str, Any]) -> str:
    if "properties" in schema or "required" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema:
        return "number"
    return "string"


def _ceiling(least: float | None, above: float | None) -> float:
    """Return the smallest whole number that is at least `least` and greater than `above`."""
    return max(
        -math.inf if least is None else math.ceil(least),
        -math.inf if above is None else math.floor(above) + 1,
    )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _vary(value: Any, index: int, choices: list[Any] | None) -> Any:
    if choices:
        return choices[index % len(choices)]
    if isinstance(value, str):
        return f"{value}{index}" if index else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value + index
    return value


_CLASSES = {"d": "1", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}


def _matching(pattern: str, text: str) -> str:
    """Make a string for a simple pattern: literals, classes, groups' first branch, counts."""
    if re.search(pattern, text):
        return text
    made, _ = _expand(pattern.removeprefix("^").removesuffix("$"), 0)
    return made


def _expand(pattern: str, start: int) -> tuple[str, int]:
    made = ""
    i = start
    skipping = False
    while i < len(pattern) and pattern[i] != ")":
        char = pattern[i]
        i += 1
        if char == "|":
            skipping = True
            continue
        if char == "(":
            i = i + 2 if pattern.startswith("?:", i) else i
            atom, i = _expand(pattern, i)
            i += 1
        elif char == "[":
            end = pattern.index("]", i + 1)
            atom, i = _class_member(pattern[i:end]), end + 1
        elif char == "\\":
            atom, i = _CLASSES.get(pattern[i], pattern[i]), i + 1
        else:
            atom = "a" if char == "." else char
        times, i = _times(pattern, i)
        made += "" if skipping else atom * times
    return made, i


def _class_member(body: str) -> str:
    if body.startswith("^"):
        return next(c for c in "a1 -_" if not re.match(f"[{body[1:]}]", c))
    if body.startswith("\\"):
        return _CLASSES.get(body[1], body[1])
    return body[0]


def _times(pattern: str, i: int) -> tuple[int, int]:
    if i < len(pattern) and pattern[i] in "?*+":
        return (1 if pattern[i] == "+" else 0), i + 1
    if counted := re.compile(r"\{(\d+)(?:,\d*)?\}").match(pattern, i):
        return min(int(counted[1]), _LONGEST_STRING), counted.end()
    return 1, i
