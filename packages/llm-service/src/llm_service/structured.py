"""Answers of a given type: its JSON Schema for the model, and the steps that make the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NewType,
    get_args,
    get_origin,
)

from llm_core import FinishReason, InvalidValue, ResponseSchema, StepContext
from llm_service.type_key import TypeKey

if TYPE_CHECKING:
    from llm_pipeline import Step

__all__ = ["structured_fields"]

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")

_FENCED = re.compile(r"```(?:json)?\s(.*?)```", re.DOTALL | re.IGNORECASE)

_FIELD = "value"
"""The one field of an object that holds what is no object itself; named as in `llm_providers.schema_of`."""

_CUT = (FinishReason.LENGTH, FinishReason.INCOMPLETE)


def structured_fields(schema: Any) -> dict[str, Any]:
    """Return the fields of a request for an answer of `schema`: `response_schema` and `pipeline`.

    `schema` is any type that pydantic has a JSON Schema for: a pydantic model, dataclass or TypedDict, ``list[City]``,
    ``City | None``, an enum, ``int``, …; a `ResponseSchema`; or a JSON Schema as a mapping.
    A type whose JSON form is no object is asked for in an object of one field, ``value``, as vendors enforce schemas of
    objects alone, and the pipeline's result is what that field holds. A reply that is the bare value is taken as well, if
    it is JSON; an object with a field ``value`` always counts as the one that was asked for, and JSON that was written as
    a JSON string as what the string says.
    A JSON Schema is sent as it is, and its result is plain data.
    Raises InvalidValue for anything else.
    """
    if isinstance(schema, Mapping):
        schema = ResponseSchema(name=_name_of(schema.get("title") or "answer"), json_schema=schema)
    if isinstance(schema, ResponseSchema):
        return {"response_schema": schema, "pipeline": _steps_of(schema.json_schema)}
    if isinstance(schema, type) and type(schema).__hash__ is type.__hash__:
        # A pydantic model that is rebuilt gets another validator, and may have another schema.
        response_schema, steps = _of_class(schema, getattr(schema, "__pydantic_validator__", None))
    elif (key := TypeKey.of(schema)) is not None:
        response_schema, steps = _of_key(key)
    else:
        response_schema, steps = _of_type(schema)
    return {"response_schema": response_schema, "pipeline": [*steps]}


def _steps_of(json_schema: Mapping[str, Any]) -> list[Step[Any, Any]]:
    from llm_pipeline import ConvertToDict, JsonSchemaValidation, Transform

    check = JsonSchemaValidation(schema=json_schema)
    if not _is_scalar(json_schema):
        return [ConvertToDict(), check]
    hold = Transform(_scalar_in_holder, name="HoldScalar", with_context=True)
    return [hold, ConvertToDict(), Transform(_out_of_holder, name="TakeScalar"), check]


def _is_scalar(json_schema: Any) -> bool:
    """Whether a JSON Schema says of its values that all of them are texts, numbers, true, false or null."""
    if not isinstance(json_schema, Mapping):
        return False
    if "type" in json_schema:
        kinds = json_schema["type"]
        return not {"object", "array"}.intersection((kinds,) if isinstance(kinds, str) else kinds)
    if "const" in json_schema or "enum" in json_schema:
        values = json_schema.get("enum", (json_schema.get("const"),))
        return not any(
            isinstance(value, Mapping | Sequence) and not isinstance(value, str) for value in values
        )
    choices = json_schema.get("anyOf") or json_schema.get("oneOf") or ()
    return bool(choices) and all(map(_is_scalar, choices))


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
    """Return a text that is one JSON number, string, true, false or null in its object, anything else as it is.

    So is a text with words around the only fenced block, which holds one of these.
    """
    import json

    # Of a number that was cut off nothing shows that digits are missing.
    cut = context.response is not None and context.response.finish_reason in _CUT
    if cut or not isinstance(content, str):
        return content
    fenced = _FENCED.findall(content)
    # Of several blocks none is the answer for sure.
    for text in (content, *fenced) if len(fenced) == 1 else (content,):
        if _looks_nested(text):
            return content
        try:
            value = json.loads(text, parse_constant=_refuse)
        except ValueError:
            continue
        # JSON that was written as a JSON string is opened by the step behind.
        nested = isinstance(value, str) and _looks_nested(value)
        return content if nested else {_FIELD: value}
    return content


def _looks_nested(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _in_holder(content: Any) -> dict[str, Any]:
    """Return the one field of the object that was asked for, which a bare value is put into."""
    held = isinstance(content, dict) and _FIELD in content
    return {_FIELD: content[_FIELD] if held else content}


def _out_of_holder(content: Any) -> Any:
    return _in_holder(content)[_FIELD]


def _json_schema_of(kind: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter

    expected = (
        "a type with a JSON Schema (such as a pydantic model, dataclass, TypedDict, list[int] or an enum), "
        "a ResponseSchema or a JSON Schema"
    )
    # An answer of None is likelier a mistake than a wish.
    if kind is None:
        raise InvalidValue.of("schema", kind, expected)
    if _has_text(kind):
        raise InvalidValue.of("schema", kind, f"{expected}, made of types and not of their names")
    try:
        adapter = TypeAdapter(kind)
        json_schema = adapter.json_schema()
    except Exception as error:
        # Boundary to foreign code: a type may bring hooks that raise anything, and pydantic lets through what it meets
        # (a pattern that is none, a missing package), besides its own errors.
        # Its first paragraph says why, such as that Python 3.11 needs the TypedDict of typing_extensions.
        reason = " ".join(str(error).partition("\n\n")[0].split())
        raise InvalidValue.of("schema", kind, f"{expected} ({reason})") from error
    core: Any = adapter.core_schema
    if core.get("schema", core)["type"] == "call":  # pydantic would call a function with the answer
        raise InvalidValue.of("schema", kind, expected)
    if _is_lazy(core):  # pydantic would check the items only when they are read
        raise InvalidValue.of("schema", kind, f"{expected}, with list instead of Iterable")
    return json_schema


def _has_text(kind: Any) -> bool:
    """Whether a part of the type is text, which pydantic would run as Python, with the names of this module."""
    if isinstance(kind, str | ForwardRef):
        return True
    if isinstance(kind, NewType):
        return _has_text(kind.__supertype__)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return False
    return any(_has_text(part) for part in (parts[:1] if origin is Annotated else parts))


def _is_lazy(core: Any) -> bool:
    """Whether an Iterable stands in pydantic's schema outside of the fields of a class."""
    if isinstance(core, list | tuple):
        return any(map(_is_lazy, core))
    if not isinstance(core, dict) or core.get("type") in ("model", "dataclass", "typed-dict"):
        return False
    return core.get("type") == "generator" or any(
        _is_lazy(part) for key, part in core.items() if key not in ("metadata", "default")
    )


def _target_of(json_schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with what its root refers to: a type that refers to itself stands among its own definitions."""
    if "$ref" not in json_schema:
        return json_schema
    definitions = json_schema["$defs"]
    return {**definitions[json_schema["$ref"].rpartition("/")[2]], "$defs": definitions}


def _name_of(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text).strip("_")[:64] or "answer"
