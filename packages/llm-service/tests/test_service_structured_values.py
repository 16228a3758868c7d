"""Answers of types whose JSON form is no object: lists, numbers, text, enums, unions."""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, ForwardRef, Literal, NewType

import jsonschema
import pytest
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypeAliasType

from llm_core import (
    DegradedReason,
    ErrorType,
    FinishReason,
    Provider,
    ProviderResponse,
    ReasoningEffort,
    ResponseSchema,
    StreamResult,
    TextPart,
    thaw,
)
from llm_core.testing import ScriptedProvider
from llm_pipeline import Reask
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider
from llm_service import BaseLLMService
from llm_service.structured import structured_fields
from llm_sim import SimServer


class City(BaseModel):
    name: str
    population: int


class Town(BaseModel):
    name: str
    mayor: str


class Branch(BaseModel):
    name: str
    branches: list[Branch] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    name: str


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Reading(BaseModel):
    value: int
    unit: str


class Color(enum.Enum):
    RED = "red"


class Cities(RootModel[list[City]]):
    pass


Population = NewType("Population", int)
Tree = TypeAliasType("Tree", "list[Tree] | int")

BERN: Any = {"name": "Bern", "population": 134000}
THUN: Any = {"name": "Thun", "mayor": "Lanz"}

VALUES: list[tuple[Any, Any, Any]] = [
    (list[City], [BERN], [City(**BERN)]),
    (list[City], [], []),
    (Cities, [BERN], Cities([City(**BERN)])),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1, 2], {1, 2}),
    (int, 3, 3),
    (float, 0.5, 0.5),
    (bool, False, False),
    (str, "red", "red"),
    (Decimal, "1.10", Decimal("1.10")),
    (date, "2026-11-23", date(2026, 11, 23)),
    (Color, "red", Color.RED),
    (Literal["a", 1], 1, 1),
    (City | Town, THUN, Town(**THUN)),
    (City | None, None, None),
    (City | None, BERN, City(**BERN)),
    (Reading | None, {"value": 3, "unit": "m"}, Reading(value=3, unit="m")),
    (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "dog", "name": "Rex"}, Dog),
    (Annotated[list[int], Field(min_length=1)], [1], [1]),
    (list[Branch], [{"name": "twig"}], [Branch(name="twig")]),
    (Tree, [1, [2]], [1, [2]]),
    (Population, 7, 7),
]


async def ask(kind: Any, *replies: Any) -> tuple[Any, ScriptedProvider]:
    provider = ScriptedProvider(replies)
    service = BaseLLMService(model="m", provider=provider)
    return await service.generate_structured(kind, "?"), provider


def cut_off(text: str) -> ProviderResponse:
    return ProviderResponse(
        provider="scripted",
        model="m",
        parts=(TextPart(text=text),),
        finish_reason=FinishReason.LENGTH,
    )


def sent(provider: ScriptedProvider) -> Any:
    return provider.requests[0].response_schema


def is_as_expected(content: Any, expected: Any) -> bool:
    if isinstance(expected, type):
        return type(content) is expected
    return type(content) is type(expected) and content == expected


