"""Results tell everything: every field that can be known is filled in, and by the right value."""

from __future__ import annotations

import itertools
from dataclasses import fields
from decimal import Decimal
from typing import Any

import pytest

from llm_core import (
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    InvocationAttempt,
    ProviderResponse,
    RateLimitFacts,
    RateLimitWindow,
    Rates,
    ReasoningPart,
    StreamResult,
    TextPart,
    ToolCall,
    Usage,
)
from llm_core.testing import FixedPriceBook, ManualClock, ScriptedProvider
from llm_service import BaseLLMService, RetryPolicy

CALL = ToolCall(id="call_1", name="look_up", arguments_text='{"city": "Bern"}')
FULL = ProviderResponse(
    provider="vendor",
    model="m-2026",
    parts=(ReasoningPart(text="Hm."), TextPart(text="Bern"), CALL),
    usage=Usage(input_tokens=8, output_tokens=2),
    finish_reason=FinishReason.TOOL_CALLS,
    response_id="resp_1",
    provider_request_id="req_1",
    rate_limits=RateLimitFacts(requests=RateLimitWindow(limit=100, remaining=99)),
    structured_by="native",
    dropped=("seed",),
    raw={"id": "resp_1"},
)
PART = ProviderResponse(
    provider="vendor",
    model="m-2026",
    parts=(TextPart(text="Be"),),
    usage=Usage(input_tokens=8, output_tokens=1),
    finish_reason=FinishReason.INCOMPLETE,
    response_id="resp_2",
)
BROKEN = ErrorInfo.of(
    ErrorType.CONNECTION, "reset by peer", partial=PART, provider_request_id="req_2"
)
LATER = ("enqueued", "admitted", "started", "first_byte", "first_token", "last_token", "ended")


class TickingClock(ManualClock):
    """A clock of which no two readings are the same."""

    def __init__(self) -> None:
        super().__init__()
        self._ticks = itertools.count(1)

    def monotonic_ns(self) -> int:
        return next(self._ticks)


@pytest.fixture
def service() -> Any:
    def make(*replies: Any) -> BaseLLMService:
        prices = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(10))
        return BaseLLMService(
            model="m",
            provider=ScriptedProvider(replies, name="vendor"),
            price_book=prices,
            retry=RetryPolicy(max_attempts=1),
            clock=TickingClock(),
        )

    return make


def given(record: Any, *but: str) -> dict[str, Any]:
    """Return the fields of a record that differ from their defaults."""
    values = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in but}
    defaults = {f.name: f.default for f in fields(record)}
    return {name: value for name, value in values.items() if value != defaults[name]}


def points(times: Any) -> list[str]:
    """Return the points that happened, in the order in which they did."""
    happened = [f.name for f in fields(times) if isinstance(getattr(times, f.name), int)]
    return sorted(happened, key=lambda name: getattr(times, name))


def assert_same_attempt(times: EventTimestamps, attempt: InvocationAttempt) -> None:
    """The times of a call are those of its last attempt."""
    for name in LATER:
        assert getattr(times, name) == getattr(attempt.timestamps, name), name


async def test_a_full_reply(service: Any) -> None:
    result = await service(FULL).generate(
        GenerationRequest(user="?", operation_name="ask", request_id="r", pipeline=str.lower)
    )
    attempt = result.attempts[0]
    assert given(attempt, "timestamps") == {
        "number": 1,
        "provider": "vendor",
        "model": "m",
        "reserved_tokens": attempt.reserved_tokens,
        "usage": FULL.usage,
        "cost": result.cost,
        "finish_reason": FinishReason.TOOL_CALLS,
        "response_id": "resp_1",
        "provider_request_id": "req_1",
        "rate_limits": FULL.rate_limits,
    }
    assert given(result, "timestamps", "attempts", "steps", "trace_id", "span_id") == {
        "request": result.request,
        "success": True,
        "content": "bern",
        "raw_content": "Bern",
        "usage": FULL.usage,
        "cost": Cost(amount=Decimal("0.000028"), status=CostStatus.PRICED, source="fixed"),
        "finish_reason": FinishReason.TOOL_CALLS,
        "reasoning": "Hm.",
        "tool_calls": (CALL,),
        "rates": Rates(rpm_after=1.0, tpm_after=10.0),
        "model": "m-2026",
        "provider": "vendor",
        "operation_name": "ask",
        "request_id": "r",
        "response_id": "resp_1",
        "structured_by": "native",
        "dropped": ("seed",),
        "raw": {"id": "resp_1"},
    }
    assert [step.after for step in result.steps] == ["bern"]
    assert (len(result.trace_id), len(result.span_id)) == (32, 16)
    assert_same_attempt(result.timestamps, attempt)
    assert points(result.timestamps) == [
        "requested",
        "prepared",
        "enqueued",
        "admitted",
        "started",
        "request_sent",
        "first_byte",
        "ended",
        "refine_started",
        "refined",
        "recorded",
        "completed",
    ]


async def test_a_failure_keeps_what_had_arrived(service: Any) -> None:
    result = await service(BROKEN).generate("?", request_id="r")
    attempt = result.attempts[0]
    expected = {
        "number": 1,
        "provider": "vendor",
        "model": "m",
        "reserved_tokens": attempt.reserved_tokens,
        "error": result.error,
        "usage": PART.usage,
        "cost": result.cost,
        "finish_reason": FinishReason.INCOMPLETE,
        "response_id": "resp_2",
        "provider_request_id": "req_2",
    }
    assert given(attempt, "timestamps") == expected
    known = given(result, "timestamps", "attempts", "trace_id", "span_id", "rates", "cost")
    assert known == {
        "request": result.request,
        "success": False,
        "raw_content": "Be",
        "error": BROKEN,
        "usage": PART.usage,
        "finish_reason": FinishReason.INCOMPLETE,
        "model": "m-2026",
        "provider": "vendor",
        "request_id": "r",
        "response_id": "resp_2",
    }
    assert_same_attempt(result.timestamps, attempt)
    assert "first_byte" not in points(result.timestamps)


async def test_a_stream_that_was_cut(service: Any) -> None:
    events = [event async for event in service(BROKEN).stream("?")]
    assert isinstance(events[-1], StreamResult)
    result: GenerationResult[Any] = events[-1].result
    assert (result.success, result.raw_content) == (False, "Be")
    assert_same_attempt(result.timestamps, result.attempts[0])
    assert points(result.timestamps)[4:] == [
        "started",
        "request_sent",
        "first_byte",
        "first_token",
        "last_token",
        "ended",
        "recorded",
        "completed",
    ]
