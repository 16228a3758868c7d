"""Answers of a given type: its JSON Schema for the model, and the steps that make the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

from llm_core import FinishReason, InvalidValue, ResponseSchema, StepContext
from llm_service.type_key import TypeKey

if TYPE_CHECKING:
    from llm_pipeline import Step

__all__ = ["structured_fields"]

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")

_FIELD = "value"
"""The one field of an object that holds what is no object itself; named as in `llm_providers.schema_of`."""

_CUT = (FinishReason.LENGTH, FinishReason.INCOMPLETE)


def structured_fields(schema: Any) -> dict[str, Any]:
    """Return the fields of a request for an answer of `schema`: `response_schema` and `pipeline`.

    `schema` is any type that pydantic has a JSON Schema for: a pydantic model, dataclass or TypedDict, ``list[City]``,
    ``City | None``, an enum, ``int``, …; a `ResponseSchema`; or a JSON Schema as a mapping.
    A type whose JSON form is no object is asked for in an object of one field, ``value``, as vendors enforce schemas of
    objects alone, and the pipeline's result is what that field holds. A reply that is the bare value is taken as well, if
    it is JSON; an object with a field ``value`` always counts as the one that was asked for.
    A JSON Schema is sent as it is, and its result is plain data.
    Raises InvalidValue for anything else.
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
    target = _target_of(json_schema)
    if target.get("type") != "object":
        return _in_one_field(kind, json_schema)
    name = _name_of(getattr(kind, "__name__", "answer"))
    return (
        ResponseSchema(name=name, json_schema=target),
        (ConvertToDict(schema=target), ModelValidation(kind)),
    )


def _in_one_field(
    kind: Any, json_schema: Mapping[str, Any]
) -> tuple[ResponseSchema, tuple[Step[Any, Any], ...]]:
    from pydantic import AfterValidator, BeforeValidator

    from llm_pipeline import ConvertToDict, ModelValidation, Transform

    value = {key: part for key, part in json_schema.items() if key != "$defs"}
    definitions = {key: part for key, part in json_schema.items() if key == "$defs"}
    holder = {
        "type": "object",
        "properties": {_FIELD: value},
        "required": [_FIELD],
        "additionalProperties": False,
    }
    # Types that are no classes share names (``list``), or have one or none by the way they are written (``Optional``).
    name = _name_of(kind.__name__) if isinstance(kind, type) else "answer"
    reply: Any = dict[str, kind]
    reply = Annotated[reply, BeforeValidator(_in_holder), AfterValidator(itemgetter(_FIELD))]
    return (
        ResponseSchema(name=name, json_schema={**holder, **definitions}),
        (
            Transform(_scalar_in_holder, name="HoldScalar", with_context=True),
            ConvertToDict(schema={"anyOf": [holder, value], **definitions}),
            ModelValidation(reply),
        ),
    )


def _scalar_in_holder(content: Any, context: StepContext) -> Any:
    """Return a text that is one JSON number, string, true, false or null in its object, anything else as it is."""
    import json

    # Of a number that was cut off nothing shows that digits are missing.
    cut = context.response is not None and context.response.finish_reason in _CUT
    if cut or not isinstance(content, str) or _looks_nested(content):
        return content
    try:
        value = json.loads(content)
    except ValueError:
        return content
    # JSON that was written as a JSON string is opened by the step behind.
    nested = isinstance(value, str) and _looks_nested(value)
    return content if nested else {_FIELD: value}


def _looks_nested(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _in_holder(content: Any) -> dict[str, Any]:
    """Return the one field of the object that was asked for, which a bare value is put into."""
    held = isinstance(content, dict) and _FIELD in content
    return {_FIELD: content[_FIELD] if held else content}


def _json_schema_of(kind: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    expected = (
        "a type with a JSON Schema (such as a pydantic model, dataclass, TypedDict, list[int] or an enum), "
        "a ResponseSchema or a JSON Schema"
    )
    # pydantic would look for a type of that name; and an answer of None is likelier a mistake than a wish.
    if isinstance(kind, str) or kind is None:
        raise InvalidValue.of("schema", kind, expected)
    try:
        adapter = TypeAdapter(kind)
        json_schema = adapter.json_schema()
    except (PydanticUserError, SyntaxError) as error:
        # A name of a type that can be no name is a SyntaxError.
        # pydantic's first line says why, such as that Python 3.11 needs the TypedDict of typing_extensions.
        reason = str(error).partition("\n")[0]
        raise InvalidValue.of("schema", kind, f"{expected} ({reason})") from None
    core: Any = adapter.core_schema
    # pydantic would call a function with the answer, and check the items of an Iterable only when they are read.
    if core.get("schema", core)["type"] in ("call", "generator"):
        raise InvalidValue.of("schema", kind, expected)
    return json_schema


def _target_of(json_schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with what its root refers to: a type that refers to itself stands among its own definitions."""
    if "$ref" not in json_schema:
        return json_schema
    definitions = json_schema["$defs"]
    return {**definitions[json_schema["$ref"].rpartition("/")[2]], "$defs": definitions}


def _name_of(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text).strip("_")[:64] or "answer"