class TestReplies:
    @pytest.mark.parametrize(("kind", "written", "expected"), VALUES)
    async def test_the_content_is_the_value_itself(
        self, kind: Any, written: Any, expected: Any
    ) -> None:
        reply = {"value": written}
        result, provider = await ask(kind, json.dumps(reply))
        assert is_as_expected(result.content, expected)
        assert result.degraded is None
        jsonschema.validate(reply, thaw(sent(provider).json_schema))

    @pytest.mark.parametrize(
        ("kind", "written", "expected"), [row for row in VALUES if row[0] != Reading | None]
    )
    async def test_a_bare_value_is_taken_as_well(
        self, kind: Any, written: Any, expected: Any
    ) -> None:
        result, _ = await ask(kind, f" {json.dumps(written)}\n")
        assert is_as_expected(result.content, expected)
        assert result.degraded is None

    @pytest.mark.parametrize(
        "reply",
        [
            f"Here you are:\n```json\n{json.dumps({'value': [BERN]})}\n```",
            f"Here you are:\n```json\n{json.dumps([BERN])}\n```",
            json.dumps({"value": [BERN], "reason": "It is the capital."}),
            json.dumps(json.dumps({"value": [BERN]})),
            f"Like [[1, 2]], but:\n{json.dumps([BERN])}",
        ],
    )
    async def test_words_around_the_value_do_no_harm(self, reply: str) -> None:
        result, _ = await ask(list[City], reply)
        assert result.content == [City(**BERN)]

    @pytest.mark.parametrize(
        ("kind", "reply", "complaint"),
        [
            (list[City], '{"value": [{"name": "Bern"}]}', "$.value[0].population: Field required"),
            (list[City], '[{"name": "Bern"}]', "$.value[0].population: Field required"),
            (list[City], '{"cities": []}', "$.value: Input should be a valid list"),
            (list[City], "Bern, Thun", "no dict or list in the text"),
            (int, "[3]", "$.value: Input should be a valid integer"),
            (int, "three", "no dict or list in the text"),
            (float, "NaN", "no dict or list in the text"),
            (float, "-Infinity", "no dict or list in the text"),
            (str, '"[draft] red"', "no dict or list in the text"),
            (str, "Sorry, I cannot say.", "no dict or list in the text"),
            (Color, '"blue"', "$.value: Input should be 'red'"),
            (City | Town, '{"name": "Bern"}', "$.value.City.population: Field required"),
            (Reading | None, '{"value": 3, "unit": "m"}', "$.value: Input should be a valid dict"),
        ],
    )
    async def test_a_reply_that_is_neither_is_a_failure_that_says_why(
        self, kind: Any, reply: str, complaint: str
    ) -> None:
        result, _ = await ask(kind, reply)
        assert result.error.type is ErrorType.OUTPUT_INVALID
        assert complaint in result.error.message
        assert result.raw_content == reply

    @pytest.mark.parametrize(
        "reply",
        [
            "```json\n3\n```",
            "\n```\n3```\n",
            "``` 3 ```",
            "You asked for a number:\n```json\n3\n```\nAnything else?",
        ],
    )
    async def test_a_bare_value_may_stand_between_fences(self, reply: str) -> None:
        result, _ = await ask(int, reply)
        assert result.content == 3

    async def test_fences_within_a_text_are_a_part_of_it(self) -> None:
        result, _ = await ask(str, json.dumps("Run ```\n3\n``` now."))
        assert result.content == "Run ```\n3\n``` now."

    async def test_of_several_fenced_values_none_is_the_answer(self) -> None:
        result, _ = await ask(int, "Either\n```\n3\n```\nor\n```\n4\n```")
        assert result.error.type is ErrorType.OUTPUT_INVALID

    @pytest.mark.parametrize("reply", ["12", "```json\n12\n```", '{"value": 12'])
    async def test_a_number_that_was_cut_off_is_no_answer(self, reply: str) -> None:
        result, _ = await ask(int, cut_off(reply))
        assert result.error.type is ErrorType.TRUNCATED

    async def test_text_in_the_object_that_was_cut_off_is_told_as_partial(self) -> None:
        result, _ = await ask(Decimal, cut_off('{"value": "12'))
        assert result.content == Decimal("12")
        assert result.degraded.reason is DegradedReason.PARTIAL

    async def test_a_list_that_was_cut_off_is_told_as_partial(self) -> None:
        result, _ = await ask(list[City], f'{{"value": [{json.dumps(BERN)}')
        assert result.content == [City(**BERN)]
        assert result.degraded.reason is DegradedReason.PARTIAL


