"""Fallback models, retry budgets and hedging, on fakes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_core import (
    DegradedReason,
    ErrorInfo,
    ErrorType,
    FinishReason,
    GenerationRequest,
    InvalidValue,
    LLMCallRequest,
    ProviderResponse,
    TextPart,
    Usage,
)
from llm_core.testing import ManualClock, OpenGate, RecordingTelemetry, ScriptedProvider
from llm_providers import ProviderRegistry
from llm_service import BaseLLMService, Fallback, HedgePolicy, RetryBudget, RetryPolicy

OVERLOADED = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
WRONG_KEY = ErrorInfo.of(ErrorType.AUTHENTICATION, "who?")
MALFORMED = ErrorInfo.of(ErrorType.INVALID_REQUEST, "no such field")
ONCE = RetryPolicy(max_attempts=1)


def by_model(**replies: Any) -> ScriptedProvider:
    """Answer each model with its own reply."""
    return ScriptedProvider([lambda request: replies[request.model]])


async def test_the_next_model_answers_and_the_result_says_so() -> None:
    provider = by_model(large=OVERLOADED, small="from small")
    service = BaseLLMService(model="large", provider=provider, fallbacks=["small"], retry=ONCE)

    result = await service.generate("?")

    assert (result.success, result.content, result.model) == (True, "from small", "small")
    assert result.degraded.reason is DegradedReason.FALLBACK_MODEL
    assert result.degraded.error == OVERLOADED
    assert [(a.number, a.model, a.success) for a in result.attempts] == [
        (1, "large", False),
        (2, "small", True),
    ]


async def test_a_fault_of_the_request_itself_is_asked_of_nobody_else() -> None:
    provider = by_model(large=MALFORMED, small="never")
    service = BaseLLMService(model="large", provider=provider, fallbacks=["small"])
    assert (await service.generate("?")).error == MALFORMED


async def test_each_rung_says_what_it_is_for() -> None:
    provider = by_model(large=WRONG_KEY, a="never", b="b", c="never")
    rungs = [
        Fallback(model="a", on=[ErrorType.CONTEXT_TOO_LONG]),
        Fallback(model="b", on=lambda error: error.type == "authentication"),
        Fallback(model="c"),
    ]
    service = BaseLLMService(model="large", provider=provider, fallbacks=rungs)
    assert (await service.generate("?")).content == "b"


async def test_the_last_error_is_told_when_every_rung_fails() -> None:
    provider = by_model(large=OVERLOADED, small=WRONG_KEY)
    service = BaseLLMService(model="large", provider=provider, fallbacks=["small"], retry=ONCE)
    result = await service.generate("?", fallback_value="nothing")
    assert result.error == WRONG_KEY
    assert (result.success, result.content) == (True, "nothing")
    assert result.degraded.reason is DegradedReason.FALLBACK_VALUE


async def test_a_fault_in_a_providers_code_may_spare_the_next_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = by_model(large=RuntimeError("a fault"), small="from small")
    service = BaseLLMService(model="large", provider=provider, fallbacks=["small"])
    result = await service.generate("?")
    assert result.content == "from small"
    assert result.degraded.error.type is ErrorType.INTERNAL
    assert "RuntimeError: a fault" in caplog.text


async def test_a_model_that_nobody_has_is_answered_for_by_the_next() -> None:
    registry = ProviderRegistry({"vendor": ScriptedProvider(["from small"])})
    service = BaseLLMService(
        model="large", registry=registry, fallbacks=["no/such", "vendor/small"]
    )
    result = await service.generate("?")
    assert (result.content, result.model) == ("from small", "small")
    assert result.degraded.reason is DegradedReason.FALLBACK_MODEL
    assert result.degraded.error.type is ErrorType.MODEL_NOT_FOUND


async def test_nobody_is_asked_twice_by_the_ladder() -> None:
    provider = by_model(large=OVERLOADED, small=WRONG_KEY, tiny="from tiny")
    service = BaseLLMService(
        model="large",
        provider=provider,
        fallbacks=["small", "scripted/small", "large", "tiny"],
        retry=ONCE,
    )
    service.use_model("small")
    result = await service.generate("?")
    assert [attempt.model for attempt in result.attempts] == ["small", "large", "tiny"]
    assert result.degraded.error == WRONG_KEY


async def test_no_rung_is_tried_after_the_deadline() -> None:
    async def hang(request: LLMCallRequest) -> str:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    provider = by_model(large=hang, small="never")
    rungs = [Fallback(model="small", on=list(ErrorType))]
    service = BaseLLMService(model="large", provider=provider, fallbacks=rungs)
    result = await service.generate("?", deadline_seconds=0.02)
    assert result.error.type is ErrorType.TIMEOUT_DEADLINE
    assert [a.model for a in result.attempts] == ["large"]


@pytest.mark.parametrize("rung", [{"model": ""}, {"model": 3}])
def test_a_rung_without_a_model_is_refused(rung: Any) -> None:
    with pytest.raises(InvalidValue, match=r"Fallback\.model: got "):
        Fallback(**rung)


def test_a_rung_for_an_unknown_kind_of_failure_is_refused() -> None:
    with pytest.raises(ValueError, match="no_such_type"):
        Fallback(model="m", on=["no_such_type"])


class TestRetryBudget:
    def test_failures_drain_it_until_nothing_is_retried(self) -> None:
        budget = RetryBudget(10.0, ratio=0.5)
        for _ in range(4):
            budget.note_failure()
        assert budget.allows_retry
        budget.note_failure()
        assert not budget.allows_retry

    def test_successes_earn_retries_back(self) -> None:
        budget = RetryBudget(10.0, ratio=0.5)
        for _ in range(5):
            budget.note_failure()
        budget.note_success()
        assert budget.allows_retry

    @pytest.mark.parametrize(("capacity", "ratio"), [(0, 0.1), (float("inf"), 0.1), (1, 0), (1, 2)])
    def test_what_cannot_be_is_refused(self, capacity: float, ratio: float) -> None:
        with pytest.raises(InvalidValue):
            RetryBudget(capacity, ratio=ratio)

    async def test_an_outage_is_not_amplified(self) -> None:
        provider = ScriptedProvider([OVERLOADED])
        policy = RetryPolicy(max_attempts=3, initial_seconds=0.0, budget=20.0)
        service = BaseLLMService(model="m", provider=provider, retry=policy, breaker=None)
        for _ in range(100):
            assert (await service.generate("?")).error == OVERLOADED
        assert len(provider.requests) <= 100 + 20 / 2


class TestHedging:
    def service(self, replies: Any, **policy: Any) -> tuple[BaseLLMService, RecordingTelemetry]:
        telemetry = RecordingTelemetry()
        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider(replies),
            hedge=HedgePolicy(**policy),
            telemetry=telemetry,
        )
        return service, telemetry

    async def test_a_slow_first_attempt_gets_company_and_the_faster_one_wins(self) -> None:
        cancelled = []

        async def hang(_: object) -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append("first")
                raise
            raise AssertionError("unreachable")

        service, _ = self.service([hang, "from the hedge"], after_seconds=0.01)
        result = await service.generate("eight ch")

        assert result.content == "from the hedge"
        assert cancelled == ["first"]
        loser, winner = result.attempts
        assert (loser.purpose, winner.purpose) == ("answer", "hedge")
        assert loser.error.type is ErrorType.CANCELLED
        assert loser.usage.input_tokens == 6
        assert result.usage.estimated

    async def test_a_quick_answer_is_not_hedged(self) -> None:
        service, _ = self.service(["quick"], after_seconds=5.0)
        assert len((await service.generate("?")).attempts) == 1

    async def test_hedges_stay_within_their_budget(self) -> None:
        async def slow(_: object) -> str:
            await asyncio.sleep(0.01)
            return "slow"

        service, _ = self.service([slow], after_seconds=0.001, budget_ratio=0.1)
        results = [await service.generate("?") for _ in range(20)]
        hedged = sum(len(result.attempts) > 1 for result in results)
        assert 1 <= hedged <= 3

    async def test_without_experience_nothing_is_hedged(self) -> None:
        service, _ = self.service(["x"])
        for _ in range(30):
            assert len((await service.generate("?")).attempts) == 1

    async def test_the_first_error_is_told_when_both_fail(self) -> None:
        async def fail_late(_: object) -> ErrorInfo:
            await asyncio.sleep(0.02)
            return WRONG_KEY

        service, _ = self.service([fail_late, MALFORMED], after_seconds=0.001)
        assert (await service.generate("?")).error == WRONG_KEY

    @pytest.mark.parametrize("bad", [{"after_seconds": 0}, {"budget_ratio": 0}])
    def test_what_cannot_be_is_refused(self, bad: Any) -> None:
        with pytest.raises(InvalidValue):
            HedgePolicy(**bad)


async def test_a_step_may_ask_again_on_the_same_ledger() -> None:
    class Isolate:
        name = "isolate"

        async def run(self, content: Any, context: Any) -> Any:
            from llm_core import GenerationRequest

            again = await context.generate(
                GenerationRequest(user=f"Only the city of: {content}"), purpose="isolation"
            )
            return again.unwrap()

    clock = ManualClock()
    provider = ScriptedProvider(["It is Paris, of course.", "Paris"])
    service = BaseLLMService(model="m", provider=provider, clock=clock)

    result = await service.generate("Capital of France?", pipeline=[Isolate()], deadline_seconds=9)

    assert result.content == "Paris"
    assert [(a.number, a.purpose) for a in result.attempts] == [(1, "answer"), (2, "isolation")]
    assert result.usage.input_tokens == 3 + 9
    assert provider.requests[1].timeout_seconds == 9


async def test_a_helper_call_that_fails_is_a_result_for_the_step() -> None:
    class Ask:
        name = "ask"

        async def run(self, content: Any, context: Any) -> Any:
            from llm_core import GenerationRequest

            again = await context.generate(GenerationRequest(user="?"), purpose="reask")
            return again.error.type

    provider = ScriptedProvider(["x", WRONG_KEY])
    service = BaseLLMService(model="m", provider=provider)
    result = await service.generate("?", pipeline=Ask())
    assert result.content is ErrorType.AUTHENTICATION
    assert len(result.attempts) == 2


class TestRepliesThatAreNoAnswers:
    @pytest.mark.parametrize(
        ("reason", "kind"),
        [
            (FinishReason.REFUSAL, ErrorType.REFUSED),
            (FinishReason.CONTENT_FILTER, ErrorType.CONTENT_FILTERED),
            (FinishReason.INCOMPLETE, ErrorType.TRUNCATED),
        ],
    )
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_they_are_failures_that_keep_text_and_bill(
        self, reason: FinishReason, kind: ErrorType, streamed: bool
    ) -> None:
        reply = ProviderResponse(
            provider="scripted",
            model="m",
            parts=(TextPart(text="I will not."),),
            usage=Usage(input_tokens=3, output_tokens=4),
            finish_reason=reason,
        )
        gate = OpenGate()
        service = BaseLLMService(
            model="m", provider=ScriptedProvider([reply]), gate=gate, retry=ONCE
        )
        if streamed:
            result = [event async for event in service.stream("?")][-1].result  # type: ignore[union-attr]
        else:
            result = await service.generate("?")
        assert (result.success, result.error.type, result.finish_reason) == (False, kind, reason)
        assert "I will not." in result.error.message
        assert (result.content, result.raw_content) == (None, "I will not.")
        assert (result.usage.total_tokens, gate.permits[0].settled) == (7, 7)

    async def test_another_model_may_answer(self) -> None:
        refusal = ProviderResponse(
            provider="scripted", model="large", finish_reason=FinishReason.REFUSAL
        )
        provider = by_model(large=refusal, small="from small")
        service = BaseLLMService(model="large", provider=provider, fallbacks=["small"])
        result = await service.generate("?")
        assert result.content == "from small"
        assert result.degraded.error.type is ErrorType.REFUSED

    async def test_what_the_token_limit_cut_off_is_an_answer(self) -> None:
        cut = ProviderResponse(
            provider="scripted",
            model="m",
            parts=(TextPart(text="yes, bec"),),
            finish_reason=FinishReason.LENGTH,
        )
        service = BaseLLMService(model="m", provider=ScriptedProvider([cut]))
        result = await service.generate("?", max_output_tokens=3)
        assert (result.content, result.finish_reason) == ("yes, bec", FinishReason.LENGTH)


class TestStrayCancellation:
    async def test_what_a_step_awaits_may_be_cancelled_without_the_call(self) -> None:
        async def step(_: str) -> str:
            inner = asyncio.ensure_future(asyncio.sleep(5))
            inner.cancel()
            await inner
            return "never"

        service = BaseLLMService(model="m", provider=ScriptedProvider(["raw"]))
        requests = [GenerationRequest(user=text, pipeline=[step]) for text in "abc"]
        results = [result async for _, result in service.generate_many(requests)]
        assert [r.error.type for r in results] == [ErrorType.INTERNAL] * 3
        assert "was not cancelled itself" in results[0].error.message
        substitute = await service.generate("?", pipeline=[step], fallback_value="instead")
        assert (substitute.success, substitute.content) == (True, "instead")
