from __future__ import annotations

import dataclasses
import enum
import gc
import json
import weakref
from typing import Annotated, Any, Literal

import jsonschema
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from llm_core import (
    InvalidValue,
    LLMCallRequest,
    Message,
    MissingDependencyError,
    ReasoningEffort,
    UnsupportedFeature,
    freeze,
)
from llm_providers import CAPABILITIES, Feature, family_of, schema_of
from llm_providers.capabilities import features_for
from llm_providers.features import FeatureFilter
from llm_providers.media import file_media_type, from_base64, image_media_type
from llm_providers.strict_schema import close_schema, closed, closed_if_closable, is_closable


def request(**fields: Any) -> LLMCallRequest:
    return LLMCallRequest(model="m", messages=(Message.user("Hi"),), **fields)


def test_every_row_says_where_and_when_it_was_read() -> None:
    for row in CAPABILITIES:
        assert row.source
        assert row.checked.year >= 2026
        assert row.provider in ("openai", "anthropic", "ollama")
        assert row.pattern == row.pattern.lower()


def test_no_row_is_hidden_by_one_before_it() -> None:
    for position, row in enumerate(CAPABILITIES):
        example = row.pattern.replace("[134]", "3").replace("[2-5]", "3").replace("[78]", "8")
        example = example.replace("[0-9]", "1").replace("*", "")
        assert family_of(row.provider, example) is row, (position, row.pattern)


@pytest.mark.parametrize(
    ("provider", "model", "lacks"),
    [
        ("openai", "o3-mini", Feature.TEMPERATURE),
        ("openai", "gpt-5-nano-2025-08-07", Feature.TEMPERATURE),
        ("openai", "gpt-4-0613", Feature.NATIVE_SCHEMA),
        ("anthropic", "claude-opus-4-7", Feature.PREFILL),
        ("anthropic", "claude-fable-5-2", Feature.TOP_K),
        ("anthropic", "claude-3-5-sonnet-20241022", Feature.REASONING_EFFORT),
    ],
)
def test_some_rows(provider: str, model: str, lacks: Feature) -> None:
    family = family_of(provider, model)
    assert family is not None
    assert lacks in family.lacks


def test_a_model_without_a_row_may_do_what_the_protocol_can() -> None:
    assert family_of("openai", "gpt-9") is None
    allowed = features_for(request(), frozenset({Feature.STOP}), vendor="openai")
    assert allowed.allow(Feature.SEED)
    assert not allowed.has(Feature.STOP)


def test_an_unsupported_feature_names_model_provider_and_feature() -> None:
    lacking = FeatureFilter(request(), {Feature.SEED}, provider="p")
    with pytest.raises(UnsupportedFeature) as caught:
        lacking.allow(Feature.SEED, "ask another")
    assert str(caught.value) == (
        "model 'm' of provider 'p' does not support seed; leave it out, ask another, "
        "or set on_unsupported='drop'"
    )
    assert caught.value.details == {"feature": "seed", "model": "m", "provider": "p"}


def test_what_is_dropped_is_told_once() -> None:
    lacking = FeatureFilter(request(on_unsupported="drop"), {Feature.IMAGES}, provider="p")
    assert [lacking.allow(Feature.IMAGES) for _ in range(3)] == [False] * 3
    assert lacking.dropped == ("images",)


def test_no_effort_is_what_a_model_that_cannot_reason_gives() -> None:
    lacking = FeatureFilter(request(), {Feature.REASONING_EFFORT}, provider="p")
    assert lacking.allow_effort(ReasoningEffort.NONE) is False
    assert lacking.dropped == ()


class Address(pydantic.BaseModel):
    """Where somebody lives.

    More words.
    """

    street: str
    number: int | None = None


@dataclasses.dataclass
class Person:
    name: str
    addresses: list[Address]


class Movie(TypedDict):
    title: str
    year: int


class Colour(enum.Enum):
    RED = "red"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


def test_models_dataclasses_and_typed_dicts_become_schemas() -> None:
    address = schema_of(Address)
    assert (address.name, address.description) == ("Address", "Where somebody lives.")
    assert set(address.json_schema["properties"]) == {"street", "number"}
    assert schema_of(Person).json_schema["$defs"]["Address"]["type"] == "object"
    assert schema_of(Movie, name="film", description="A film.").name == "film"


@pytest.mark.parametrize("kind", [list[Address], Colour, int])
def test_what_is_no_object_is_wrapped_in_one(kind: Any) -> None:
    wrapped = schema_of(kind).json_schema
    assert wrapped["type"] == "object"
    assert wrapped["required"] == ("value",)
    assert is_closable(wrapped, require_all=True)


def test_a_type_without_schema_is_refused() -> None:
    with pytest.raises(InvalidValue, match="expected a type with a JSON Schema"):
        schema_of(type("Odd", (), {}))


