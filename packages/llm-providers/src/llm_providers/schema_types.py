"""Python types as response schemas."""

from __future__ import annotations

import re
from typing import Any

from llm_core import InvalidValue, MissingDependencyError, ResponseSchema

__all__ = ["schema_of"]

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")


def schema_of(
    kind: Any, *, name: str | None = None, description: str | None = None, strict: bool = True
) -> ResponseSchema:
    """Return the schema of answers of type `kind`: a pydantic model, dataclass, TypedDict, or any type that pydantic knows.

    Before Python 3.12 pydantic wants the TypedDict of typing_extensions.

    A type that is no object (``list[int]``, an enum) is wrapped in an object with the one property ``value``, as vendors
    take objects only.
    `name` is the type's own unless given.
    Raises InvalidValue for a type without JSON Schema, MissingDependencyError without pydantic.
    """
    try:
        from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
    except ImportError as error:
        raise MissingDependencyError(
            "schema_of needs the package pydantic: install the extra llm-providers[schema]"
        ) from error
    try:
        schema = TypeAdapter(kind).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidValue(
            f"schema_of: got {kind!r}, expected a type with a JSON Schema ({reason})"
        ) from None
    if schema.get("type") != "object" and "$ref" not in schema:
        schema = _wrapped(schema)
    own_name = getattr(kind, "__name__", None) or "answer"
    chosen = name or _NOT_IN_NAMES.sub("_", own_name)[:64]
    return ResponseSchema(
        name=chosen,
        json_schema=schema,
        description=description or _first_line(schema.get("description")),
        strict=strict,
    )


def _wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = schema.pop("$defs", None)
    wrapped: dict[str, Any] = {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
    }
    if definitions:
        wrapped["$defs"] = definitions
    return wrapped


def _first_line(text: object) -> str | None:
    return text.strip().splitlines()[0] if isinstance(text, str) and text.strip() else None
