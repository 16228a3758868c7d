"""One call through the engine, on fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from llm_core import (
    CacheMode,
    CachePolicy,
    CostStatus,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    GateTimeout,
    GenerationRequest,
    OutputError,
    ProviderResponse,
    RateLimitFacts,
    RateLimitWindow,
    TextPart,
    UnsupportedFeature,
    Usage,
)
from llm_core.testing import FakePermit, FixedPriceBook, MemoryCache, OpenGate
from llm_service import RetryPolicy

RATE_LIMITED = ErrorInfo.of(ErrorType.RATE_LIMITED, "slow down", retry_after=7.0)
OVERLOADED = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
WRONG_KEY = ErrorInfo.of(ErrorType.AUTHENTICATION, "who are you?")


def kinds(bench: Any) -> list[str]:
    return [event.kind for event in bench.telemetry.events]


async def test_a_good_answer_comes_with_everything_known_about_it(bench: Any) -> None:
    b = bench("Paris")

    result = await b.service.generate("Capital of France?", operation_name="capital_of")

    assert (result.success, result.content, result.raw_content) == (True, "Paris", "Paris")
    assert (result.model, result.provider, result.operation_name) == ("m", "scripted", "capital_of")
    assert result.usage == Usage(input_tokens=3, output_tokens=1)
    assert [a.number for a in result.attempts] == [1]
    assert result.attempts[0].reserved_tokens == 9 + 500
    assert len(result.request_id) == len(result.trace_id) == 32
    assert result.request.user == "Capital of France?"
    assert b.gate.permits[0].settled == 4
    assert b.gate.permits[0].released


async def test_every_point_of_the_life_of_a_call_is_stamped_in_order(bench: Any) -> None:
    b = bench("yes")
    result = await b.service.generate("?", pipeline=[str.upper])

    stamps = result.timestamps
    points = [
        stamps.requested,
        stamps.prepared,
        stamps.enqueued,
        stamps.admitted,
        stamps.started,
        stamps.request_sent,
        stamps.first_byte,
        stamps.ended,
        stamps.refine_started,
        stamps.refined,
        stamps.recorded,
        stamps.completed,
    ]
    assert None not in points
    assert points == sorted(points)
    assert stamps.utc("completed") == b.clock.now()


async def test_telemetry_hears_the_whole_life_of_a_call(bench: Any) -> None:
    b = bench("yes")
    result = await b.service.generate("?", pipeline=str.upper)

    assert kinds(b) == [
        "generation_started",
        "attempt_started",
        "attempt_ended",
        "step_ended",
        "generation_finished",
    ]
    assert {event.request_id for event in b.telemetry.events} == {result.request_id}
    assert b.telemetry.events[-1].result == result


async def test_broken_telemetry_breaks_no_call(bench: Any) -> None:
    class Broken:
        def emit(self, event: object) -> None:
            raise RuntimeError("disk full")

        def close(self, timeout: float | None = None) -> None:
            """Nothing to close."""

    b = bench("yes", telemetry=Broken())
    assert (await b.service.generate("?")).content == "yes"


async def test_a_retryable_failure_is_tried_again_after_what_the_provider_asked_for(
    bench: Any,
) -> None:
    b = bench(RATE_LIMITED, "late but here")

    result = await b.generate_over(60, "?")

    assert result.content == "late but here"
    first, second = result.attempts
    assert first.error == RATE_LIMITED
    assert first.timestamps.backoff_seconds == pytest.approx(7.0)
    assert second.success
    assert result.backoff.backoffs == 1
    assert result.backoff.backoff_seconds == pytest.approx(7.0)
    assert result.backoff.retry_after_seconds == pytest.approx(7.0)
    assert result.timestamps.total_seconds == pytest.approx(7.0)
    assert b.gate.held_seconds == [7.0]
    assert b.gate.permits[0].error == RATE_LIMITED


async def test_a_failure_that_retrying_cannot_help_is_returned_at_once(bench: Any) -> None:
    b = bench(WRONG_KEY, "never reached")

    result = await b.service.generate("?")

    assert not result.success
    assert result.error == WRONG_KEY
    assert len(b.provider.requests) == 1
    assert result.backoff.total_seconds == 0.0


async def test_the_last_error_is_told_when_all_attempts_fail(bench: Any) -> None:
    b = bench(OVERLOADED)

    result = await b.generate_over(600, "?")

    assert result.error == OVERLOADED
    assert [attempt.error for attempt in result.attempts] == [OVERLOADED] * 3
    assert result.backoff.backoffs == 2


async def test_the_request_may_say_how_often_to_try(bench: Any) -> None:
    b = bench(OVERLOADED)
    result = await b.generate_over(600, "?", max_attempts=1)
    assert len(result.attempts) == 1


async def test_a_pause_that_does_not_fit_the_deadline_is_not_begun(bench: Any) -> None:
    b = bench(RATE_LIMITED, "too late")

    result = await b.service.generate("?", deadline_seconds=5.0)

    assert result.error == RATE_LIMITED
    assert result.timestamps.total_seconds == 0.0


async def test_a_provider_that_asks_for_an_endless_pause_is_not_asked_again(bench: Any) -> None:
    b = bench(
        ErrorInfo.of(ErrorType.RATE_LIMITED, "tomorrow", retry_after=86_400.0),
        retry=RetryPolicy(max_retry_after_seconds=60.0),
    )
    result = await b.service.generate("?")
    assert len(result.attempts) == 1


async def test_the_deadline_ends_a_call_that_hangs(bench: Any) -> None:
    async def hang(_: object) -> str:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    b = bench(hang)
    result = await b.service.generate("?", deadline_seconds=0.02)

    assert result.error.type is ErrorType.TIMEOUT_DEADLINE
    assert b.provider.requests[0].timeout_seconds == pytest.approx(0.02)
    assert b.gate.permits[0].error.type is ErrorType.TIMEOUT_DEADLINE
    assert b.gate.permits[0].released


async def test_what_the_gates_refuse_is_a_result_with_an_attempt_that_was_not_sent(
    bench: Any,
) -> None:
    class Shut(OpenGate):
        @asynccontextmanager
        async def admit(self, **_: Any) -> AsyncIterator[FakePermit]:
            raise GateTimeout("rpm: 12 s to wait, 5 s allowed", retry_after=12.0)
            yield FakePermit()

    b = bench("never", gate=Shut())
    result = await b.service.generate("?")

    assert result.error.type is ErrorType.GATE_TIMEOUT
    assert result.error.retry_after == 12.0
    assert b.provider.requests == []
    assert result.attempts[0].timestamps.started is None


async def test_what_was_never_sent_is_given_back_to_the_gates(bench: Any) -> None:
    b = bench(UnsupportedFeature("m: no audio input"))
    result = await b.service.generate("?")

    assert result.error.type is ErrorType.INVALID_REQUEST
    assert b.gate.permits[0].cancelled


async def test_the_wait_at_the_gates_is_told_apart_from_the_providers_time(bench: Any) -> None:
    class Slow(OpenGate):
        @asynccontextmanager
        async def admit(self, **_: Any) -> AsyncIterator[FakePermit]:
            await b.clock.sleep(3.0)
            yield FakePermit(wait_seconds=3.0, waited_for="rpm")

    b = bench("yes", gate=Slow())
    result = await b.generate_over(10, "?")

    assert result.backoff.gate_wait_by_limit == {"rpm": 3.0}
    assert result.backoff.gate_waits == 1
    assert result.timestamps.queue_seconds == pytest.approx(3.0)
    assert result.timestamps.call_seconds == 0.0
    assert result.overhead_seconds == pytest.approx(0.0)


async def test_a_wait_that_no_limit_is_named_for_is_told_as_well(bench: Any) -> None:
    class Distant(OpenGate):
        @asynccontextmanager
        async def admit(self, **_: Any) -> AsyncIterator[FakePermit]:
            yield FakePermit(wait_seconds=0.25)

    result = await bench("yes", gate=Distant()).service.generate("?")

    assert result.backoff.gate_wait_seconds == 0.25
    assert result.backoff.gate_waits == 0


async def test_cancelling_gives_back_the_permit_and_is_told_to_telemetry(bench: Any) -> None:
    waiting = asyncio.Event()

    async def hang(_: object) -> str:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    b = bench(hang)
    task = asyncio.create_task(b.service.generate("?"))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert b.gate.permits[0].released
    last = b.telemetry.events[-1]
    assert last.result.error.type is ErrorType.CANCELLED
    assert last.result.attempts[0].error.type is ErrorType.CANCELLED


async def test_facts_about_limits_reach_the_gates(bench: Any) -> None:
    facts = RateLimitFacts(requests=RateLimitWindow(limit=10, remaining=3, reset_seconds=1.0))
    b = bench(
        ProviderResponse(
            provider="scripted", model="m", parts=(TextPart(text="x"),), rate_limits=facts
        )
    )
    result = await b.service.generate("?")
    assert b.gate.observed == [facts]
    assert result.attempts[0].rate_limits == facts


async def test_steps_turn_the_text_into_the_value(bench: Any) -> None:
    async def as_number(text: str) -> int:
        return int(text)

    result = await bench("41").service.generate("?", pipeline=[as_number, lambda n: n + 1])

    assert (result.content, result.raw_content) == (42, "41")
    assert [(s.before, s.after, s.success) for s in result.steps] == [
        ("41", 41, True),
        (41, 42, True),
    ]


async def test_a_failed_step_keeps_the_last_good_value(bench: Any) -> None:
    result = await bench(" x ").service.generate("?", pipeline=[str.strip, int, str.upper])

    assert not result.success
    assert result.content == "x"
    assert result.raw_content == " x "
    assert result.error.type is ErrorType.OUTPUT_INVALID
    assert result.degraded.reason is DegradedReason.LAST_GOOD_VALUE
    assert [step.success for step in result.steps] == [True, False]


async def test_a_step_object_has_a_name_and_its_own_words_for_failure(bench: Any) -> None:
    class OnlyYes:
        name = "only yes"

        def run(self, content: Any, context: Any) -> Any:
            assert context.request.user == "?"
            assert context.response.text == "no"
            raise OutputError(f"got {content!r}, expected 'yes'")

    result = await bench("no").service.generate("?", pipeline=OnlyYes())

    assert result.steps[0].step == "only yes"
    assert result.error.message == "got 'no', expected 'yes'"


async def test_the_fallback_value_stands_in_and_says_so(bench: Any) -> None:
    result = await bench(WRONG_KEY).service.generate("?", fallback_value=None)

    assert result.success
    assert result.content is None
    assert result.degraded.reason is DegradedReason.FALLBACK_VALUE
    assert result.error == WRONG_KEY


async def test_what_had_arrived_of_a_failed_reply_is_kept_and_counted(bench: Any) -> None:
    partial = ProviderResponse(
        provider="scripted",
        model="m",
        parts=(TextPart(text="The capi"),),
        usage=Usage(input_tokens=5, output_tokens=2, estimated=True),
    )
    cut = ErrorInfo.of(ErrorType.TRUNCATED, "cut off", retryable=False, partial=partial)
    prices = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(10))

    result = await bench(cut, price_book=prices).service.generate("?")

    assert result.raw_content == "The capi"
    assert result.usage == partial.usage
    assert result.cost.amount == Decimal("0.000025")
    assert result.cost.status is CostStatus.ESTIMATED


async def test_every_attempt_is_paid_for(bench: Any) -> None:
    prices = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(1))
    reply = ProviderResponse(
        provider="p", model="m", usage=Usage(input_tokens=10), parts=(TextPart(text="x"),)
    )
    lost = ErrorInfo.of(ErrorType.TRUNCATED, "cut off", partial=reply)

    result = await bench(lost, reply, price_book=prices).generate_over(60, "?")

    assert [attempt.cost.amount for attempt in result.attempts] == [Decimal("0.00001")] * 2
    assert result.cost.amount == Decimal("0.00002")


async def test_without_a_price_book_nothing_is_priced_and_nothing_costs_zero(bench: Any) -> None:
    result = await bench("x").service.generate("?")
    assert result.cost.amount is None
    assert result.cost.status is CostStatus.UNPRICED


async def test_the_cache_answers_the_second_time(bench: Any) -> None:
    b = bench("first", "second", cache=MemoryCache())
    keep = CachePolicy(mode=CacheMode.USE, ttl_seconds=60.0)

    first = await b.service.generate("?", cache=keep)
    again = await b.service.generate("?", cache=keep, request_id="mine")
    fresh = await b.service.generate("?", cache=CachePolicy(mode=CacheMode.REFRESH))
    other = await b.service.generate("?", cache=keep, tenant="somebody else")

    assert (first.content, first.cached) == ("first", False)
    assert (again.content, again.cached, again.request_id) == ("first", True, "mine")
    assert again.usage.total_tokens == 0
    assert again.attempts == ()
    assert fresh.content == "second"
    assert not other.cached


async def test_failures_are_not_cached(bench: Any) -> None:
    b = bench(WRONG_KEY, "good", cache=MemoryCache())
    keep = CachePolicy(mode=CacheMode.USE)
    assert not (await b.service.generate("?", cache=keep)).success
    assert (await b.service.generate("?", cache=keep)).content == "good"


async def test_a_cache_that_cannot_store_spoils_no_answer(bench: Any) -> None:
    class Full(MemoryCache):
        async def put(self, key: str, result: object, *, ttl_seconds: float) -> None:
            raise OSError("no space left")

    b = bench("good", cache=Full())
    result = await b.service.generate("?", cache=CachePolicy(mode=CacheMode.USE))
    assert result.content == "good"


async def test_a_fault_of_the_provider_class_itself_is_an_internal_error(bench: Any) -> None:
    result = await bench(ZeroDivisionError("oops")).service.generate("?")
    assert result.error.type is ErrorType.INTERNAL
    assert "ZeroDivisionError" in result.error.message


async def test_a_request_that_cannot_be_made_is_answered_too(bench: Any) -> None:
    b = bench("never")

    empty = await b.service.generate("")
    unknown = await b.service.generate("?", temperatur=1.0)

    assert empty.error.type is unknown.error.type is ErrorType.INVALID_REQUEST
    assert "GenerationRequest.user" in empty.error.message
    assert "temperatur" in unknown.error.message
    assert empty.request is None
    assert b.provider.requests == []


async def test_a_text_given_twice_is_refused(bench: Any) -> None:
    b = bench("never")
    for name in ("Bye", None):
        result = await b.service.generate("Hello", user=name)
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert result.error.message.startswith("user: given twice")
    assert b.provider.requests == []


async def test_keywords_change_a_ready_request(bench: Any) -> None:
    b = bench("yes")
    request = GenerationRequest(user="?", seed=1)
    result = await b.service.generate(request, seed=2)
    assert result.request.seed == 2
    assert request.seed == 1


async def test_a_service_without_model_says_what_is_missing(bench: Any) -> None:
    result = await bench("x", model=None).service.generate("?")
    assert result.error.type is ErrorType.INVALID_REQUEST
    assert "model" in result.error.message


async def test_the_providers_prefix_is_taken_off_the_model(bench: Any) -> None:
    b = bench("x")
    await b.service.generate("?", model="scripted/large")
    assert b.provider.requests[0].model == "large"