class TestSchema:
    async def test_definitions_stay_where_references_find_them(self) -> None:
        _, provider = await ask(list[Branch], "{}")
        assert sent(provider).name == "answer"
        assert thaw(sent(provider).json_schema) == {
            "type": "object",
            "properties": {"value": {"type": "array", "items": {"$ref": "#/$defs/Branch"}}},
            "required": ["value"],
            "additionalProperties": False,
            "$defs": {"Branch": Branch.model_json_schema()["$defs"]["Branch"]},
        }

    async def test_a_class_gives_its_name(self) -> None:
        _, provider = await ask(Color, "{}")
        assert sent(provider).name == "Color"

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "array", "items": {"type": "integer"}},
            ResponseSchema(name="numbers", json_schema={"type": "array"}),
        ],
    )
    async def test_a_json_schema_is_sent_as_it_is(self, schema: Any) -> None:
        result, provider = await ask(schema, "[1, 2]")
        assert result.content == [1, 2]
        assert sent(provider).json_schema["type"] == "array"

    @pytest.mark.parametrize(
        ("schema", "reply", "expected"),
        [
            ({"type": "integer"}, "3", 3),
            ({"type": ["integer", "null"]}, "null", None),
            ({"type": "string"}, '```json\n"red"\n```', "red"),
            ({"enum": ["red", 7]}, "7", 7),
            ({"const": "red"}, '"red"', "red"),
            ({"anyOf": [{"type": "integer"}, {"const": None}]}, "null", None),
            ({"oneOf": [{"type": "integer"}, {"enum": ["many"]}]}, '"many"', "many"),
        ],
    )
    async def test_a_json_schema_of_a_scalar_takes_the_bare_value(
        self, schema: Any, reply: str, expected: Any
    ) -> None:
        result, provider = await ask(schema, reply)
        assert result.success, result.error
        assert result.content == expected
        assert thaw(sent(provider).json_schema) == schema

    @pytest.mark.parametrize(
        "schema",
        [
            {"description": "anything"},
            {"enum": [{"value": 3}, 3]},
            {"const": {"value": 3}},
            {"anyOf": [{"type": "object"}, {"type": "null"}]},
            {"properties": {"value": {"type": "integer"}}},
        ],
    )
    async def test_an_object_that_a_json_schema_allows_is_kept_whole(self, schema: Any) -> None:
        result, _ = await ask(schema, '{"value": 3}')
        assert result.unwrap() == {"value": 3}

    @pytest.mark.parametrize(
        ("reply", "complaint"),
        [
            ('"three"', "'three' is not of type 'integer'"),
            ("[3]", "[3] is not of type 'integer'"),
            ("three", "no dict or list in the text"),
        ],
    )
    async def test_a_json_schema_of_a_scalar_refuses_other_values(
        self, reply: str, complaint: str
    ) -> None:
        result, _ = await ask({"type": "integer"}, reply)
        assert result.error.type is ErrorType.OUTPUT_INVALID
        assert complaint in result.error.message


class WithIterable(BaseModel):
    numbers: Iterable[int]


class TestRefusals:
    @pytest.mark.parametrize(
        ("kind", "why"),
        [
            (Annotated[str, Field(pattern="(")], "unclosed group"),
            (functools.partial(int), "no signature found"),
            (list["int.nope"], "not of their names"),  # type: ignore[name-defined]
            (list["1/0"], "not of their names"),  # type: ignore[valid-type]
            (list["FinishReason"], "not of their names"),
            (Annotated[ForwardRef("FinishReason"), 1] | None, "not of their names"),
            (NewType("Reason", "FinishReason"), "not of their names"),
            (Iterable[int], "list instead of Iterable"),
            (list[Iterable[int]], "list instead of Iterable"),
            (int | dict[str, Iterable[int]], "list instead of Iterable"),
        ],
    )
    async def test_a_type_that_cannot_be_asked_for_is_an_invalid_request(
        self, kind: Any, why: str
    ) -> None:
        result, provider = await ask(kind, "never")
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert why in result.error.message
        assert provider.requests == []

    async def test_words_of_a_literal_are_no_names(self) -> None:
        result, _ = await ask(list[Literal["FinishReason", "1/0"]], '["1/0"]')
        assert result.content == ["1/0"]

    async def test_an_iterable_in_a_model_is_read_as_pydantic_does(self) -> None:
        result, _ = await ask(WithIterable, '{"numbers": [1, 2]}')
        assert list(result.content.numbers) == [1, 2]


