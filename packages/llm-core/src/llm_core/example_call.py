"""One call as an engine makes it, for tests of telemetry backends: its result, and its life as events.

The first attempt waits at a gate and is rate limited, the second one streams the answer, a step
strips it. The call takes 910 ms; the result says every number, so that a test can expect it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from llm_core.error_info import ErrorInfo
from llm_core.error_types import ErrorType
from llm_core.frozen import FrozenDict
from llm_core.request import GenerationRequest
from llm_core.response import FinishReason
from llm_core.result import GenerationResult, InvocationAttempt, PipelineStepResult
from llm_core.telemetry import (
    AttemptEnded,
    AttemptStarted,
    FirstToken,
    GenerationFinished,
    GenerationStarted,
    StepEnded,
    TelemetryEvent,
)
from llm_core.timing import AttemptTimestamps, BackoffStats, EventTimestamps
from llm_core.trace import TraceContext
from llm_core.usage import Cost, CostStatus, Usage

__all__ = ["EXAMPLE_TRACE", "events_of", "example_result"]

_MS = 1_000_000

EXAMPLE_TRACE: Final = TraceContext(trace_id="a" * 32, span_id="b" * 16)
"""The trace that the call belongs to."""


def _attempts() -> tuple[InvocationAttempt, ...]:
    error = ErrorInfo.of(
        ErrorType.RATE_LIMITED,
        "slow down, key sk-abcdefghijklmnop123456",
        status_code=429,
        code="rate_limit_exceeded",
        retry_after=0.2,
    )
    first = AttemptTimestamps(
        enqueued=0,
        admitted=100 * _MS,
        started=100 * _MS,
        request_sent=100 * _MS,
        ended=150 * _MS,
        backoff_until=350 * _MS,
    )
    second = AttemptTimestamps(
        enqueued=350 * _MS,
        admitted=350 * _MS,
        started=350 * _MS,
        request_sent=350 * _MS,
        first_byte=400 * _MS,
        first_token=450 * _MS,
        last_token=840 * _MS,
        ended=850 * _MS,
    )
    return (
        InvocationAttempt(
            number=1,
            provider="openai",
            model="gpt-5-mini",
            timestamps=first,
            waited_for="rpm",
            error=error,
        ),
        InvocationAttempt(
            number=2,
            provider="openai",
            model="gpt-5-mini",
            timestamps=second,
            usage=Usage(input_tokens=1000, output_tokens=40, cache_read_tokens=200),
            cost=Cost(
                amount=Decimal("0.0002850"), status=CostStatus.PRICED, source="genai-prices@0.2.3"
            ),
            finish_reason=FinishReason.STOP,
            response_id="resp-1",
            provider_request_id="req-1",
        ),
    )


def example_result(**changes: Any) -> GenerationResult[Any]:
    """Return the call's result, with `changes` to its fields."""
    attempts = _attempts()
    fields: dict[str, Any] = {
        "success": True,
        "timestamps": EventTimestamps(
            requested_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
            requested=0,
            enqueued=350 * _MS,
            admitted=350 * _MS,
            started=350 * _MS,
            first_token=450 * _MS,
            ended=850 * _MS,
            refine_started=850 * _MS,
            refined=900 * _MS,
            completed=910 * _MS,
        ),
        "request": GenerationRequest(
            user="the question", model="gpt-5-mini", operation_name="translate", tenant="acme"
        ),
        "content": "the answer",
        "raw_content": "the raw answer",
        "usage": attempts[1].usage,
        "cost": attempts[1].cost,
        "attempts": attempts,
        "backoff": BackoffStats(
            gate_waits=1,
            gate_wait_seconds=0.1,
            gate_wait_by_limit=FrozenDict({"rpm": 0.1}),
            backoffs=1,
            backoff_seconds=0.2,
            retry_after_seconds=0.2,
        ),
        "steps": (
            PipelineStepResult(
                step="strip",
                success=True,
                before="the raw answer",
                after="the answer",
                duration_seconds=0.05,
                started=850 * _MS,
                ended=900 * _MS,
            ),
        ),
        "finish_reason": FinishReason.STOP,
        "model": "gpt-5-mini-2025-08-07",
        "provider": "openai",
        "operation_name": "translate",
        "request_id": "call-1",
        "trace_id": EXAMPLE_TRACE.trace_id,
        "span_id": EXAMPLE_TRACE.span_id,
        "response_id": "resp-1",
        "raw": {"id": "resp-1", "api_key": "hidden"},
    }
    return GenerationResult(**fields | changes)


def events_of(result: GenerationResult[Any]) -> list[TelemetryEvent]:
    """Return a result's life as the events that an engine would have emitted, in their order.

    The result must have its request.
    """
    assert result.request is not None
    call: dict[str, Any] = {"request_id": result.request_id}
    events: list[TelemetryEvent] = [
        GenerationStarted(
            **call, at_ns=result.timestamps.requested, request=result.request, trace=EXAMPLE_TRACE
        )
    ]
    for attempt in result.attempts:
        times = attempt.timestamps
        if times.started is not None:
            events.append(
                AttemptStarted(
                    **call,
                    at_ns=times.started,
                    number=attempt.number,
                    provider=attempt.provider,
                    model=attempt.model,
                )
            )
        if times.first_token is not None:
            events.append(FirstToken(**call, at_ns=times.first_token, number=attempt.number))
        events.append(AttemptEnded(**call, at_ns=times.ended or 0, attempt=attempt))
    events += [StepEnded(**call, at_ns=step.ended or 0, step=step) for step in result.steps]
    events.append(GenerationFinished(**call, at_ns=result.timestamps.completed or 0, result=result))
    return events
