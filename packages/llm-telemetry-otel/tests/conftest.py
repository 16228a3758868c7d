"""Finished calls to measure, as an engine makes them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from llm_core import (
    AttemptEnded,
    AttemptStarted,
    AttemptTimestamps,
    BackoffStats,
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    FinishReason,
    FirstToken,
    FrozenDict,
    GenerationFinished,
    GenerationRequest,
    GenerationResult,
    GenerationStarted,
    InvocationAttempt,
    PipelineStepResult,
    StepEnded,
    TelemetryEvent,
    TraceContext,
    Usage,
)

MILLISECOND = 1_000_000

TRACE = TraceContext(trace_id="a" * 32, span_id="b" * 16)


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
        admitted=100 * MILLISECOND,
        started=100 * MILLISECOND,
        request_sent=100 * MILLISECOND,
        ended=150 * MILLISECOND,
        backoff_until=350 * MILLISECOND,
    )
    second = AttemptTimestamps(
        enqueued=350 * MILLISECOND,
        admitted=350 * MILLISECOND,
        started=350 * MILLISECOND,
        request_sent=350 * MILLISECOND,
        first_byte=400 * MILLISECOND,
        first_token=450 * MILLISECOND,
        last_token=840 * MILLISECOND,
        ended=850 * MILLISECOND,
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


def _result(**changes: Any) -> GenerationResult[Any]:
    attempts = _attempts()
    fields: dict[str, Any] = {
        "success": True,
        "timestamps": EventTimestamps(
            requested_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
            requested=0,
            enqueued=350 * MILLISECOND,
            admitted=350 * MILLISECOND,
            started=350 * MILLISECOND,
            first_token=450 * MILLISECOND,
            ended=850 * MILLISECOND,
            refine_started=850 * MILLISECOND,
            refined=900 * MILLISECOND,
            completed=910 * MILLISECOND,
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
                started=850 * MILLISECOND,
                ended=900 * MILLISECOND,
            ),
        ),
        "finish_reason": FinishReason.STOP,
        "model": "gpt-5-mini-2025-08-07",
        "provider": "openai",
        "operation_name": "translate",
        "request_id": "call-1",
        "trace_id": TRACE.trace_id,
        "span_id": TRACE.span_id,
        "response_id": "resp-1",
        "raw": {"id": "resp-1", "api_key": "hidden"},
    }
    return GenerationResult(**fields | changes)


def _events(result: GenerationResult[Any]) -> list[TelemetryEvent]:
    """Tell the life of a call the way an engine does."""
    assert result.request is not None
    call = {"request_id": result.request_id}
    events: list[TelemetryEvent] = [
        GenerationStarted(**call, at_ns=0, request=result.request, trace=TRACE)
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


@pytest.fixture
def make_result() -> Callable[..., GenerationResult[Any]]:
    """Give a function that makes a call's result: a rate-limited attempt, then a streamed answer."""
    return _result


@pytest.fixture
def result() -> GenerationResult[Any]:
    """Give that call's result, unchanged."""
    return _result()


@pytest.fixture
def events_of() -> Callable[[GenerationResult[Any]], list[TelemetryEvent]]:
    """Give a function that tells a result's life as events."""
    return _events


@pytest.fixture
def events(result: GenerationResult[Any]) -> list[TelemetryEvent]:
    """Give the life of the call as events."""
    return _events(result)
