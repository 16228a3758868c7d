"""What follows from the type of an answer is worked out once, and never for longer than it is true."""

from __future__ import annotations

import gc
import json
import typing
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, create_model

from llm_core import (
    ErrorType,
    ResponseSchema,
    StreamResult,
)
from llm_core.testing import ScriptedProvider
from llm_pipeline import ConvertToDict, ModelValidation
from llm_service import BaseLLMService
from llm_service.type_key import TypeKey

MOST_FUNCTIONS = 195
"""Of a structured call; a few more than it enters, so that small changes need no new number."""

BERN = '{"name": "Bern", "country": "Switzerland", "population": 134000}'


class City(BaseModel):
    name: str
    country: str
    population: int


MARK = object()

CostOf = Callable[[Callable[[], Any]], Awaitable[int]]


def extra(value: object) -> Any:
    """Return metadata that equals that of any equal value, and shows its own in the schema."""
    return Field(json_schema_extra={"x": value})  # type: ignore[dict-item]


def scripted(*replies: str) -> tuple[BaseLLMService, ScriptedProvider]:
    provider = ScriptedProvider(replies)
    return BaseLLMService(model="m", provider=provider), provider


def sent_schema(provider: ScriptedProvider, call: int) -> Any:
    return provider.requests[call].response_schema.json_schema


class TestCost:
    @pytest.fixture
    def cost_of(self, instant_service: Any, functions_of: Any) -> CostOf:
        """Count the functions of a structured call."""
        service = instant_service(BERN)

        async def cost_of(make: Callable[[], Any]) -> int:
            result, entered = await functions_of(
                lambda: service.generate_structured(make(), "Capital of Switzerland?")
            )
            assert result.success, result.error
            return int(entered)

        return cost_of

    async def test_a_structured_call_enters_few_functions_more_than_a_plain_one(
        self, cost_of: CostOf
    ) -> None:
        assert await cost_of(lambda: City) <= MOST_FUNCTIONS

    @pytest.mark.parametrize(
        "make",
        [
            lambda: dict[str, str | int],
            lambda: dict[Literal["name", "country", "population"], Any],
            lambda: Annotated[City, MARK],
            lambda: Mapping[str, Annotated[Any, MARK]],
            lambda: City | None,
        ],
    )
    async def test_a_type_that_is_no_class_costs_little_more(
        self, cost_of: CostOf, make: Callable[[], Any]
    ) -> None:
        assert await cost_of(make) <= MOST_FUNCTIONS + 60

    async def test_a_json_schema_is_checked_once(self, cost_of: CostOf) -> None:
        checked_each_time = 2_500  # by jsonschema, against the schema of schemas
        schema = City.model_json_schema()
        assert await cost_of(lambda: schema) < checked_each_time / 4


