"""The fakes that tests are written with do what they promise."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from llm_core import (
    AudioDelta,
    AudioPart,
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    FirstToken,
    GenerationRequest,
    GenerationResult,
    ImagePart,
    InvalidValue,
    LLMCallRequest,
    Message,
    ProviderError,
    ProviderResponse,
    RateLimitFacts,
    ReasoningDelta,
    ReasoningPart,
    StreamDone,
    StreamEvent,
    StreamFailed,
    StreamStarted,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from llm_core.testing import (
    FakePermit,
    FixedPriceBook,
    FunctionStep,
    ManualClock,
    MemoryCache,
    OpenGate,
    RecordingTelemetry,
    ScriptedGenerate,
    ScriptedProvider,
    SimpleStepContext,
)

BUSY = ErrorInfo(type=ErrorType.OVERLOADED, message="busy")
TIMES = EventTimestamps(requested_at=datetime(2026, 1, 1, tzinfo=UTC), requested=0)


def call(text: str = "Where is Lima?") -> LLMCallRequest:
    return LLMCallRequest(model="m", messages=(Message.user(text),))


class TestManualClock:
    def test_time_stands_still_until_it_is_moved(self) -> None:
        clock = ManualClock(datetime(2026, 5, 1, tzinfo=UTC))
        assert (clock.monotonic_ns(), clock.now()) == (0, datetime(2026, 5, 1, tzinfo=UTC))
        clock.advance(1.5)
        assert clock.monotonic_ns() == 1_500_000_000
        assert clock.now() == datetime(2026, 5, 1, 0, 0, 1, 500_000, tzinfo=UTC)

    @pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
    async def test_time_goes_forward_only(self, seconds: float) -> None:
        clock = ManualClock()
        with pytest.raises(InvalidValue, match=f"seconds: got {seconds}, expected zero or more"):
            clock.advance(seconds)
        with pytest.raises(InvalidValue, match=f"seconds: got {seconds}, expected zero or more"):
            await clock.run_for(seconds)
        assert clock.monotonic_ns() == 0

    async def test_sleepers_wake_in_the_order_of_their_times(self) -> None:
        clock, woken = ManualClock(), []

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        tasks = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2, 9)]
        await asyncio.sleep(0)
        assert clock.sleepers == 4
        clock.advance(5)
        await asyncio.gather(*tasks[:3])
        assert woken == [1, 2, 3]
        assert clock.sleepers == 1
        clock.advance(4)
        await tasks[3]
        assert woken == [1, 2, 3, 9]

    async def test_a_sleeper_wakes_at_its_time_and_not_before(self) -> None:
        clock = ManualClock()
        task = asyncio.create_task(clock.sleep(0.1))
        await clock.run_for(0.099_999_999)
        assert not task.done()
        await clock.run_for(0.000_000_001)
        assert task.done()

    @pytest.mark.parametrize("seconds", [0, -1])
    async def test_no_time_to_sleep_lets_others_run_once(self, seconds: float) -> None:
        clock, order = ManualClock(), []

        async def other() -> None:
            order.append("other")

        task = asyncio.create_task(other())
        await clock.sleep(seconds)
        order.append("me")
        await task
        assert order == ["other", "me"]

    async def test_running_for_a_while_lets_sleepers_sleep_again(self) -> None:
        clock, ticks = ManualClock(), []

        async def tick() -> None:
            while True:
                await clock.sleep(1)
                ticks.append(clock.monotonic_ns() // 10**9)

        task = asyncio.create_task(tick())
        await clock.run_for(3.5)
        assert ticks == [1, 2, 3]
        assert clock.monotonic_ns() == 3_500_000_000
        task.cancel()
        await clock.run_for(10)
        assert ticks == [1, 2, 3]

    async def test_years_pass_exactly(self) -> None:
        clock = ManualClock()
        task = asyncio.create_task(clock.sleep(10 * 365 * 86_400))
        await clock.run_for(10 * 365 * 86_400)
        assert task.done()
        assert clock.monotonic_ns() == 10 * 365 * 86_400 * 10**9

    async def test_a_cancelled_sleeper_leaves_no_trace(self) -> None:
        clock = ManualClock()
        task = asyncio.create_task(clock.sleep(5))
        late = asyncio.create_task(clock.sleep(7))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert clock.sleepers == 1
        await clock.run_for(8)
        assert late.done()
        assert clock.sleepers == 0

    async def test_a_sleeper_cancelled_as_it_is_woken_stays_cancelled(self) -> None:
        clock = ManualClock()
        task = asyncio.create_task(clock.sleep(5))
        await asyncio.sleep(0)
        clock.advance(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert clock.sleepers == 0

    async def test_whoever_sleeps_for_ever_is_not_woken(self) -> None:
        clock = ManualClock()
        task = asyncio.create_task(clock.sleep(math.inf))
        await clock.run_for(86_400)
        assert clock.sleepers == 1
        task.cancel()

    def test_sleepers_of_several_event_loops_are_woken(self) -> None:
        clock, woken = ManualClock(), []

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        threads = [threading.Thread(target=asyncio.run, args=(sleep(n),)) for n in (1, 2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: clock.sleepers == 2)
        clock.advance(1)
        threads[0].join(5)
        assert woken == [1]
        clock.advance(1)
        threads[1].join(5)
        assert woken == [1, 2]

    def test_a_loop_that_was_closed_over_its_sleepers_is_passed_over(self) -> None:
        clock = ManualClock()
        loop = asyncio.new_event_loop()
        task = loop.create_task(clock.sleep(1))
        loop.run_until_complete(asyncio.sleep(0))
        assert clock.sleepers == 1
        loop.close()
        clock.advance(2)
        assert clock.sleepers == 0
        task.get_coro().close()


def wait_until(condition: Any) -> None:
    """Wait in real time, for at most five seconds, for what another thread does."""
    waiting = threading.Event()
    for _ in range(5000):
        if condition():
            return
        waiting.wait(0.001)
    pytest.fail("the other thread did not get there")


class TestScriptedProvider:
    async def test_without_a_script_it_echoes(self) -> None:
        response = await ScriptedProvider().invoke(call("Where is Lima?"))
        assert response.text == "Where is Lima?"
        assert response.usage == Usage(input_tokens=3, output_tokens=3)
        assert (response.provider, response.model) == ("scripted", "m")

    async def test_replies_come_in_order_and_the_last_one_stays(self) -> None:
        provider = ScriptedProvider(["one", "two"], name="mine")
        assert [(await provider.invoke(call())).text for _ in range(3)] == ["one", "two", "two"]
        assert len(provider.requests) == 3
        assert provider.name == "mine"

    async def test_a_whole_response_is_given_as_it_is(self) -> None:
        whole = ProviderResponse(provider="p", model="m-2026", parts=(TextPart(text="Lima"),))
        assert await ScriptedProvider([whole]).invoke(call()) is whole

    async def test_an_error_description_is_raised(self) -> None:
        with pytest.raises(ProviderError, match="busy") as caught:
            await ScriptedProvider([BUSY]).invoke(call())
        assert caught.value.info is BUSY

    @pytest.mark.parametrize("error", [ValueError("boom"), ProviderError(BUSY)])
    async def test_an_exception_is_raised(self, error: Exception) -> None:
        with pytest.raises(type(error)) as caught:
            await ScriptedProvider([error]).invoke(call())
        assert caught.value is error

    async def test_cancellation_is_raised(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            await ScriptedProvider([asyncio.CancelledError()]).invoke(call())

    async def test_a_function_sees_the_request(self) -> None:
        provider = ScriptedProvider([lambda request: request.messages[-1].text.upper()])
        assert (await provider.invoke(call("lima"))).text == "LIMA"

    async def test_a_coroutine_function_may_wait_and_give_a_failure(self) -> None:
        clock = ManualClock()

        async def slow(_: LLMCallRequest) -> ErrorInfo:
            await clock.sleep(3)
            return BUSY

        task = asyncio.create_task(ScriptedProvider([slow]).invoke(call()))
        await clock.run_for(3)
        with pytest.raises(ProviderError, match="busy"):
            await task

    async def test_it_notes_that_it_was_closed(self) -> None:
        provider = ScriptedProvider()
        assert provider.closed is False
        await provider.aclose()
        assert provider.closed is True


async def events_of(stream: AsyncIterator[StreamEvent]) -> list[StreamEvent]:
    return [event async for event in stream]


class TestScriptedStream:
    @pytest.mark.parametrize(
        ("text", "pieces"),
        [
            ("Lima", ["Lima"]),
            ("In  Peru,\nof course. ", ["In  ", "Peru,\n", "of ", "course. "]),
            (" \n", [" \n"]),
            ("", []),
        ],
    )
    async def test_text_comes_word_by_word_and_adds_up(self, text: str, pieces: list[str]) -> None:
        events = await events_of(ScriptedProvider([text]).stream(call()))
        assert events[0] == StreamStarted(model="m", response_id="response-1")
        assert [event.text for event in events if isinstance(event, TextDelta)] == pieces
        assert "".join(pieces) == text
        assert isinstance(events[-1], StreamDone)
        assert events[-1].response.text == text

    async def test_every_part_comes_as_its_own_events(self) -> None:
        find = ToolCall(id="1", name="find", arguments={"city": "Lima"}, arguments_text='{"ci…')
        cut = ToolCall(id="2", name="find", arguments_text='{"ci', complete=False)
        whole = ProviderResponse(
            provider="p",
            model="m",
            parts=(
                ReasoningPart(text="Hm."),
                AudioPart(data=b"RIFF", transcript="Lima"),
                ImagePart(url="https://example.org/lima.png"),
                find,
                cut,
            ),
        )
        assert await events_of(ScriptedProvider([whole]).stream(call())) == [
            StreamStarted(model="m"),
            ReasoningDelta(text="Hm."),
            AudioDelta(data=b"RIFF", transcript="Lima"),
            ToolCallStarted(index=0, id="1", name="find"),
            ToolCallDelta(index=0, arguments_text='{"ci…'),
            ToolCallEnded(index=0, tool_call=find),
            ToolCallStarted(index=1, id="2", name="find"),
            ToolCallDelta(index=1, arguments_text='{"ci'),
            StreamDone(response=whole),
        ]

    async def test_a_failure_is_the_last_event(self) -> None:
        assert await events_of(ScriptedProvider([BUSY]).stream(call())) == [
            StreamFailed(error=BUSY)
        ]

    async def test_a_failure_comes_after_the_part_that_had_arrived(self) -> None:
        partial = ProviderResponse(provider="p", model="m", parts=(TextPart(text="In Pe"),))
        cut = ErrorInfo(type=ErrorType.TRUNCATED, message="cut off", partial=partial)
        assert await events_of(ScriptedProvider([cut]).stream(call())) == [
            StreamStarted(model="m"),
            TextDelta(text="In "),
            TextDelta(text="Pe"),
            StreamFailed(error=cut),
        ]


class TestOpenGate:
    async def test_it_admits_at_once_and_remembers(self) -> None:
        gate = OpenGate()
        async with gate.admit(tokens=50, key="acme", timeout=3.0, priority=2) as permit:
            assert permit.released is False
            permit.settle(tokens=40, output_tokens=30, cost=Decimal(1))
        assert gate.permits == [
            FakePermit(
                tokens=50,
                settled=40,
                released=True,
                settled_output_tokens=30,
                settled_cost=Decimal(1),
                key="acme",
                timeout=3.0,
                priority=2,
            )
        ]

    async def test_it_remembers_failure_and_cancellation(self) -> None:
        gate = OpenGate()
        async with gate.admit() as failed:
            failed.fail(BUSY)
        async with gate.admit() as cancelled:
            cancelled.cancel()
        assert failed.error is BUSY
        assert cancelled.cancelled is True

    async def test_leaving_it_by_an_exception_gives_the_permit_back(self) -> None:
        gate = OpenGate()

        async def spend() -> None:
            async with gate.admit():
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await spend()
        assert gate.permits[0].released is True

    def test_it_remembers_what_it_was_told(self) -> None:
        gate, facts = OpenGate(), RateLimitFacts(retry_after=2.0)
        gate.observe(facts)
        gate.hold(2.0)
        assert gate.observed == [facts]
        assert gate.held_seconds == [2.0]


def test_telemetry_is_recorded() -> None:
    telemetry = RecordingTelemetry()
    event = FirstToken(request_id="r", at_ns=1, number=1)
    telemetry.emit(event)
    telemetry.close(timeout=1.0)
    assert telemetry.events == [event]
    assert telemetry.closed is True


@pytest.mark.parametrize(
    ("estimated", "status"), [(False, CostStatus.PRICED), (True, CostStatus.ESTIMATED)]
)
def test_a_price_book_with_one_price(estimated: bool, status: CostStatus) -> None:
    book = FixedPriceBook(input_per_million=Decimal(2), output_per_million=Decimal(10))
    usage = Usage(input_tokens=1_000_000, output_tokens=500_000, estimated=estimated)
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1)
    assert book.price(usage, provider="p", model="m", at=at) == Cost(
        amount=Decimal(7), status=status, source="fixed"
    )


async def test_a_cache_in_memory() -> None:
    result = GenerationResult[str](success=True, timestamps=TIMES, content="Lima")
    cache = MemoryCache()
    assert await cache.get("k") is None
    await cache.put("k", result, ttl_seconds=60)
    assert await cache.get("k") is result


class TestSteps:
    def test_a_function_becomes_a_step(self) -> None:
        context = SimpleStepContext(request=GenerationRequest(user="x"))
        step = FunctionStep(len)
        assert (step.name, step.run("Lima", context)) == ("len", 4)
        assert step.contexts == [context]
        assert FunctionStep(lambda text: text, name="same").name == "same"

    async def test_a_step_may_ask_again(self) -> None:
        generate = ScriptedGenerate(["Lima", BUSY])
        request = GenerationRequest(user="Which city is meant?", model="small")
        answer = await generate(request, purpose="isolation")
        assert (answer.content, answer.success, answer.request) == ("Lima", True, request)
        refused = await generate(request.replace(model=None), purpose="reask")
        assert (refused.success, refused.error) == (False, BUSY)
        assert generate.purposes == ["isolation", "reask"]
        assert [call.model for call in generate.provider.requests] == ["small", "scripted"]
