"""Operations, structured answers, embeddings, changes at run time and an orderly end."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from llm_core import (
    CacheMode,
    CachePolicy,
    ErrorInfo,
    ErrorType,
    GateTimeout,
    GenerationRequest,
    GenerationResult,
    GenerationStarted,
    InvalidValue,
    ProviderResponse,
    RateLimitFacts,
    RateLimitWindow,
    ResponseSchema,
    TextPart,
    Usage,
)
from llm_core.testing import ManualClock, OpenGate, RecordingTelemetry, ScriptedProvider
from llm_gates import BreakerPolicy, ConcurrencyGate, RpmGate
from llm_service import BaseLLMService, Limits, MemoryResponseCache, RetryPolicy, operation
from llm_service.chained_gate import ChainedGate


class Geography(BaseLLMService):
    @operation(model="small", deadline_seconds=9, pipeline=[str.strip])
    async def capital_of(self, country: str) -> GenerationResult[str]:
        """Return the capital."""
        return await self.generate(f"Capital of {country}?")

    @operation("count", limits=Limits(max_concurrent_requests=1))
    async def population_of(self, city: str) -> GenerationResult[int]:
        return await self.generate(f"People in {city}?", pipeline=[int])

    @operation(cache=CachePolicy(mode=CacheMode.USE))
    async def twice(self) -> tuple[Any, Any]:
        return await self.capital_of("France"), await self.generate("?", operation_name="own")


class TestOperations:
    async def test_an_operation_gives_its_requests_what_they_leave_open(self) -> None:
        provider = ScriptedProvider([" Paris "])
        geo = Geography(model="large", provider=provider)

        result = await geo.capital_of("France")

        assert result.content == "Paris"
        assert result.operation_name == "capital_of"
        assert result.request.deadline_seconds == 9
        assert provider.requests[0].model == "small"

    async def test_an_operation_inside_another_keeps_its_own_defaults(self) -> None:
        geo = Geography(
            model="large", provider=ScriptedProvider(["x"]), cache=MemoryResponseCache()
        )
        inner, outer = await geo.twice()
        assert (inner.operation_name, inner.model, inner.request.cache) == (
            "capital_of",
            "small",
            None,
        )
        assert (outer.operation_name, outer.model) == ("own", "large")
        assert outer.request.cache.mode is CacheMode.USE

    def test_the_same_body_serves_sync_callers(self) -> None:
        with Geography(model="large", provider=ScriptedProvider([" Paris "])) as geo:
            assert geo.capital_of.sync("France").content == "Paris"

    def test_an_operation_is_known_by_its_name_and_documentation(self) -> None:
        assert Geography.capital_of.__doc__ == "Return the capital."
        assert Geography.population_of.defaults.operation_name == "count"

    def test_a_bound_operation_looks_like_the_method_it_is(self) -> None:
        def around(function: Any) -> Any:
            @functools.wraps(function)
            async def wrapped(*args: Any, **kwargs: Any) -> Any:
                return await function(*args, **kwargs)

            return wrapped

        class Decorated(Geography):
            @operation("other")
            @around
            async def river_of(self, city: str, *, longest: bool = True) -> str:
                """Return the river."""
                return f"{city} {longest}"

        geo = Decorated(model="m", provider=ScriptedProvider(["x"]))
        assert geo.capital_of.__name__ == "capital_of"
        assert geo.capital_of.__qualname__ == "Geography.capital_of"
        assert geo.capital_of.__module__ == __name__
        assert inspect.getdoc(geo.capital_of) == "Return the capital."
        assert list(inspect.signature(geo.capital_of).parameters) == ["country"]
        assert (
            str(inspect.signature(geo.river_of))
            == "(city: 'str', *, longest: 'bool' = True) -> 'str'"
        )
        assert asyncio.run(geo.river_of.__wrapped__("Rome")) == "Rome True"

    def test_forgotten_parentheses_are_pointed_out(self) -> None:
        with pytest.raises(InvalidValue, match="with parentheses"):

            @operation  # type: ignore[arg-type]
            async def method(self: Any) -> None: ...

    async def test_an_operations_own_limit_holds_besides_the_models(self) -> None:
        running = most = 0

        async def answer(_: object) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1
            return "7"

        geo = Geography(model="m", provider=ScriptedProvider([answer]), max_concurrent_requests=5)
        results = await asyncio.gather(*[geo.population_of("Paris") for _ in range(10)])
        assert [result.content for result in results] == [7] * 10
        assert most == 1
        assert any(result.attempts[0].waited_for == "concurrency" for result in results)

    @pytest.mark.parametrize("in_code", [True, False])
    async def test_the_deadline_is_one_for_all_that_it_asks(self, in_code: bool) -> None:
        clock, provider = ManualClock(), ScriptedProvider(["x"])

        class Timed(BaseLLMService):
            @operation(deadline_seconds=20 if in_code else None)
            async def triage(self) -> list[Any]:
                first = await self.generate("first")
                clock.advance(8)
                second = await self.generate("second", deadline_seconds=15)
                third = await self.generate("third", deadline_seconds=3)
                inner = await self.inner()
                clock.advance(12)
                return [first, second, third, inner, await self.generate("late")]

            @operation(deadline_seconds=60)
            async def inner(self) -> Any:
                return await self.generate("inner")

        service = Timed(
            model="m",
            provider=provider,
            clock=clock,
            operation_fields=lambda name: {"deadline_seconds": 20.0} if name == "triage" else {},
        )
        *asked, late = await service.triage()
        assert [result.request.deadline_seconds for result in asked] == [20, 12, 3, 12]
        assert late.error.type is ErrorType.TIMEOUT_DEADLINE
        assert [request.messages[0].text for request in provider.requests][3:] == ["inner"]

    async def test_an_operation_without_deadline_has_as_much_time_as_it_takes(self) -> None:
        geo = Geography(model="m", provider=ScriptedProvider(["7"]))
        assert (await geo.population_of("Rome")).request.deadline_seconds is None

    async def test_the_deadline_holds_for_tasks_and_streams_inside(self) -> None:
        clock = ManualClock()

        class Timed(BaseLLMService):
            @operation(deadline_seconds=20)
            async def ask(self) -> list[Any]:
                clock.advance(5)
                both = await asyncio.gather(self.generate("a"), self.generate("b"))
                *_, last = [event async for event in self.stream("c")]
                many = [result async for _, result in self.generate_many(["d"])]
                return [*both, last.result, *many]  # type: ignore[union-attr]

        results = await Timed(model="m", provider=ScriptedProvider(["x"]), clock=clock).ask()
        assert [result.request.deadline_seconds for result in results] == [15] * 4

    async def test_a_fallback_value_stands_in_for_each_request_that_fails(self) -> None:
        class Careful(BaseLLMService):
            @operation(fallback_value=None)
            async def ask(self, **fields: Any) -> Any:
                return await self.generate("?", **fields)

        refused = ErrorInfo.of(ErrorType.AUTHENTICATION, "who?")
        service = Careful(model="m", provider=ScriptedProvider([refused]))
        made_up, own = await service.ask(), await service.ask(fallback_value="own")
        assert (made_up.success, made_up.content, made_up.error.type) == (True, None, refused.type)
        assert own.content == "own"

    async def test_another_service_inside_an_operation_keeps_to_itself(self) -> None:
        other = Geography(model="other", provider=ScriptedProvider(["o"]))

        class Outer(Geography):
            @operation("outer", model="small")
            async def ask_both(self) -> tuple[Any, Any]:
                return await other.generate("?"), await self.generate("?")

            @operation("around")
            async def around(self) -> Any:
                return await other.twice()

        service = Outer(model="large", provider=ScriptedProvider(["s"]))
        theirs, ours = await service.ask_both()
        assert (theirs.operation_name, theirs.model) == (None, "other")
        assert (ours.operation_name, ours.model) == ("outer", "small")
        assert (await service.around())[0].operation_name == "capital_of"

    def test_defaults_that_no_request_can_have_are_refused_where_they_are_written(self) -> None:
        with pytest.raises(InvalidValue, match="deadline_seconds: got -1"):

            @operation(deadline_seconds=-1)
            async def method(self: Any) -> None: ...

    def test_what_cannot_be_awaited_is_no_operation(self) -> None:
        with pytest.raises(InvalidValue, match="an async method"):

            @operation()
            def method(self: Any) -> None: ...

        with pytest.raises(InvalidValue, match="an async method"):

            @operation()
            async def pieces(self: Any) -> Any:
                yield 1

    @pytest.mark.parametrize("fields", [{"nonsense": 1}, {"deadline_seconds": -1}])
    async def test_fields_that_no_request_has_are_a_refusal(self, fields: Any) -> None:
        service = BaseLLMService(
            model="m", provider=ScriptedProvider(), operation_fields=lambda _: fields
        )
        result = await service.generate("?")
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert next(iter(fields)) in result.error.message

    async def test_limits_of_an_operation_in_the_configuration_go_before_those_in_the_code(
        self,
    ) -> None:
        configured = {"operation:count": Limits(max_concurrent_requests=5)}
        geo = Geography(model="m", provider=ScriptedProvider(["2"]), limits=configured)
        await geo.population_of("Paris")
        assert geo.snapshot().gates["operation:count"].limit("concurrency").limit == 5

    async def test_the_snapshot_tells_of_an_operations_own_limits(self) -> None:
        geo = Geography(model="m", provider=ScriptedProvider(["7"]), gate=OpenGate())
        await geo.population_of("Paris")
        gates = geo.snapshot().gates
        assert gates["operation:count"].limit("concurrency").limit == 1

    async def test_both_queues_share_one_timeout_on_the_services_clock(self) -> None:
        clock = ManualClock()
        outer, inner = ConcurrencyGate(1, clock=clock), RpmGate(1, clock=clock)
        chained = ChainedGate(outer, inner, clock=clock)
        async with inner.admit():
            pass
        async with outer.admit():
            waiting = asyncio.create_task(chained.admit(timeout=30).__aenter__())
            await clock.run_for(10)
        with pytest.raises(GateTimeout) as caught:
            await waiting
        assert caught.value.details["timeout"] == 20


@dataclass
class City:
    name: str
    population: int


class Branch(BaseModel):
    name: str
    branches: list[Branch] = []


class CityDict(TypedDict):
    name: str


class Opaque:
    """A class of which nobody knows what its instances look like as JSON."""


class TestStructuredAnswers:
    async def test_a_dataclass_comes_back_as_an_instance(self) -> None:
        provider = ScriptedProvider(
            ['Sure! ```json\n{"name": "Paris", "population": 2100000}\n```']
        )
        service = BaseLLMService(model="m", provider=provider)

        result = await service.generate_structured(City, "Paris?")

        assert result.content == City(name="Paris", population=2_100_000)
        sent = provider.requests[0].response_schema
        assert sent.name == "City"
        assert set(sent.json_schema["properties"]) == {"name", "population"}

    async def test_a_type_that_refers_to_itself_is_an_object_like_any_other(self) -> None:
        reply = '{"name": "root", "branches": [{"name": "twig"}]}'
        provider = ScriptedProvider([reply])
        service = BaseLLMService(model="m", provider=provider)

        result = await service.generate_structured(Branch, "?")

        assert result.content == Branch(name="root", branches=[Branch(name="twig")])
        sent = provider.requests[0].response_schema.json_schema
        assert sent["type"] == "object"
        assert sent["properties"]["branches"]["items"] == {"$ref": "#/$defs/Branch"}

    @pytest.mark.parametrize(
        "schema",
        [
            CityDict,
            {"title": "A city!", "type": "object", "required": ["name"]},
            ResponseSchema(name="City", json_schema={"type": "object", "required": ["name"]}),
        ],
    )
    async def test_other_schemas_give_a_dict(self, schema: Any) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider(['{"name": "Paris"}']))
        assert (await service.generate_structured(schema, "Paris?")).content == {"name": "Paris"}

    async def test_an_answer_of_another_shape_is_a_failure_that_keeps_the_text(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider(['{"name": "Paris"}']))
        result = await service.generate_structured(City, "Paris?")
        assert result.error.type is ErrorType.OUTPUT_INVALID
        assert "population" in result.error.message
        assert result.raw_content == '{"name": "Paris"}'

    @pytest.mark.parametrize(
        "schema",
        [
            *(3, None, ..., "City", list["no name"], Opaque, list[Opaque]),  # noqa: F722 - no name
            *(str.upper, lambda city: city, Iterable[City]),
        ],
    )
    async def test_what_has_no_json_schema_is_refused_by_name(self, schema: Any) -> None:
        provider = ScriptedProvider(["never"])
        service = BaseLLMService(model="m", provider=provider)
        result = await service.generate_structured(schema, "?")
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert result.error.message.startswith(f"schema: got {schema!r}"[:60])
        assert provider.requests == []

    async def test_a_pipeline_of_ones_own_does_not_mix(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider())
        result = await service.generate_structured(City, "?", pipeline=[str.upper])
        assert "sets pipeline" in result.error.message

    @pytest.mark.parametrize(
        "shaped",
        [
            {"pipeline": str.strip},
            {"response_schema": ResponseSchema(name="City", json_schema={"type": "object"})},
        ],
    )
    async def test_a_request_that_shapes_its_answer_itself_is_refused(self, shaped: Any) -> None:
        provider = ScriptedProvider(["never"])
        service = BaseLLMService(model="m", provider=provider)
        result = await service.generate_structured(City, GenerationRequest(user="?", **shaped))
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert "expected a request without them" in result.error.message
        assert provider.requests == []

    def test_sync_callers_have_it_too(self) -> None:
        reply = '{"name": "Paris", "population": 1}'
        with BaseLLMService(model="m", provider=ScriptedProvider([reply])) as service:
            assert service.generate_structured_sync(City, "?").content.population == 1


class Embedder(ScriptedProvider):
    """Embeds each text as its length."""

    def __init__(self, *failures: ErrorInfo) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.failures = list(failures)
        self.pauses: Any = None
        self.running = self.most = 0

    async def embed(self, texts: Any, *, model: str, dimensions: int | None) -> Any:
        self.calls.append(len(texts))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.pauses is not None:
                await self.pauses()
        finally:
            self.running -= 1
        if self.failures:
            raise self.failures.pop(0).to_exception()
        made = ProviderResponse(
            provider=self.name, model=model, usage=Usage(input_tokens=len(texts))
        )

        class Made:
            model = made.model
            usage = made.usage
            vectors = tuple((float(len(text)),) * (dimensions or 1) for text in texts)

        return Made


class TestEmbeddings:
    async def test_every_text_gets_its_vector_in_order(self) -> None:
        service = BaseLLMService(model="e", provider=Embedder(), max_concurrent_requests=1)
        result = await service.embed(["a", "bbb"], dimensions=2)
        assert result.content == ((1.0, 1.0), (3.0, 3.0))
        assert result.usage.input_tokens == 2
        assert len(result.attempts) == 1

    async def test_more_than_one_call_takes_is_split_and_put_together(self) -> None:
        embedder = Embedder()
        service = BaseLLMService(model="e", provider=embedder)
        result = await service.embed([str(n) for n in range(5000)])
        assert embedder.calls == [2048, 2048, 904]
        assert len(result.content) == 5000
        assert [attempt.number for attempt in result.attempts] == [1, 2, 3]
        assert result.usage.input_tokens == 5000

    async def test_failures_are_retried_and_told_like_any_other(self) -> None:
        busy = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
        retry = RetryPolicy(initial_seconds=0.0)
        good = BaseLLMService(model="e", provider=Embedder(busy), retry=retry)
        bad = BaseLLMService(model="e", provider=Embedder(*[busy] * 6), retry=retry)
        assert (await good.embed(["x"])).success
        assert (await bad.embed(["x"] * 3000)).error == busy

    async def test_a_few_calls_run_at_once_and_none_is_begun_after_a_failure(self) -> None:
        wrong = ErrorInfo.of(ErrorType.AUTHENTICATION, "no")
        embedder = Embedder(wrong)
        embedder.pauses = lambda: asyncio.sleep(0.001)
        result = await BaseLLMService(model="e", provider=embedder).embed(["x"] * 2048 * 9)
        assert result.error == wrong
        assert embedder.most == 4
        assert len(embedder.calls) == 4

    async def test_waits_and_steps_are_those_of_all_calls(self) -> None:
        busy = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
        retry = RetryPolicy(initial_seconds=0.0)
        embedder = Embedder(busy, busy)
        embedder.pauses = lambda: asyncio.sleep(0.001)
        service = BaseLLMService(
            model="e", provider=embedder, retry=retry, max_concurrent_requests=1
        )
        result = await service.embed(["x"] * 2048 * 3)
        assert result.success
        assert result.backoff.backoffs == 2
        assert result.backoff.gate_waits >= 2
        assert result.backoff.gate_wait_by_limit.keys() == {"concurrency"}
        assert len(result.steps) == 3
        ended = max(attempt.timestamps.ended for attempt in result.attempts)
        assert result.timestamps.ended == ended

    async def test_the_deadline_holds_for_all_calls_together(self) -> None:
        clock = ManualClock()
        embedder = Embedder()
        embedder.pauses = lambda: clock.sleep(2)
        heard = RecordingTelemetry()
        service = BaseLLMService(model="e", provider=embedder, clock=clock, telemetry=heard)
        work = asyncio.create_task(service.embed(["x"] * 2048 * 20, deadline_seconds=5))
        await clock.run_for(6)
        result = await work
        assert result.error.type is ErrorType.TIMEOUT_DEADLINE
        assert result.error.message == "the deadline passed after 12 of 20 calls"
        assert len(embedder.calls) == 12
        begun = [event.request for event in heard.events if isinstance(event, GenerationStarted)]
        # The third round had what the two before it had left.
        assert begun[-1].deadline_seconds == 1
        assert result.request.deadline_seconds == 5

    @pytest.mark.parametrize("texts", ["one text", [], ["good", ""], ["good", 3]])
    async def test_what_cannot_be_embedded_is_named(self, texts: Any) -> None:
        result = await BaseLLMService(model="e", provider=Embedder()).embed(texts)
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert "texts" in result.error.message

    async def test_a_provider_without_embeddings_says_so(self) -> None:
        result = await BaseLLMService(model="m", provider=ScriptedProvider()).embed(["x"])
        assert "no embeddings" in result.error.message

    def test_sync_callers_have_it_too(self) -> None:
        with BaseLLMService(model="e", provider=Embedder()) as service:
            assert service.embed_sync(["four"]).content == ((4.0,),)


class TestChangesAtRunTime:
    async def test_another_model_and_another_provider_from_the_next_call_on(self) -> None:
        first, second = ScriptedProvider(["first"]), ScriptedProvider(["second"])
        service = BaseLLMService(model="a", provider=first)
        await service.generate("?")
        service.use_model("b")
        service.use_provider(second)
        result = await service.generate("?")
        assert (result.content, result.model) == ("second", "b")
        await service.aclose()
        assert first.closed
        assert second.closed

    async def test_concurrency_changes_for_those_who_wait(self) -> None:
        go = asyncio.Event()
        running = 0

        async def answer(_: object) -> str:
            nonlocal running
            running += 1
            await go.wait()
            return "x"

        service = BaseLLMService(
            model="m", provider=ScriptedProvider([answer]), max_concurrent_requests=1
        )
        calls = [asyncio.create_task(service.generate("?")) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert running == 1
        service.set_concurrency(3)
        await asyncio.sleep(0.01)
        assert running == 3
        go.set()
        assert all(result.success for result in await asyncio.gather(*calls))

    async def test_rate_limits_change_and_may_begin(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider(), max_rpm=1)
        await service.generate("?")
        assert (
            await service.generate("?", deadline_seconds=0.05)
        ).error.type is ErrorType.GATE_TIMEOUT
        service.set_rate_limits(max_rpm=100)
        assert (await service.generate("?")).success
        service.set_rate_limits(max_tpm=1)
        assert "tpm" in (await service.generate("?")).error.message

    async def test_a_limit_that_goes_lets_pass_who_waits_for_it(self) -> None:
        go = asyncio.Event()

        async def answer(_: object) -> str:
            await go.wait()
            return "x"

        service = BaseLLMService(
            model="m", provider=ScriptedProvider([answer]), max_concurrent_requests=1, max_rpm=2
        )
        calls = [asyncio.create_task(service.generate("?")) for _ in range(4)]
        await asyncio.sleep(0.01)
        service.set_concurrency(None)
        service.set_rate_limits(max_rpm=None)
        await asyncio.sleep(0.01)
        gate = service.snapshot().gates["scripted/m"]
        assert (gate.in_flight, gate.queued) == (4, 0)
        go.set()
        assert all(result.success for result in await asyncio.gather(*calls))

    async def test_a_limit_that_begins_knows_what_went_before(self) -> None:
        go = asyncio.Event()

        async def answer(_: object) -> str:
            await go.wait()
            return "x"

        service = BaseLLMService(model="m", provider=ScriptedProvider([answer]))
        calls = [asyncio.create_task(service.generate("?")) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert "rpm" not in [limit.name for limit in service.snapshot().gates["scripted/m"].limits]
        service.set_concurrency(3)
        assert (
            await service.generate("?", deadline_seconds=0.02)
        ).error.type is ErrorType.GATE_TIMEOUT
        service.set_rate_limits(max_rpm=3)
        gate = service.snapshot().gates["scripted/m"]
        assert (gate.limit("rpm").used, gate.limit("concurrency").used) == (3, 3)
        go.set()
        await asyncio.gather(*calls)

    async def test_a_breaker_stays_open_when_limits_change(self) -> None:
        down = ErrorInfo.of(ErrorType.SERVER_ERROR, "down")
        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider([down]),
            retry=RetryPolicy(max_attempts=1),
            breaker=BreakerPolicy(least_calls=3),
            max_rpm=100,
        )
        for _ in range(4):
            await service.generate("?")
        service.set_rate_limits(max_rpm=None, max_tpm=1000)
        assert (await service.generate("?")).error.type is ErrorType.CIRCUIT_OPEN

    async def test_a_providers_header_begins_no_limit(self) -> None:
        facts = RateLimitFacts(
            requests=RateLimitWindow(limit=1, remaining=0),
            tokens=RateLimitWindow(limit=10, remaining=0),
        )
        reply = ProviderResponse(provider="p", model="m", rate_limits=facts)
        free = BaseLLMService(model="m", provider=ScriptedProvider([reply]))
        bound = BaseLLMService(model="m", provider=ScriptedProvider([reply]), max_rpm=5)
        for service in (free, bound):
            assert (await service.generate("?")).success
        assert (await free.generate("?")).success
        late = await bound.generate("?", deadline_seconds=0.05)
        assert late.error.details["limit"] == "rpm"

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: s.set_rate_limits(max_rps=3),
            lambda s: s.set_rate_limits(max_rpm=0),
            lambda s: s.set_concurrency("8"),
            lambda s: s.use_model(" "),
        ],
    )
    def test_what_cannot_be_is_refused(self, change: Any) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider())
        with pytest.raises(InvalidValue):
            change(service)

    def test_limits_and_a_gate_of_ones_own_do_not_mix(self) -> None:
        with pytest.raises(InvalidValue, match="one or the other"):
            BaseLLMService(model="m", gate=OpenGate(), max_rpm=3)
        with pytest.raises(InvalidValue, match="change its limits there"):
            BaseLLMService(model="m", gate=OpenGate()).set_concurrency(3)

    async def test_a_model_may_have_limits_of_its_own(self) -> None:
        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider(),
            max_rpm=1,
            limits={"scripted/wide": Limits(max_rpm=100)},
        )
        results = [await service.generate("?", model="wide") for _ in range(3)]
        assert all(result.success for result in results)
        service.set_rate_limits(max_rpm=2)
        assert service._gates.snapshots()["scripted/wide"].limit("rpm").limit == 100

    async def test_the_closest_name_decides_which_limits_a_model_has(self) -> None:
        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider(),
            max_rpm=1,
            limits={
                "scripted": Limits(max_rpm=2),
                "m": Limits(max_rpm=3),
                "n": Limits(max_rpm=4),
                "scripted/n": Limits(max_rpm=5),
            },
        )
        for model in ("m", "n", "other"):
            await service.generate("?", model=model)
        limits = {name: gate.limit("rpm").limit for name, gate in service.snapshot().gates.items()}
        assert limits == {"scripted/m": 3, "scripted/n": 5, "scripted/other": 2}


async def test_a_model_that_keeps_failing_is_left_alone() -> None:
    provider = ScriptedProvider([ErrorInfo.of(ErrorType.SERVER_ERROR, "down")])
    service = BaseLLMService(
        model="m",
        provider=provider,
        retry=RetryPolicy(max_attempts=1),
        breaker=BreakerPolicy(least_calls=3),
    )
    results = [await service.generate("?") for _ in range(6)]
    assert len(provider.requests) == 3
    assert results[-1].error.type is ErrorType.CIRCUIT_OPEN
    assert results[-1].error.retry_after > 0


class TestTheEnd:
    async def test_calls_under_way_may_finish(self) -> None:
        async def answer(_: object) -> str:
            await asyncio.sleep(0.02)
            return "done"

        service = BaseLLMService(model="m", provider=ScriptedProvider([answer]))
        call = asyncio.create_task(service.generate("?"))
        await asyncio.sleep(0)
        await service.aclose()
        assert (await call).content == "done"

    async def test_a_closed_service_answers_that_it_is_closed(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider())
        await service.aclose()
        result = await service.generate("?")
        assert "closed" in result.error.message

    async def test_an_operation_may_close_its_own_service(self) -> None:
        class Last(BaseLLMService):
            @operation()
            async def last(self) -> Any:
                result = await self.generate(GenerationRequest(user="?"))
                await self.aclose()
                return result

        reply = ProviderResponse(provider="p", model="m", parts=(TextPart(text="bye"),))
        assert (await Last(model="m", provider=ScriptedProvider([reply])).last()).content == "bye"


async def test_a_service_from_a_file_gives_operations_their_fields(tmp_path: Path) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(
        "models: {default: gpt-5-mini}\noperations:\n  triage: {model: gpt-5, deadline_seconds: 20}\n"
    )
    service = BaseLLMService.from_config(file, max_rpm=100)
    provider = ScriptedProvider()
    service.use_provider(provider)

    plain = await service.generate("?")
    triage = await service.generate("?", operation_name="triage")
    own = await service.generate("?", operation_name="triage", deadline_seconds=3)

    # The configuration resolves models for the vendors; the one put in afterwards gets them as they are.
    assert plain.model.endswith("gpt-5-mini")
    assert triage.model.endswith("gpt-5")
    assert (triage.request.deadline_seconds, own.request.deadline_seconds) == (20, 3)
    assert service.snapshot().gates[f"scripted/{plain.model}"].limit("rpm").limit == 100
