"""Calls that pipeline steps make on behalf of a call: on its ledger, for its tenant, in its trace, told once each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llm_core import (
    AttemptEnded,
    AttemptStarted,
    ErrorInfo,
    ErrorType,
    GenerationRequest,
    TraceContext,
)
from llm_core.testing import FixedPriceBook, OpenGate, RecordingTelemetry, ScriptedProvider
from llm_metrics import MetricsRecorder, use_trace
from llm_service import BaseLLMService, RetryPolicy
from llm_telemetry_otel import OTelTelemetry
from llm_telemetry_prometheus import PrometheusTelemetry

BUSY = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
PRICES = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(1))
NO_PAUSE = RetryPolicy(initial_seconds=0.0)


class Helped:
    """A step that asks a question, `times` at once; `results` keeps what it was told."""

    name = "helped"

    def __init__(self, times: int = 1, **fields: Any) -> None:
        self.times = times
        self.fields = {"user": "is it so?", **fields}
        self.results: list[Any] = []

    async def run(self, content: Any, context: Any) -> Any:
        calls = [
            context.generate(GenerationRequest(**self.fields), purpose="check")
            for _ in range(self.times)
        ]
        self.results += await asyncio.gather(*calls)
        return content


class AtOnce:
    """Replies in turn, but to helpers only when all of them ask."""

    def __init__(self, helpers: int, *replies: Any) -> None:
        self.helpers = helpers
        self.all_ask = asyncio.Event()
        self.replies = list(replies)
        self.provider = ScriptedProvider([self.answer])

    async def answer(self, _: object) -> Any:
        asked = len(self.provider.requests)
        if asked == 1 + self.helpers:
            self.all_ask.set()
        if asked > 1:
            await self.all_ask.wait()
        return self.replies.pop(0) if self.replies else "yes"


def named(attempts: Any) -> list[tuple[int, str]]:
    return sorted((attempt.number, attempt.purpose) for attempt in attempts)


FOUR = [(1, "answer"), (2, "check"), (3, "check"), (4, "check")]


class TestTelemetry:
    async def test_every_attempt_is_told_once_as_the_result_has_it(self) -> None:
        told = RecordingTelemetry()
        service = BaseLLMService(model="m", provider=AtOnce(3).provider, telemetry=told)

        result = await service.generate("?", pipeline=Helped(3))

        assert [(a.number, a.purpose) for a in result.attempts] == FOUR
        started = [event for event in told.events if isinstance(event, AttemptStarted)]
        ended = [event.attempt for event in told.events if isinstance(event, AttemptEnded)]
        assert {event.request_id for event in started} == {result.request_id}
        assert [event.number for event in started] == [1, 2, 3, 4]
        assert sorted(ended, key=lambda attempt: attempt.number) == list(result.attempts)

    async def test_a_helper_that_is_tried_again_is_numbered_on(self) -> None:
        told = RecordingTelemetry()
        step = Helped()
        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider(["raw", BUSY, "yes"]),
            telemetry=told,
            retry=NO_PAUSE,
        )
        result = await service.generate("?", pipeline=step)

        ended = [event.attempt for event in told.events if isinstance(event, AttemptEnded)]
        assert named(ended) == named(result.attempts) == FOUR[:3]
        assert named(step.results[0].attempts) == FOUR[1:3]
        assert result.backoff.backoffs == 1
        assert result.timestamps.backoff_until == result.attempts[1].timestamps.backoff_until

    async def test_a_helper_of_a_helper_is_on_the_ledger_of_the_call(self) -> None:
        told = RecordingTelemetry()
        step = Helped(pipeline=Helped())
        service = BaseLLMService(model="m", provider=ScriptedProvider(), telemetry=told)
        result = await service.generate("?", pipeline=step)
        ended = [event.attempt for event in told.events if isinstance(event, AttemptEnded)]
        assert named(ended) == named(result.attempts) == FOUR[:3]
        assert len(step.results[0].attempts) == 2

    async def test_a_helper_that_outlasts_its_call_ends_all_the_same(self) -> None:
        told = RecordingTelemetry()
        go = asyncio.Event()
        helpers: list[asyncio.Task[Any]] = []

        async def answer(request: Any) -> str:
            if request.messages[-1].text == "later":
                await go.wait()
            return "yes"

        class Leave:
            name = "leave"

            async def run(self, content: Any, context: Any) -> Any:
                request = GenerationRequest(user="later")
                helpers.append(asyncio.ensure_future(context.generate(request, purpose="check")))
                while len(provider.requests) < 2:
                    await asyncio.sleep(0)
                return content

        provider = ScriptedProvider([answer])
        service = BaseLLMService(model="m", provider=provider, telemetry=told)
        result = await service.generate("?", pipeline=Leave())
        go.set()
        helped = await helpers[0]

        assert result.attempts[1].timestamps.ended is None
        assert helped.attempts[0].timestamps.ended is not None
        assert told.events[-1].attempt == helped.attempts[0]

    async def test_opentelemetry_gets_a_span_for_each_attempt_and_ends_it(self) -> None:
        exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        provider = AtOnce(3).provider
        service = BaseLLMService(
            model="m",
            provider=provider,
            telemetry=OTelTelemetry(tracer_provider=tracers, meter_provider=MeterProvider()),
        )
        await service.generate("?", pipeline=Helped(3))

        *attempts, call = exporter.get_finished_spans()
        facts = [dict(span.attributes or {}) for span in attempts]
        key = "llm_service.attempt."
        assert sorted((f[f"{key}number"], f[f"{key}purpose"]) for f in facts) == FOUR
        assert {span.parent.span_id for span in attempts} == {call.context.span_id}
        # A helper's question is another one, and not the first one sent again.
        assert not [f for f in facts if "http.request.resend_count" in f]
        # Each is sent from inside the span that is its own.
        own = {f"{span.context.span_id:016x}" for span in attempts}
        assert {r.headers["traceparent"].split("-")[2] for r in provider.requests} == own

    async def test_prometheus_counts_one_call_with_all_its_attempts(self) -> None:
        prometheus = PrometheusTelemetry()
        service = BaseLLMService(
            model="m", provider=AtOnce(3).provider, telemetry=prometheus, price_book=PRICES
        )
        result = await service.generate("one two", pipeline=Helped(3))

        text = prometheus.render().decode()
        samples = {
            line.split("{")[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if "{" in line and "_bucket" not in line
        }
        assert samples["llm_service_attempts_total"] == 4
        assert samples["gen_ai_client_operation_duration_seconds_count"] == 1
        assert samples["llm_service_cost_total"] == float(result.cost.amount)
        assert float(text.split("\nllm_service_in_flight ")[1].split("\n")[0]) == 0

    async def test_metrics_and_usage_count_what_the_result_says(self) -> None:
        recorder = MetricsRecorder()
        service = BaseLLMService(
            model="m",
            provider=AtOnce(3, "raw", "a", BUSY, "b c").provider,
            telemetry=recorder,
            retry=NO_PAUSE,
            price_book=PRICES,
        )
        result = await service.generate("?", operation_name="ask", pipeline=Helped(3))

        assert len(result.attempts) == 5
        for stats in (service.snapshot().stats, recorder.snapshot()):
            ask = stats.by_operation["ask"]
            assert (ask.sent, ask.received, ask.failed) == (5, 4, 1)
            assert ask.input_tokens_per_minute == result.usage.input_tokens
        (row,) = service.usage.rows()
        assert (row.calls, row.attempts, row.usage) == (1, 5, result.usage)
        assert row.cost["USD"].amount == result.cost.amount


class TestWhoseItIs:
    @pytest.fixture
    def asked(self) -> Callable[..., Any]:
        async def ask(step: Helped, **fields: Any) -> tuple[BaseLLMService, list[Any]]:
            gate = OpenGate()
            service = BaseLLMService(model="m", provider=ScriptedProvider(), gate=gate)
            assert (await service.generate("?", pipeline=step, **fields)).success
            return service, [(permit.key, permit.priority) for permit in gate.permits]

        return ask

    async def test_the_gates_know_the_tenant_and_priority_of_a_call(self, asked: Any) -> None:
        _, told = await asked(Helped(), tenant="T", priority=7)
        assert told == [("T", 7)] * 2

    async def test_a_step_may_ask_for_another_tenant_and_priority(self, asked: Any) -> None:
        service, told = await asked(Helped(tenant="U", priority=1), tenant="T", priority=7)
        assert told == [("T", 7), ("U", 1)]
        by_tenant = service.snapshot().stats.by_tenant
        assert {tenant: stats.sent for tenant, stats in by_tenant.items()} == {"T": 1, "U": 1}

    async def test_metrics_count_a_helper_for_the_tenant_of_the_call(self, asked: Any) -> None:
        service, _ = await asked(Helped(), tenant="T")
        assert service.snapshot().stats.by_tenant["T"].sent == 2

    async def test_a_helper_is_sent_in_the_trace_of_the_call(self) -> None:
        provider = ScriptedProvider()
        service = BaseLLMService(model="m", provider=provider)
        step = Helped()
        trace = TraceContext.new()
        with use_trace(trace):
            result = await service.generate("?", pipeline=step)
        sent = [request.headers["traceparent"] for request in provider.requests]
        assert sent == [trace.headers()["traceparent"]] * 2
        assert step.results[0].trace_id == result.trace_id
        assert step.results[0].request_id == result.request_id


@pytest.mark.parametrize("deadline_seconds", [None, 60.0])
async def test_a_helpers_own_deadline_holds_if_it_is_the_shorter_one(
    deadline_seconds: float | None,
) -> None:
    async def answer(request: Any) -> str:
        if request.messages[-1].text == "is it so?":
            await asyncio.sleep(60)
        return "yes"

    step = Helped(deadline_seconds=0.02)
    service = BaseLLMService(model="m", provider=ScriptedProvider([answer]))
    result = await service.generate("?", pipeline=step, deadline_seconds=deadline_seconds)
    assert result.content == "yes"
    assert step.results[0].error.type is ErrorType.TIMEOUT_DEADLINE
