"""Making a JSON Schema fit for strict decoding.

OpenAI's and Anthropic's strict modes want every object closed (``additionalProperties: false``);
OpenAI's wants every property required, too, and no ``$ref`` with anything beside it
(OpenAI's guide «Structured model outputs», section «Supported schemas»).
By what users of other libraries report it refuses ``oneOf``, which pydantic writes for unions with a discriminator, and
``uniqueItems`` («… is not permitted»), and arrays without ``items`` («array schema missing items»), such as tuples, whose
``prefixItems`` it passes over (openai-agents-python 1884, pydantic-ai 7333), and values of any type («schema must have a
'type' key», SocialGouv/iterion 250).
Nothing of the kind is known of Anthropic's, so that its schemas stay strict where only these rules are broken:
`require_all` stands for OpenAI's rules throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from llm_core import freeze, thaw

__all__ = ["close_schema", "closed", "closed_if_closable", "is_closable"]

_MAPS_OF_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS_OF_SCHEMAS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SCHEMAS = ("items", "not", "additionalProperties")
_SAYING_WHAT = {"type", "$ref", "anyOf", "enum", "const"}


def closed(schema: Mapping[str, Any], *, require_all: bool) -> dict[str, Any]:
    """Do as `close_schema` for a frozen schema, of a tool or a response, and remember what came of it."""
    made: dict[str, Any] = thaw(_closed(_Same(schema), require_all))
    return made


def closed_if_closable(schema: Mapping[str, Any], *, require_all: bool) -> dict[str, Any] | None:
    """Do as `closed`, or return None if the schema cannot be strict."""
    fits = _is_closable(_Same(schema), require_all)
    return closed(schema, require_all=require_all) if fits else None


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
def _is_closable(key: _Same, require_all: bool) -> bool:
    return is_closable(key.schema, require_all=require_all)


def is_closable(schema: Mapping[str, Any], *, require_all: bool) -> bool:
    """Whether strict decoding takes `schema` with every object closed, and nothing is forbidden that it allows on purpose."""
    for part in _walk(schema):
        if _is_open_object(part) or (require_all and _is_unknown_to_openai(part)):
            return False
    return schema.get("type") == "object" or "$ref" in schema


def close_schema(schema: Mapping[str, Any], *, require_all: bool) -> dict[str, Any]:
    """Return a copy of `schema` with every object closed and, with `require_all`, every property required.

    A value that satisfies the result satisfies `schema`, except that items may be there twice where they should be unique.
    """
    closed: dict[str, Any] = thaw(schema)
    for part in _walk(closed):
        if part.get("default", ...) is None:
            del part["default"]
        if _may_be(part, "object") or "properties" in part:
            part["additionalProperties"] = False
            if require_all:
                part["required"] = list(part.get("properties", {}))
        if _has_discriminator(part):
            # The value of the discriminator fits one option alone, so that any of them says the same.
            del part["discriminator"]
            part["anyOf"] = part.pop("oneOf")
        part.pop("uniqueItems", None)
    # Definitions are copied once all of them are closed.
    _write_out(closed, closed, ())
    return closed


def _write_out(part: dict[str, Any], root: dict[str, Any], within: tuple[str, ...]) -> None:
    """Replace every ``$ref`` that has siblings by what it refers to, the siblings winning.

    Within what `within` refers to, where copies would never end, the reference is kept as the one option of an ``anyOf``.
    """
    while isinstance(reference := part.get("$ref"), str) and len(part) > 1:
        target: Any = root
        for step in reference.removeprefix("#/").split("/"):
            target = target.get(step) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            break
        siblings = {key: value for key, value in part.items() if key != "$ref"}
        if reference in within:
            written = {"anyOf": [{"$ref": reference}], **siblings}
        else:
            within = (*within, reference)
            _write_out(target, root, within)
            # The part may stand in the target, so that it is copied before the part is cleared.
            written = {**thaw(target), **siblings}
        part.clear()
        part.update(written)
    for inner in _parts(part):
        _write_out(inner, root, within)


def _has_discriminator(part: Mapping[str, Any]) -> bool:
    return "discriminator" in part and "oneOf" in part and "anyOf" not in part


def _is_open_object(part: Mapping[str, Any]) -> bool:
    extra = part.get("additionalProperties", False)
    if extra is not False or "patternProperties" in part:
        return True
    return _may_be(part, "object") and not part.get("properties")


def _is_unknown_to_openai(part: Mapping[str, Any]) -> bool:
    if _may_be(part, "array") and (
        not isinstance(part.get("items"), Mapping) or "prefixItems" in part
    ):
        return True
    if "oneOf" in part:
        return not _has_discriminator(part)
    return part.keys().isdisjoint(_SAYING_WHAT)


def _may_be(part: Mapping[str, Any], name: str) -> bool:
    kinds = part.get("type")
    return kinds == name or (isinstance(kinds, (list, tuple)) and name in kinds)


def _walk(schema: Any) -> Iterator[Any]:
    """Yield a schema and all within; one that is changed meanwhile is walked as it is then."""
    yield schema
    for inner in _parts(schema):
        yield from _walk(inner)


def _parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schemas that stand directly in `schema`; ``true``, which allows anything, as the empty one."""
    inner: list[Any] = [schema.get(key) for key in _SCHEMAS]
    for key in _MAPS_OF_SCHEMAS:
        named = schema.get(key)
        inner += named.values() if isinstance(named, Mapping) else ()
    for key in _LISTS_OF_SCHEMAS:
        listed = schema.get(key)
        inner += listed if isinstance(listed, (list, tuple)) else ()
    for part in inner:
        if isinstance(part, Mapping) or part is True:
            yield {} if part is True else part