class TestTruth:
    async def test_a_json_schema_that_was_changed_counts_as_it_is_now(self) -> None:
        service, provider = scripted('{"a": 1}', '{"a": 1}')
        schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
        assert (await service.generate_structured(schema, "?")).content == {"a": 1}

        schema["properties"]["a"]["type"] = "string"
        result = await service.generate_structured(schema, "?")

        assert result.error.type is ErrorType.OUTPUT_INVALID
        assert sent_schema(provider, 0)["properties"]["a"]["type"] == "integer"
        assert sent_schema(provider, 1)["properties"]["a"]["type"] == "string"

    async def test_a_model_that_was_rebuilt_counts_as_it_is_now(self) -> None:
        class Town(BaseModel):
            name: str = Field(max_length=10)

        service, provider = scripted('{"name": "Bern"}', '{"name": "Bern"}')
        assert (await service.generate_structured(Town, "?")).content == Town(name="Bern")

        Town.model_fields["name"].description = "In its own language."
        Town.model_fields["name"].metadata[0] = Field(max_length=3).metadata[0]
        Town.model_rebuild(force=True)
        result = await service.generate_structured(Town, "?")

        assert result.error.type is ErrorType.OUTPUT_INVALID
        assert "description" not in sent_schema(provider, 0)["properties"]["name"]
        described = sent_schema(provider, 1)["properties"]["name"]
        assert (described["description"], described["maxLength"]) == ("In its own language.", 3)

    async def test_types_of_one_name_are_told_apart(self) -> None:
        small = create_model("Place", name=(str, ...))
        large = create_model("Place", name=(str, ...), population=(int, 7))
        service, provider = scripted('{"name": "Bern"}', '{"name": "Bern"}')

        first = await service.generate_structured(small, "?")
        second = await service.generate_structured(large, "?")

        assert type(first.content) is small
        assert second.content.model_dump() == {"name": "Bern", "population": 7}
        assert set(sent_schema(provider, 0)["properties"]) == {"name"}
        assert set(sent_schema(provider, 1)["properties"]) == {"name", "population"}

    async def test_what_is_done_to_the_steps_of_a_result_stays_with_it(self) -> None:
        service, _ = scripted(BERN, BERN)
        first = await service.generate_structured(City, "?")
        first.request.pipeline.clear()
        second = await service.generate_structured(City, "?")
        assert [type(step) for step in second.request.pipeline] == [ConvertToDict, ModelValidation]
        assert second.content.name == "Bern"

    async def test_a_type_of_a_value_that_cannot_be_hashed_is_a_type_like_any_other(self) -> None:
        service, _ = scripted('{"value": [1]}')
        result = await service.generate_structured(Literal[[1]], "?")  # type: ignore[valid-type]
        assert result.content == [1]

    async def test_a_class_that_cannot_be_hashed_is_a_type_like_any_other(self) -> None:
        class Comparing(type(BaseModel)):  # type: ignore[misc]
            def __eq__(cls, other: object) -> bool:
                return cls is other

            __hash__ = None  # type: ignore[assignment]

        class Odd(metaclass=Comparing):
            def __init__(self, name: str) -> None:
                self.name = name

        service, provider = scripted("never")
        result = await service.generate_structured(Odd, "?")
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert provider.requests == []

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (dict[str, int | str], dict[str, str | int]),
            (dict[str, Literal[1]], dict[str, Literal[True]]),
            (dict[str, Annotated[int, extra(1)]], dict[str, Annotated[int, extra(True)]]),
            (Annotated[dict[str, int], extra(1)], Annotated[dict[str, int], extra(True)]),
            (dict[str, int], dict[str, bool]),
            (dict[str, City], dict[str, City | None]),
        ],
    )
    async def test_types_that_are_like_each_other_are_told_apart(
        self, one: Any, other: Any
    ) -> None:
        service, provider = scripted(*["{}"] * 4)
        for kind in (one, other, one, other):
            await service.generate_structured(kind, "?")
        schemas = [json.dumps(sent_schema(provider, call)) for call in range(4)]
        alone = [json.dumps(TypeAdapter(kind).json_schema()) for kind in (one, other)]
        assert schemas == alone * 2
        assert TypeKey.of(one) != TypeKey.of(other)

    async def test_a_rebuilt_model_counts_as_it_is_now_within_another_type(self) -> None:
        class Village(BaseModel):
            name: str

        service, provider = scripted("{}", "{}")
        await service.generate_structured(dict[str, Village], "?")
        Village.model_fields["name"].description = "In its own language."
        Village.model_rebuild(force=True)
        await service.generate_structured(dict[str, Village], "?")
        assert "description" not in json.dumps(sent_schema(provider, 0))
        assert "In its own language." in json.dumps(sent_schema(provider, 1))

    @pytest.mark.parametrize(
        "kind",
        [dict[str, "City"], typing.Dict[str, "City"], Callable[[int], str]],  # noqa: UP006 - it makes a ForwardRef
    )
    def test_a_name_that_may_mean_something_else_next_time_is_no_key(self, kind: Any) -> None:
        assert TypeKey.of(kind) is None

    async def test_types_made_in_a_loop_do_not_pile_up(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider(['{"a": 1}'] * 200))
        made = []
        for number in range(200):
            kind = create_model(f"Made{number}", a=(int, ...))
            assert (await service.generate_structured(kind, "?")).success
            made.append(weakref.ref(kind))
        service = kind = None  # type: ignore[assignment]
        gc.collect()
        assert sum(ref() is not None for ref in made) <= 64


class TestWays:
    async def test_sync_and_streamed_calls_get_the_same(self) -> None:
        schema = ResponseSchema(name="City", json_schema=City.model_json_schema())
        steps = [ConvertToDict(schema=schema.json_schema), ModelValidation(City)]
        bern = City(name="Bern", country="Switzerland", population=134_000)
        provider = ScriptedProvider([BERN] * 4)
        with BaseLLMService(model="m", provider=provider) as service:
            for _ in range(2):
                assert service.generate_structured_sync(City, "?").content == bern
                asked = service.stream("?", response_schema=schema, pipeline=steps)
                events = [event async for event in asked]
                assert isinstance(events[-1], StreamResult)
                assert events[-1].result.content == bern
