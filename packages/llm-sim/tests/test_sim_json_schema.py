"""Examples of JSON schemas, judged by the jsonschema package."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_sim.json_schema import InvalidSchema, example

TREE = {
    "type": "object",
    "properties": {"left": {"$ref": "#"}, "value": {"type": "integer"}},
    "required": ["value"],
}
LIST = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["next"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]},
        {"type": "string", "minLength": 30},
        {"type": "string", "maxLength": 3},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "unheard-of"},
        {"type": "string", "pattern": r"^[A-Z]{3}-\d{2,4}(?:x|y)?$"},
        {"type": "string", "pattern": r"^(ab|cd)+\w*\s\S.\.$"},
        {"type": "string", "pattern": r"^[^a1]+[\d]$"},
        {"type": "string", "pattern": "exam"},
        {"type": "integer", "minimum": 5, "multipleOf": 4},
        {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7},
        {"type": "integer", "maximum": -3, "multipleOf": 5},
        {"type": "integer", "minimum": 0.5},
        {"type": "number", "exclusiveMinimum": 1.5, "maximum": 1.75},
        {"type": "number", "exclusiveMaximum": 1.5},
        {"type": "number", "maximum": -10},
        {"type": "number", "minimum": 3, "multipleOf": 0.5},
        {"type": "number", "maximum": -3, "multipleOf": 2},
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["integer", "null"]},
        {"enum": ["red", "green"]},
        {"const": {"a": 1}},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"enum": [3, 4]}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True},
        {"type": "array", "maxItems": 0},
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": False, "maxItems": 1},
        {"type": "object", "minProperties": 2, "additionalProperties": {"type": "integer"}},
        {"anyOf": [{"type": "object", "properties": {"kind": {"const": "a"}}}, {"type": "null"}]},
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"allOf": [TREE, {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}]},
        {"properties": {"a": {}}},
        {"items": {"type": "integer"}},
        {"minimum": 4},
        {"type": "object", "properties": {"a": {"type": "integer", "default": 7}}},
        {"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"},
        {"$ref": "#/nowhere"},
        TREE,
        LIST,
        {},
        True,
    ],
)
def test_the_example_satisfies_its_schema(schema: Any) -> None:
    jsonschema.validate(example(schema), {} if schema == {"$ref": "#/nowhere"} else schema)


def test_free_strings_say_what_they_are() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "home": {"type": "boolean"}},
    }
    assert example(schema, text="x") == {"city": "city x", "home": True}


def test_an_unknown_type_is_null() -> None:
    assert example({"type": "void"}) is None


def test_a_chain_of_nullable_links_ends() -> None:
    schema = {
        "type": ["object", "null"],
        "properties": {"next": {"$ref": "#"}},
        "required": ["next"],
    }
    jsonschema.validate(example(schema), schema)


def scalars() -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(-50, 50), st.integers(0, 20))
    return st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.sampled_from(["a", 5, None, True]).map(lambda value: {"const": value}),
        st.lists(st.integers(), min_size=1, max_size=3).map(lambda values: {"enum": values}),
        bounds.map(lambda b: {"type": "integer", "minimum": b[0], "maximum": b[0] + b[1]}),
        bounds.map(
            lambda b: {
                "type": "number",
                "exclusiveMinimum": b[0],
                "exclusiveMaximum": b[0] + b[1] + 1,
            }
        ),
        bounds.map(lambda b: {"type": "string", "minLength": b[1], "maxLength": b[1] + 5}),
    )


def composed(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    return st.one_of(
        st.tuples(inner, st.integers(0, 3)).map(
            lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + 1}
        ),
        properties.map(
            lambda p: {
                "type": "object",
                "properties": p,
                "required": sorted(p)[:2],
                "additionalProperties": False,
            }
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
    )


@given(st.recursive(scalars(), composed, max_leaves=12))
def test_the_example_of_any_such_schema_satisfies_it(schema: dict[str, Any]) -> None:
    jsonschema.validate(example(schema), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "["},
        {"type": "integer", "minimum": "five"},
        {"anyOf": {"a": 1}},
        {"type": "object", "properties": ["a"]},
    ],
)
def test_what_is_no_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidSchema):
        example(schema)


def test_a_schema_cannot_ask_for_more_than_memory_holds() -> None:
    row = {"type": "array", "minItems": 10**9, "items": {"type": "integer"}}
    made = example({"type": "array", "minItems": 10**9, "items": row})
    assert sum(map(len, made)) <= 10_000
    assert len(example({"type": "string", "minLength": 10**12})) == 100_000
    assert len(example({"type": "object", "minProperties": 10**9})) <= 10_000