class TestWays:
    def test_sync_callers_get_the_same(self) -> None:
        with BaseLLMService(model="m", provider=ScriptedProvider(['{"value": 3}'])) as service:
            assert service.generate_structured_sync(int, "?").content == 3

    async def test_streams_get_the_same(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider(['{"value": ["red"]}']))
        events = [event async for event in service.stream("?", **structured_fields(list[Color]))]
        assert isinstance(events[-1], StreamResult)
        assert events[-1].result.content == [Color.RED]

    async def test_a_model_that_is_asked_again_is_told_what_was_wrong(self) -> None:
        provider = ScriptedProvider(['{"value": ["red", "blue"]}', '{"value": ["red"]}'])
        service = BaseLLMService(model="m", provider=provider)
        fields = structured_fields(list[Color])

        result = await service.generate("?", **{**fields, "pipeline": Reask(fields["pipeline"])})

        assert result.content == [Color.RED]
        again = provider.requests[1]
        assert "$.value[1]: Input should be 'red'" in again.messages[-1].text
        assert again.response_schema == fields["response_schema"]

    async def test_a_fallback_value_takes_the_place_of_an_invalid_answer(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider(["no list"]))
        result = await service.generate_structured(list[City], "?", fallback_value=[])
        assert result.content == []


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer() as server:
        yield server


def openai(sim: SimServer) -> Provider:
    return OpenAIProvider("key", sim.openai_base_url)


def openai_chat(sim: SimServer) -> Provider:
    return OpenAIProvider("key", sim.openai_base_url, "chat_completions")


def anthropic(sim: SimServer) -> Provider:
    return AnthropicProvider("key", sim.anthropic_base_url)


def ollama(sim: SimServer) -> Provider:
    return OllamaProvider(sim.ollama_base_url)


class TestVendors:
    """The simulator refuses what vendors refuse, and answers with an example of the schema that it was sent."""

    @pytest.fixture
    async def service_of(
        self, sim: SimServer
    ) -> AsyncIterator[Callable[[Callable[[SimServer], Provider], str], BaseLLMService]]:
        services = []

        def make(provider: Callable[[SimServer], Provider], model: str) -> BaseLLMService:
            services.append(BaseLLMService(model=model, provider=provider(sim)))
            return services[-1]

        yield make
        for service in services:
            await service.aclose()

    @pytest.mark.parametrize(
        ("provider", "model", "way"),
        [
            (openai, "gpt-4o", "native"),
            (openai, "gpt-4-turbo", "tool"),
            (openai_chat, "gpt-4o", "native"),
            (openai_chat, "gpt-4-turbo", "tool"),
            (anthropic, "claude-sonnet-4-5", "native"),
            (anthropic, "claude-opus-4-1", "tool"),
            (ollama, "llama3", "native"),
        ],
    )
    async def test_values_are_asked_for_in_an_object(
        self, service_of: Any, provider: Any, model: str, way: str
    ) -> None:
        service = service_of(provider, model)
        for kind, expected in [(list[City], list), (int, int), (Color, Color), (City | Town, City)]:
            result = await service.generate_structured(kind, "?")
            assert result.success, result.error
            assert result.structured_by == way
            assert isinstance(result.content, expected)

    async def test_a_bare_value_is_taken_from_a_model_that_is_asked_in_the_prompt(
        self, service_of: Any
    ) -> None:
        service = service_of(anthropic, "claude-opus-4-1")
        # The simulator repeats what it was told.
        result = await service.generate_structured(
            list[City], json.dumps([BERN]), reasoning_effort=ReasoningEffort.LOW
        )
        assert result.structured_by == "prompt"
        assert result.content == [City(**BERN)]
