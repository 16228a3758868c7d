"""Answers of a given type: its JSON Schema for the model, and the steps that make the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llm_core import InvalidValue, ResponseSchema
from llm_service.type_key import TypeKey

if TYPE_CHECKING:
    from llm_pipeline import Step

__all__ = ["structured_fields"]

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")


def structured_fields(schema: Any) -> dict[str, Any]:
    """Return the fields of a request for an answer of `schema`: `response_schema` and `pipeline`.

    `schema` is a pydantic model, dataclass, TypedDict or other type whose JSON form is an object; a `ResponseSchema`;
    or a JSON Schema as a mapping. Raises InvalidValue for anything else.
    """
    if isinstance(schema, Mapping):
        schema = ResponseSchema(name=_name_of(schema.get("title") or "answer"), json_schema=schema)
    if isinstance(schema, ResponseSchema):
        from llm_pipeline import ConvertToDict, JsonSchemaValidation

        check = JsonSchemaValidation(schema=schema.json_schema)
        return {"response_schema": schema, "pipeline": [ConvertToDict(), check]}
    if isinstance(schema, type) and type(schema).__hash__ is type.__hash__:
        # A pydantic model that is rebuilt gets another validator, and may have another schema.
        response_schema, steps = _of_class(schema, getattr(schema, "__pydantic_validator__", None))
    elif (key := TypeKey.of(schema)) is not None:
        response_schema, steps = _of_key(key)
    else:
        response_schema, steps = _of_type(schema)
    return {"response_schema": response_schema, "pipeline": [*steps]}


@lru_cache(maxsize=64)
def _of_class(kind: type, _validator: object) -> tuple[ResponseSchema, tuple[Step[Any, Any], ...]]:
    # Bounded, because it keeps the class alive: what makes classes in a loop must not pile them up.
    return _of_type(kind)


@lru_cache(maxsize=64)
def _of_key(key: TypeKey) -> tuple[ResponseSchema, tuple[Step[Any, Any], ...]]:
    return _of_type(key.kind)


def _of_type(kind: Any) -> tuple[ResponseSchema, tuple[Step[Any, Any], ...]]:
    from llm_pipeline import ConvertToDict, ModelValidation

    json_schema = _json_schema_of(kind)
    name = _name_of(getattr(kind, "__name__", "answer"))
    return (
        ResponseSchema(name=name, json_schema=json_schema),
        (ConvertToDict(schema=json_schema), ModelValidation(kind)),
    )


def _json_schema_of(kind: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    expected = "a pydantic model, dataclass, TypedDict, ResponseSchema or JSON Schema"
    try:
        json_schema = TypeAdapter(kind).json_schema()
    except PydanticUserError as error:
        # pydantic's first line says why, such as that Python 3.11 needs the TypedDict of typing_extensions.
        reason = error.message.partition("\n")[0]
        raise InvalidValue.of("schema", kind, f"{expected} ({reason})") from None
    if "$ref" in json_schema:
        # A type that refers to itself stands among its own definitions.
        definitions = json_schema["$defs"]
        json_schema = {**definitions[json_schema["$ref"].rpartition("/")[2]], "$defs": definitions}
    if json_schema.get("type") != "object":
        # Vendors enforce schemas for objects alone.
        raise InvalidValue.of("schema", kind, f"{expected}, whose JSON form is an object")
    return json_schema


def _name_of(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text).strip("_")[:64] or "answer"