def test_without_pydantic_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydantic", None)
    with pytest.raises(MissingDependencyError, match=r"install the extra llm-providers\[schema\]"):
        schema_of(int)


def test_closing_reaches_every_object() -> None:
    schema = schema_of(Person).json_schema
    closed = close_schema(schema, require_all=True)
    inner = closed["$defs"]["Address"]
    assert inner["additionalProperties"] is False
    assert inner["required"] == ["street", "number"]
    assert "default" not in inner["properties"]["number"]
    assert "default" in schema["$defs"]["Address"]["properties"]["number"]


def test_a_reference_with_words_beside_it_is_written_out() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/x", "description": "mine"},
            "b": {"$ref": "#/nowhere", "description": "lost"},
        },
        "$defs": {"x": {"type": "string", "description": "theirs"}},
    }
    closed = close_schema(schema, require_all=False)
    assert closed["properties"]["a"] == {"type": "string", "description": "mine"}
    assert closed["properties"]["b"]["$ref"] == "#/nowhere"
    assert "required" not in closed


def test_a_union_with_a_discriminator_is_written_without_it() -> None:
    closed = close_schema(schema_of(Pet).json_schema, require_all=True)
    assert closed["properties"]["value"] == {
        "anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    }
    assert closed["$defs"]["Cat"]["additionalProperties"] is False


def test_a_copy_of_a_definition_is_closed_as_the_definition_is() -> None:
    class Home(pydantic.BaseModel):
        pet: Pet
        rooms: set[int] = {1}
        address: Annotated[Address, pydantic.Field(description="Where it stands.")] | None = None

    class Move(pydantic.BaseModel):
        to: Home = pydantic.Field(description="The new one.")
        stops: list[Annotated[Home, pydantic.Field(description="One on the way.")]]

    closed = close_schema(schema_of(Move).json_schema, require_all=True)
    home = closed["$defs"]["Home"]
    assert home["required"] == ["pet", "rooms", "address"]
    assert home["properties"]["address"]["anyOf"][0]["additionalProperties"] is False
    assert closed["properties"]["to"] == {**home, "description": "The new one."}
    assert closed["properties"]["stops"]["items"] == {**home, "description": "One on the way."}
    written = json.dumps(closed)
    assert not [
        word for word in ("oneOf", "discriminator", "uniqueItems", "null,") if word in written
    ]


def test_a_definition_within_itself_keeps_the_words_beside_its_name() -> None:
    class Branch(pydantic.BaseModel):
        left: Branch = pydantic.Field(description="The one.")
        right: Branch = pydantic.Field(description="The other.")

    closed = close_schema(schema_of(list[Branch]).json_schema, require_all=True)
    right = closed["$defs"]["Branch"]["properties"]["right"]
    assert right == {"anyOf": [{"$ref": "#/$defs/Branch"}], "description": "The other."}


def test_definitions_that_refer_to_each_other_are_not_copied_without_end() -> None:
    names = [f"M{number}" for number in range(5)]
    properties = {name: {"$ref": f"#/$defs/{name}", "description": "Mine."} for name in names}
    definitions = {name: {"type": "object", "properties": properties} for name in names}
    root = {"type": "object", "properties": properties, "$defs": definitions}
    closed = close_schema(root, require_all=True)
    written = json.dumps(closed)
    assert len(written) < 100_000
    assert written.count('"type": "object"') == written.count('"additionalProperties": false')
    assert written.count('{"$ref"') == written.count('"anyOf": [{"$ref"')


def test_a_union_beside_one_with_a_discriminator_is_kept() -> None:
    both = {"anyOf": [{"type": "string"}], "oneOf": [{"enum": ["a"]}], "discriminator": {}}
    schema = {"type": "object", "properties": {"a": both}}
    assert close_schema(schema, require_all=True)["properties"]["a"] == both
    assert not is_closable(schema, require_all=True)


def test_what_strict_decoding_cannot_count_is_left_to_the_reader() -> None:
    closed = close_schema(schema_of(set[int]).json_schema, require_all=True)
    assert closed["properties"]["value"] == {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": True},
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "properties": {"a": {"additionalProperties": {"type": "string"}}}},
        {"type": "object", "properties": {"a": {"patternProperties": {"x": {}}}}},
        {"type": "object", "properties": {"a": {"type": ["object", "null"]}}},
        {"type": "array", "items": {"type": "string"}},
    ],
)
@pytest.mark.parametrize("require_all", [True, False])
def test_what_is_open_on_purpose_cannot_be_closed(schema: Any, require_all: bool) -> None:
    assert not is_closable(schema, require_all=require_all)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "array"},
        {"type": "array", "items": {}},
        {"type": "array", "items": True},
        {"type": ["array", "null"]},
        {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
        {"type": "array", "prefixItems": [{"type": "string"}], "items": False},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"description": "Anything."},
        True,
    ],
)
def test_what_openai_alone_refuses_stays_strict_for_others(part: Any) -> None:
    schema = {"type": "object", "properties": {"a": part}}
    assert not is_closable(schema, require_all=True)
    assert is_closable(schema, require_all=False)


