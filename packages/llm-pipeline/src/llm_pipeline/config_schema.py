"""The JSON Schema of the declarative form, made from the step classes themselves."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from llm_core import UNSET
from llm_pipeline.registry import named_classes

__all__ = ["config_schema"]

_STEPS = {"$ref": "#/$defs/steps"}
_STEP_LIST = {"type": "array", "items": {"$ref": "#/$defs/step"}}
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def config_schema(steps: Mapping[str, Any] | Iterable[type[Any]] = ()) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a pipeline's declarative form, for editors; `steps` adds classes."""
    classes = named_classes(steps)
    definitions: dict[str, Any] = {
        "steps": {
            "description": "A step, or a list of steps.",
            "anyOf": [
                _STEP_LIST,
                {"$ref": "#/$defs/step"},
            ],
        },
        "step": {
            "anyOf": [
                *({"$ref": f"#/$defs/{name}"} for name in sorted(classes)),
                {"$ref": "#/$defs/other"},
            ]
        },
        "other": {
            "description": "A step of another distribution, or a function provided by name.",
            "type": ["string", "object"],
            "not": {
                "anyOf": [
                    {"enum": sorted(classes)},
                    {"type": "object", "anyOf": [{"required": [name]} for name in sorted(classes)]},
                ]
            },
            "minProperties": 1,
            "maxProperties": 1,
        },
    }
    definitions |= {name: _step_schema(name, cls) for name, cls in sorted(classes.items())}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llm-pipeline",
        "description": "Steps from a model's raw text to the value that was wanted.",
        "$ref": "#/$defs/steps",
        "$defs": definitions,
    }


def _step_schema(name: str, cls: type[Any]) -> dict[str, Any]:
    description = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
    if not dataclasses.is_dataclass(cls):
        return {
            "description": description,
            "anyOf": [{"const": name}, {"type": "object", "required": [name], "maxProperties": 1}],
        }
    hints, texts = typing.get_type_hints(cls), _field_texts(cls)
    properties, required = {}, []
    for each in dataclasses.fields(cls):
        if not each.init:
            continue
        schema = _field_schema(hints[each.name], each.metadata)
        if text := texts.get(each.name):
            schema = {"description": text, **schema}
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            required.append(each.name)
        elif each.default is not UNSET and isinstance(each.default, (str, int, float, bool)):
            schema = {**schema, "default": each.default}
        properties[each.name] = schema
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if required:
        parameters["required"] = required
    ways: list[dict[str, Any]] = [parameters]
    positional = getattr(cls, "positional", "")
    if positional:
        short = {k: v for k, v in properties[positional].items() if k != "default"}
        # A mapping there holds the parameters, so steps without their name come as a list.
        ways.append(_STEP_LIST if short.get("$ref") == _STEPS["$ref"] else short)
    if not required:
        ways.append({"type": "null"})
    named = {
        "type": "object",
        "required": [name],
        "maxProperties": 1,
        "properties": {name: {"anyOf": ways} if len(ways) > 1 else parameters},
    }
    forms = [named] if required else [{"const": name}, named]
    return {"description": description, "anyOf": forms}


def _field_schema(hint: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    if metadata.get("steps") == "each":
        return {"type": "array", "minItems": 1, "items": _STEPS}
    if metadata.get("steps"):
        return dict(_STEPS)
    if metadata.get("named"):
        return {"type": "string"}
    return _type_schema(hint)


def _type_schema(hint: Any) -> dict[str, Any]:
    if hint is type(None):
        return {"type": "null"}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (types.UnionType, typing.Union):
        members = [m for m in arguments if m is not type(None)]
        if len(members) == 1:
            return {"anyOf": [_type_schema(members[0]), {"type": "null"}]}
        return {"anyOf": [_type_schema(member) for member in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _type_schema(arguments[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object"}
    return {}


def _field_texts(cls: type[Any]) -> dict[str, str]:
    """Return the docstrings that stand under the fields of `cls` and its bases; needs their source."""
    texts: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError, SyntaxError):
            continue
        body: list[ast.stmt] = []
        for statement in getattr(tree.body[0], "body", []):
            # A field may be annotated otherwise for type checkers: `if TYPE_CHECKING: … else: …`.
            body += statement.orelse if isinstance(statement, ast.If) else [statement]
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                texts[field.target.id] = " ".join(text.value.value.split())
    return texts


if __name__ == "__main__":
    print(json.dumps(config_schema(), indent=2, ensure_ascii=False))
