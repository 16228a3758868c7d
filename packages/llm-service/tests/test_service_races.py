"""Hedged calls: who leads, when the other one is let go, and what is learned and spent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from llm_core import (
    ErrorInfo,
    ErrorType,
    LLMCallRequest,
    ProviderResponse,
    StreamDone,
    StreamEvent,
    StreamFailed,
    StreamRestarted,
    TextDelta,
    TextPart,
    Usage,
)
from llm_core.testing import FakePermit, ManualClock, OpenGate, RecordingTelemetry, ScriptedProvider
from llm_service import BaseLLMService, HedgePolicy, RetryPolicy
from llm_service.hedging import Hedger, Signs

OVERLOADED = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
AT_ONCE = HedgePolicy(after_seconds=1e-6, budget_ratio=1.0)
NO_PAUSE = RetryPolicy(initial_seconds=0.0)


def done(text: str) -> StreamDone:
    usage = Usage(input_tokens=1, output_tokens=len(text.split()))
    return StreamDone(
        response=ProviderResponse(
            provider="race", model="m", parts=(TextPart(text=text),), usage=usage
        )
    )


class Race:
    """A provider that streams what the scripts say, one script for each call; `ended` keeps whose stream is over."""

    name = "race"

    def __init__(self, *scripts: Callable[[Race], AsyncIterator[StreamEvent]]) -> None:
        self.scripts = list(scripts)
        self.calls = 0
        self.ended: list[int] = []
        self.change = asyncio.Condition()

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        raise AssertionError("only streams")

    async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        self.calls += 1
        number = self.calls
        async with self.change:
            self.change.notify_all()
        try:
            async for event in self.scripts[number - 1](self):
                yield event
        finally:
            self.ended.append(number)
            async with self.change:
                self.change.notify_all()

    async def until(self, comes: Callable[[], bool]) -> None:
        async with self.change:
            await self.change.wait_for(comes)

    async def aclose(self) -> None:
        """Nothing to close."""


async def hang(_: Race) -> AsyncIterator[StreamEvent]:
    await asyncio.Event().wait()
    yield TextDelta(text="never")


async def lead_until_alone(race: Race) -> AsyncIterator[StreamEvent]:
    await race.until(lambda: race.calls == 2)
    yield TextDelta(text="leader ")
    await race.until(lambda: len(race.ended) == 1)
    yield TextDelta(text="alone")
    yield done("leader alone")


async def follow(race: Race) -> AsyncIterator[StreamEvent]:
    await asyncio.sleep(0.001)  # the other one leads by then
    while True:
        yield TextDelta(text="too late ")
        await asyncio.sleep(0)


def hedged(provider: Any, **options: Any) -> BaseLLMService:
    return BaseLLMService(
        **{"model": "m", "provider": provider, "hedge": AT_ONCE, "retry": NO_PAUSE, **options}
    )


class TestStreams:
    @pytest.mark.parametrize("loser", [hang, follow])
    @pytest.mark.parametrize("leads", ["answer", "hedge"])
    async def test_the_loser_is_let_go_while_the_leader_goes_on(
        self, leads: str, loser: Any
    ) -> None:
        scripts = [lead_until_alone, loser] if leads == "answer" else [loser, lead_until_alone]
        gate = OpenGate()
        service = hedged(Race(*scripts), gate=gate)

        async with asyncio.timeout(5):
            *pieces, last = [event async for event in service.stream("?")]

        assert "".join(p.text for p in pieces) == last.result.content == "leader alone"
        by_purpose = {attempt.purpose: attempt for attempt in last.result.attempts}
        winner, lost = by_purpose.pop(leads), by_purpose.popitem()[1]
        assert (winner.error, lost.error.type) == (None, ErrorType.CANCELLED)
        assert lost.error.message == "another attempt was faster"
        assert lost.timestamps.ended < winner.timestamps.last_token
        assert lost.usage.estimated
        assert [permit.released for permit in gate.permits] == [True, True]
        assert last.result.usage == winner.usage + lost.usage

    async def test_leaving_a_race_lets_go_of_all_who_run(self) -> None:
        async def lead_for_ever(race: Race) -> AsyncIterator[StreamEvent]:
            await race.until(lambda: race.calls == 2)
            yield TextDelta(text="leader ")
            await asyncio.Event().wait()

        told = RecordingTelemetry()
        gate = OpenGate()
        race = Race(lead_for_ever, hang)
        service = hedged(race, gate=gate, telemetry=told)
        async with aclosing(service.stream("?")) as events:
            await anext(events)

        assert sorted(race.ended) == [1, 2]
        assert all(permit.released for permit in gate.permits)
        result = told.events[-1].result
        assert [a.error.type for a in result.attempts] == [ErrorType.CANCELLED] * 2
        assert result.raw_content == "leader "

    async def test_a_call_cancelled_in_a_race_keeps_what_the_caller_saw(self) -> None:
        async def lead_alone_for_ever(race: Race) -> AsyncIterator[StreamEvent]:
            await race.until(lambda: race.calls == 2)
            yield TextDelta(text="leader ")
            await race.until(lambda: race.ended == [2])
            yield TextDelta(text="alone")
            await asyncio.Event().wait()

        told = RecordingTelemetry()
        service = hedged(Race(lead_alone_for_ever, follow), telemetry=told)
        async with aclosing(service.stream("?")) as events:
            async for event in events:
                if event == TextDelta(text="alone"):
                    break
        assert told.events[-1].result.raw_content == "leader alone"

    @pytest.mark.parametrize("hedge_ends_well", [True, False])
    async def test_a_restart_after_a_race_tells_what_broke_the_stream(
        self, hedge_ends_well: bool
    ) -> None:
        async def break_off(race: Race) -> AsyncIterator[StreamEvent]:
            await race.until(lambda: race.calls == 2)
            yield TextDelta(text="first ")
            await race.until(lambda: race.ended == [2])
            yield StreamFailed(error=OVERLOADED)

        async def end_meanwhile(race: Race) -> AsyncIterator[StreamEvent]:
            await asyncio.sleep(0.001)
            if not hedge_ends_well:
                await asyncio.Event().wait()
            yield done("hedge")

        async def answer(_: Race) -> AsyncIterator[StreamEvent]:
            yield TextDelta(text="third")
            yield done("third")

        service = hedged(Race(break_off, end_meanwhile, answer), restart_streams=True)
        *pieces, last = [event async for event in service.stream("?")]

        assert pieces == [
            TextDelta(text="first "),
            StreamRestarted(attempt=3, error=OVERLOADED),
            TextDelta(text="third"),
        ]
        assert last.result.content == "third"

    async def test_a_stream_that_breaks_off_has_the_times_of_its_leader(self) -> None:
        async def break_off(race: Race) -> AsyncIterator[StreamEvent]:
            await race.until(lambda: race.calls == 2)
            yield TextDelta(text="first ")
            await race.until(lambda: race.ended == [2])
            yield StreamFailed(error=OVERLOADED)

        last = await _last_of(hedged(Race(break_off, hang)).stream("?"))
        leader, _ = last.result.attempts
        assert (last.result.error, leader.error) == (OVERLOADED, OVERLOADED)
        assert last.result.timestamps.ended == leader.timestamps.ended

    async def test_a_pause_after_a_race_begins_at_the_end_of_its_leader(self) -> None:
        clock = ManualClock()

        async def break_off_late(race: Race) -> AsyncIterator[StreamEvent]:
            await race.until(lambda: race.calls == 2)
            yield TextDelta(text="first ")
            await race.until(lambda: race.ended == [2])
            clock.advance(10.0)
            yield StreamFailed(error=ErrorInfo.of(ErrorType.OVERLOADED, "busy", retry_after=3.0))

        async def answer(_: Race) -> AsyncIterator[StreamEvent]:
            yield TextDelta(text="third")
            yield done("third")

        service = hedged(Race(break_off_late, hang, answer), restart_streams=True, clock=clock)
        reading = asyncio.create_task(_last_of(service.stream("?")))
        while not clock.sleepers:
            await asyncio.sleep(0)
        await clock.run_for(3.0)
        result = (await reading).result

        first, lost, _ = result.attempts
        assert first.timestamps.backoff_seconds == 3.0
        assert lost.timestamps.backoff_until is None
        assert result.timestamps.backoff_until == 13_000_000_000


async def _last_of(events: AsyncIterator[Any]) -> Any:
    last = None
    async for event in events:
        last = event
    return last


async def test_a_pause_after_a_race_that_nobody_led_begins_when_both_have_failed() -> None:
    clock, gate = ManualClock(), OpenGate()
    later = ErrorInfo.of(ErrorType.OVERLOADED, "busy", retry_after=3.0)

    async def reply(_: object) -> Any:
        number = len(provider.requests)
        if number == 1:
            while len(gate.permits) < 2 or not gate.permits[1].released:
                await asyncio.sleep(0)
            clock.advance(10.0)
        return later if number < 3 else "third"

    provider = ScriptedProvider([reply])
    service = hedged(provider, clock=clock, gate=gate)
    call = asyncio.create_task(service.generate("?"))
    while not clock.sleepers:
        await asyncio.sleep(0)
    await clock.run_for(3.0)
    result = await call
    assert result.content == "third"
    assert result.timestamps.backoff_until == 13_000_000_000
    assert result.attempts[0].timestamps.backoff_seconds == 3.0


class TestLearning:
    """On a clock that stands still every answer comes at once: what is learned is to wait for nothing."""

    async def test_answers_teach_what_is_slow(self) -> None:
        slow: list[str] = []

        async def answer(_: object) -> str:
            if slow:
                slow.clear()
                await asyncio.Event().wait()
            return "quick"

        service = hedged(ScriptedProvider([answer]), hedge=HedgePolicy(), clock=ManualClock())
        for _ in range(20):
            await service.generate("?")
        slow.append("the next one")
        async with asyncio.timeout(5):
            result = await service.generate("?")
        assert [(a.purpose, a.success) for a in result.attempts] == [
            ("answer", False),
            ("hedge", True),
        ]

    async def test_streams_teach_how_long_the_first_token_takes(self) -> None:
        clock = ManualClock()

        async def dawdle(_: Race) -> AsyncIterator[StreamEvent]:
            yield TextDelta(text="first")
            clock.advance(3600.0)
            yield done("first")

        race = Race(*[dawdle] * 20, hang, dawdle)
        service = hedged(race, hedge=HedgePolicy(), clock=clock)
        for _ in range(20):
            await _last_of(service.stream("?"))
        async with asyncio.timeout(5):
            last = await _last_of(service.stream("?"))
        assert [a.purpose for a in last.result.attempts] == ["answer", "hedge"]

    def test_slow_is_what_lasts_longer_than_95_of_100(self) -> None:
        hedger = Hedger(HedgePolicy())
        for seconds in range(100):
            hedger.note_latency(float(seconds))
        assert hedger.delay_seconds() == 95.0


class TestBudget:
    async def test_quick_calls_save_up_for_five_hedges_at_most(self) -> None:
        hedger = Hedger(HedgePolicy(after_seconds=1e-6, budget_ratio=0.05))
        for _ in range(1000):
            await hedger.race(*self.racer(quick=True))
        winners = [await hedger.race(*self.racer(quick=False)) for _ in range(10)]
        assert winners.count("hedge") == 5

    def racer(self, *, quick: bool) -> tuple[Callable[[str], Awaitable[str]], Signs]:
        """Return an attempt that is quick, or else slow unless it is a hedge."""
        signs = Signs()

        async def attempt(purpose: str) -> str:
            signs.admitted.set()
            if not quick and purpose == "answer":
                await asyncio.sleep(0.002)
            signs.lead(purpose)
            return purpose

        return attempt, signs


async def test_who_waits_at_our_gates_is_not_slow() -> None:
    go = asyncio.Event()
    asked = 0

    class Closed(OpenGate):
        @asynccontextmanager
        async def admit(self, **_: Any) -> AsyncIterator[FakePermit]:
            nonlocal asked
            asked += 1
            await go.wait()
            yield FakePermit()

    service = hedged(ScriptedProvider(["x"]), gate=Closed())
    call = asyncio.create_task(service.generate("?"))
    # A hedge would begin a microsecond after the first attempt.
    for _ in range(100):
        await asyncio.sleep(0)
    assert asked == 1
    go.set()
    assert len((await call).attempts) == 1