@pytest.mark.parametrize("kind", [Any, object, list[Any], tuple[int, str]])
def test_types_that_openai_cannot_enforce_are_no_strict_ones(kind: Any) -> None:
    assert closed_if_closable(schema_of(kind).json_schema, require_all=True) is None


def test_what_is_remembered_of_a_schema_is_given_as_a_copy() -> None:
    schema = schema_of(Person).json_schema
    first = closed(schema, require_all=True)
    first["$defs"]["Address"]["required"].append("planet")
    first["properties"].clear()
    assert closed(schema, require_all=True) == close_schema(schema, require_all=True)
    assert closed(schema, require_all=False) == close_schema(schema, require_all=False)


def test_schemas_that_are_equal_as_values_are_closed_apart() -> None:
    one, true = ({"type": "object", "properties": {"a": {"const": c}}} for c in (1, True))
    assert one == true
    written = [
        closed(freeze(schema), require_all=True)["properties"]["a"] for schema in (one, true)
    ]
    assert json.dumps(written) == '[{"const": 1}, {"const": true}]'


def test_schemas_made_in_a_loop_are_told_apart_and_do_not_pile_up() -> None:
    class Watched:
        """Stands in a schema, so that it can be seen how long that lives."""

    made = []
    for number in range(400):
        default = Watched()
        made.append(weakref.ref(default))
        properties = {f"p{number}": {"type": "string", "default": default}}
        schema = freeze({"type": "object", "properties": properties})
        found = closed_if_closable(schema, require_all=True)
        assert found is not None
        assert found["required"] == [f"p{number}"]
    schema = default = found = properties = None  # type: ignore[assignment]
    gc.collect()
    assert sum(ref() is not None for ref in made) <= 128


def test_what_is_open_on_purpose_is_not_closed_the_second_time_either() -> None:
    schema = freeze({"type": "object", "additionalProperties": {"type": "string"}})
    assert [closed_if_closable(schema, require_all=True) for _ in range(2)] == [None, None]


LEAVES = st.sampled_from(
    [{"type": "string"}, {"type": "integer"}, {"enum": ["a", "b"]}, {"type": ["string", "null"]}]
)


def objects(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.sampled_from("abc"), children, min_size=1)
    made = properties.flatmap(
        lambda found: st.sets(st.sampled_from(sorted(found))).map(
            lambda required: {
                "type": "object",
                "properties": found,
                "required": sorted(required),
            }
        )
    )
    return made | st.builds(lambda item: {"type": "array", "items": item}, children)


SCHEMAS = objects(st.recursive(LEAVES, objects, max_leaves=8)).filter(
    lambda schema: schema["type"] == "object"
)


def example_of(schema: Any) -> Any:
    """Build a value with every property of the schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: example_of(inner) for name, inner in schema["properties"].items()}
    if schema["type"] == "array":
        return [example_of(schema["items"])]
    return 3 if schema["type"] == "integer" else "text"


@given(SCHEMAS)
def test_an_answer_to_the_closed_schema_answers_the_open_one(schema: Any) -> None:
    assert is_closable(schema, require_all=True)
    closed = close_schema(schema, require_all=True)
    value = example_of(closed)
    jsonschema.validate(value, closed)
    jsonschema.validate(value, schema)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF0000WEBP", "image/webp"),
        (b"0000ftypavif", "image/avif"),
        (b"0000ftypheic", "image/heic"),
        (b"II*\0", "image/tiff"),
    ],
)
def test_image_types_are_told_from_the_bytes(data: bytes, expected: str) -> None:
    from llm_core import ImagePart

    assert image_media_type(ImagePart(data=data)) == expected
    assert image_media_type(ImagePart(data=data, media_type="image/x")) == "image/x"


def test_file_types_are_told_from_bytes_name_or_text() -> None:
    from llm_core import FilePart

    assert file_media_type(FilePart(data=b"%PDF-1")) == "application/pdf"
    assert file_media_type(FilePart(data=b"x", filename="a.MD")) == "text/markdown"
    assert file_media_type(FilePart(data=b"x")) == "text/plain"
    assert file_media_type(FilePart(data=b"\xff")) == "application/octet-stream"
    assert file_media_type(FilePart(data=b"x", media_type="a/b")) == "a/b"
    with pytest.raises(InvalidValue):
        image_media_type(__import__("llm_core").ImagePart(data=b"%PDF-1"))


def test_what_is_no_base64_is_no_data() -> None:
    assert from_base64("A") == b""
    assert from_base64("\u20ac") == b""
