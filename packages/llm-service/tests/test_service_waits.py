"""Time at our gates and in pauses: whose it is, also where no answer came of it; what gates and budgets are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_core import ErrorInfo, ErrorType, GateTimeout
from llm_core.testing import ManualClock, OpenGate, RecordingTelemetry, ScriptedProvider
from llm_gates import ConcurrencyGate, RpmGate
from llm_metrics import MetricsRecorder
from llm_metrics.debug import explain
from llm_service import BaseLLMService, Limits, RetryPolicy

OVERLOADED = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
IN_A_MINUTE = ErrorInfo.of(ErrorType.RATE_LIMITED, "later", retry_after=60.0)


class Full:
    """A service with one slot, held by a call that does not end; `clock` is moved by hand."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.told = RecordingTelemetry()
        self.provider = ScriptedProvider([self.hang])
        self.service = BaseLLMService(
            **{
                "model": "m",
                "provider": self.provider,
                "gate": ConcurrencyGate(1, clock=self.clock),
                "clock": self.clock,
                "telemetry": self.told,
                **options,
            }
        )
        self.holder: asyncio.Task[Any] | None = None

    async def hang(self, _: object) -> str:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def begin(self, **fields: Any) -> asyncio.Task[Any]:
        """Take the slot, and begin the call that has to wait for it."""
        self.holder = asyncio.create_task(self.service.generate("holds"))
        await self.clock.run_for(0)
        call = asyncio.create_task(self.service.generate("waits", **fields))
        await self.clock.run_for(0)
        return call


class TestGates:
    async def test_a_wait_that_ends_in_a_refusal_is_told_as_one(self) -> None:
        full = Full()
        call = await full.begin(deadline_seconds=0.5)
        await full.clock.run_for(0.5)
        result = await call

        assert result.error.type is ErrorType.GATE_TIMEOUT
        (attempt,) = result.attempts
        limit = attempt.waited_for
        assert limit == result.error.details["limit"]
        assert result.backoff.gate_waits == 1
        assert result.backoff.gate_wait_by_limit == {limit: 0.5}
        assert attempt.timestamps.queue_seconds == result.timestamps.queue_seconds == 0.5
        assert result.overhead_seconds == 0.0
        assert f"queue 1 ({limit})" in explain(result)
        (row,) = full.service.usage.rows()
        assert row.gate_wait_seconds == 0.5
        recorder = MetricsRecorder(clock=full.clock)
        for event in full.told.events:
            recorder.emit(event)
        for stats in (full.service.snapshot().stats, recorder.snapshot()):
            assert stats.total.queue_wait.count == 1
            assert stats.total.queue_wait.p50 == pytest.approx(0.5, rel=0.1)
        full.holder.cancel()

    async def test_a_call_that_is_cancelled_in_the_queue_has_waited_for_what_nobody_names(
        self,
    ) -> None:
        full = Full()
        call = await full.begin()
        await full.clock.run_for(0.25)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        result = full.told.events[-1].result
        assert (result.backoff.gate_wait_seconds, result.backoff.gate_wait_by_limit) == (0.25, {})
        assert result.overhead_seconds == 0.0
        full.holder.cancel()

    @pytest.mark.parametrize(
        ("seconds", "details", "told"),
        [
            (2.0, {"limit": "rpm"}, (2.0, "rpm")),
            (2.0, {}, (2.0, None)),
            (2.0, {"limit": ["rpm"]}, (2.0, None)),
            # To be refused at once takes its time as well, and is no wait.
            (0.0005, {"limit": "rpm"}, (0.0, None)),
        ],
    )
    async def test_a_refusal_is_believed_as_far_as_it_says_what_was_waited_for(
        self, seconds: float, details: Any, told: Any
    ) -> None:
        clock = ManualClock()

        class Foreign(OpenGate):
            def admit(self, **_: Any) -> Any:
                clock.advance(seconds)
                raise GateTimeout("no", details=details)

        service = BaseLLMService(
            model="m", provider=ScriptedProvider(), gate=Foreign(), clock=clock
        )
        result = await service.generate("?")
        assert (result.backoff.gate_wait_seconds, result.attempts[0].waited_for) == told

    async def test_a_wait_that_ends_in_admission_is_in_the_metrics(self) -> None:
        clock = ManualClock()
        service = BaseLLMService(
            model="m", provider=ScriptedProvider(), gate=RpmGate(1, clock=clock), clock=clock
        )
        await service.generate("?", operation_name="ask")
        call = asyncio.create_task(service.generate("?", operation_name="ask"))
        await clock.run_for(61.0)
        waited = (await call).backoff.gate_wait_seconds

        queue = service.snapshot().stats.by_operation["ask"].queue_wait
        assert queue.count == 1
        assert waited == pytest.approx(60.0, rel=0.05)
        assert queue.p50 == pytest.approx(waited, rel=0.1)

    async def test_the_operations_limit_is_named_too(self) -> None:
        full = Full(gate=None, limits={"operation:ask": Limits(max_concurrent_requests=1)})
        full.holder = asyncio.create_task(full.service.generate("holds", operation_name="ask"))
        await full.clock.run_for(0)
        call = asyncio.create_task(
            full.service.generate("waits", operation_name="ask", deadline_seconds=0.5)
        )
        await full.clock.run_for(0.5)
        result = await call
        assert result.attempts[0].waited_for is not None
        assert result.backoff.gate_wait_seconds == 0.5
        full.holder.cancel()

    async def test_gates_are_told_whose_call_it_is_and_how_urgent(self) -> None:
        gate = OpenGate()
        service = BaseLLMService(model="m", provider=ScriptedProvider(), gate=gate)
        await service.generate("?", tenant="T", priority=7)
        assert [(permit.key, permit.priority) for permit in gate.permits] == [("T", 7)]


class TestPauses:
    async def test_a_pause_that_is_cancelled_lasted_until_then(self) -> None:
        clock, told = ManualClock(), RecordingTelemetry()
        provider = ScriptedProvider([IN_A_MINUTE])
        service = BaseLLMService(model="m", provider=provider, clock=clock, telemetry=told)
        call = asyncio.create_task(service.generate("?"))
        await clock.run_for(0.25)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        result = told.events[-1].result
        assert result.backoff.backoffs == 1
        assert result.backoff.backoff_seconds == result.backoff.retry_after_seconds == 0.25
        assert result.timestamps.backoff_until == 250_000_000
        assert result.attempts[0].timestamps.backoff_seconds == 0.25
        assert service.usage.rows()[0].backoff_seconds == 0.25

    async def test_a_pause_that_was_over_stays_as_it_was(self) -> None:
        clock, told = ManualClock(), RecordingTelemetry()

        async def hang(_: object) -> str:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        provider = ScriptedProvider([IN_A_MINUTE, hang])
        gate = OpenGate()
        service = BaseLLMService(
            model="m", provider=provider, clock=clock, telemetry=told, gate=gate
        )
        call = asyncio.create_task(service.generate("?"))
        await clock.run_for(61.0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        result = told.events[-1].result
        assert (len(result.attempts), result.backoff.backoff_seconds) == (2, 60.0)


async def test_successes_earn_back_what_failures_took_of_the_retry_budget() -> None:
    provider = ScriptedProvider([reply for _ in range(10) for reply in (OVERLOADED, "answer")])
    # Of four tokens the second failure in a row would take the last that may be taken.
    policy = RetryPolicy(max_attempts=2, initial_seconds=0.0, budget=4.0, budget_ratio=1.0)
    service = BaseLLMService(model="m", provider=provider, retry=policy, breaker=None)
    assert all([(await service.generate("?")).success for _ in range(10)])
