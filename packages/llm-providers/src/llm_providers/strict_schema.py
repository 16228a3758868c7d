"""Making a JSON Schema fit for strict decoding.

OpenAI's and Anthropic's strict modes want every object closed (``additionalProperties: false``);
OpenAI's wants every property required, too, and no ``$ref`` with anything beside it
(OpenAI's guide «Structured model outputs», section «Supported schemas»).
By what users of other libraries report it refuses ``oneOf``, which pydantic writes for unions with a discriminator, and
``uniqueItems`` («… is not permitted»), and arrays without ``items`` («array schema missing items»), such as tuples, whose
``prefixItems`` it passes over (openai-agents-python 1884, pydantic-ai 7333).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from llm_core import freeze, thaw

__all__ = ["close_schema", "closed", "closed_if_closable", "is_closable"]

_MAPS_OF_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS_OF_SCHEMAS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SCHEMAS = ("items", "not", "additionalProperties")


def closed(schema: Mapping[str, Any], *, require_all: bool) -> dict[str, Any]:
    """Do as `close_schema` for a frozen schema, of a tool or a response, and remember what came of it."""
    made: dict[str, Any] = thaw(_closed(_Same(schema), require_all))
    return made


def closed_if_closable(schema: Mapping[str, Any], *, require_all: bool) -> dict[str, Any] | None:
    """Do as `closed`, or return None if the schema leaves objects open on purpose."""
    return closed(schema, require_all=require_all) if _is_closable(_Same(schema)) else None


class _Same:
    """A frozen schema as a key that equals itself alone: as values, schemas are slow to hash, and 1 is equal to True."""

    __slots__ = ("schema",)

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.schema is other.schema

    def __hash__(self) -> int:
        return id(self.schema)


@lru_cache(maxsize=128)
def _closed(key: _Same, require_all: bool) -> Mapping[str, Any]:
    made: Mapping[str, Any] = freeze(close_schema(key.schema, require_all=require_all))
    return made


@lru_cache(maxsize=128)
def _is_closable(key: _Same) -> bool:
    return is_closable(key.schema)


def is_closable(schema: Mapping[str, Any]) -> bool:
    """Whether strict decoding takes `schema` with every object closed, and nothing is forbidden that it allows on purpose."""
    if any(_is_open_object(part) or _is_open_array(part) for part in _walk(schema)):
        return False
    return schema.get("type") == "object" or "$ref" in schema


def close_schema(schema: Mapping[str, Any], *, require_all: bool) -> dict[str, Any]:
    """Return a copy of `schema` with every object closed and, with `require_all`, every property required.

    A value that satisfies the result satisfies `schema`, except that items may be there twice where they should be unique.
    """
    closed: dict[str, Any] = thaw(schema)
    for part in list(_walk(closed)):
        if part.get("default", ...) is None:
            del part["default"]
        if part.get("type") == "object" or "properties" in part:
            part["additionalProperties"] = False
            if require_all:
                part["required"] = list(part.get("properties", {}))
        if "discriminator" in part and "oneOf" in part:
            # The value of the discriminator fits one option alone, so that any of them says the same.
            del part["discriminator"]
            part["anyOf"] = part.pop("oneOf")
        part.pop("uniqueItems", None)
        reference = part.get("$ref")
        if isinstance(reference, str) and len(part) > 1:
            _inline(part, closed, reference)
    return closed


def _inline(part: dict[str, Any], root: dict[str, Any], reference: str) -> None:
    """Replace a ``$ref`` that has siblings by what it refers to, the siblings winning."""
    target: Any = root
    for step in reference.removeprefix("#/").split("/"):
        target = target.get(step) if isinstance(target, dict) else None
    if isinstance(target, dict) and target is not part:
        siblings = {key: value for key, value in part.items() if key != "$ref"}
        part.clear()
        part.update({**thaw(target), **siblings})


def _is_open_object(part: Mapping[str, Any]) -> bool:
    extra = part.get("additionalProperties", False)
    if extra is not False or "patternProperties" in part:
        return True
    return part.get("type") == "object" and not part.get("properties")


def _is_open_array(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "array" and not part.get("items")


def _walk(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return
    yield schema
    for key in _MAPS_OF_SCHEMAS:
        inner = schema.get(key)
        if isinstance(inner, Mapping):
            for item in inner.values():
                yield from _walk(item)
    for key in _LISTS_OF_SCHEMAS:
        inner = schema.get(key)
        if isinstance(inner, (list, tuple)):
            for item in inner:
                yield from _walk(item)
    for key in _SCHEMAS:
        yield from _walk(schema.get(key))
