"""Results: matched, chained and left without a `try`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_core import (
    AttemptTimestamps,
    AudioPart,
    Degradation,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    GenerationRequest,
    GenerationResult,
    InvocationAttempt,
    Message,
    PipelineStepResult,
    ProviderError,
    ProviderResponse,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    Usage,
)

SECOND = 1_000_000_000
REQUEST = GenerationRequest(user="What is the capital of Peru?")
TIMES = EventTimestamps(requested_at=datetime(2026, 1, 1, tzinfo=UTC), requested=0)
BUSY = ErrorInfo(type=ErrorType.RATE_LIMITED, message="slow down", retry_after=20.0)


def success(content: Any = "Lima", **fields: Any) -> GenerationResult[Any]:
    return GenerationResult(
        request=REQUEST, success=True, content=content, timestamps=TIMES, **fields
    )


def failure(error: ErrorInfo | None = BUSY, **fields: Any) -> GenerationResult[Any]:
    return GenerationResult(request=REQUEST, success=False, error=error, timestamps=TIMES, **fields)


def explode(_: Any) -> Any:
    raise ValueError("boom")


class TestMatch:
    @pytest.mark.parametrize(
        ("result", "said"),
        [
            (success(), "Lima"),
            (
                success(
                    "unknown",
                    degraded=Degradation(reason=DegradedReason.FALLBACK_VALUE, detail="down"),
                ),
                "unknown, for fallback_value",
            ),
            (failure(), "again in 20.0 s"),
            (failure(ErrorInfo(type=ErrorType.REFUSED, message="no")), "refused: no"),
            (failure(None), "failed"),
        ],
    )
    def test_a_result_is_taken_apart(self, result: GenerationResult[str], said: str) -> None:
        match result:
            case GenerationResult(success=True, degraded=Degradation(reason=why), content=city):
                seen = f"{city}, for {why}"
            case GenerationResult(success=True, content=city):
                seen = str(city)
            case GenerationResult(error=ErrorInfo(retryable=True, retry_after=float(seconds))):
                seen = f"again in {seconds} s"
            case GenerationResult(error=ErrorInfo(type=kind, message=message)):
                seen = f"{kind}: {message}"
            case _:
                seen = "failed"
        assert seen == said


class TestMap:
    def test_it_changes_the_content_of_a_success_and_nothing_else(self) -> None:
        before = success(usage=Usage(input_tokens=5), raw={"id": 1})
        after = before.map(str.upper)
        assert after.content == "LIMA"
        assert after.usage == before.usage
        assert after.raw == {"id": 1}
        assert before.content == "Lima"

    def test_a_failure_stays_as_it_is(self) -> None:
        before = failure()
        assert before.map(explode) is before

    def test_an_exception_becomes_a_failure_that_keeps_the_old_content(self) -> None:
        after = success(raw_content="Lima!").map(explode)
        assert after.success is False
        assert after.content is None
        assert after.raw_content == "Lima!"
        assert after.error == ErrorInfo(
            type=ErrorType.OUTPUT_INVALID,
            message="explode raised ValueError: boom",
            exception="ValueError",
        )
        assert after.steps == (
            PipelineStepResult(step="explode", success=False, before="Lima", error=after.error),
        )

    def test_a_function_without_a_name_is_shown_as_it_is(self) -> None:
        class Nameless:
            def __call__(self, content: str) -> str:
                raise LookupError(content)

            def __repr__(self) -> str:
                return "Nameless()"

        after = success().map(Nameless())
        assert after.steps[-1].step == "Nameless()"


class TestAndThen:
    def test_it_goes_on_from_a_success(self) -> None:
        second = success("Miraflores")
        assert success().and_then(lambda city: second) is second

    def test_a_failure_stays_as_it_is(self) -> None:
        before = failure()
        assert before.and_then(explode) is before

    def test_an_exception_becomes_a_failure(self) -> None:
        after = success().and_then(explode)
        assert after.error is not None
        assert after.error.type is ErrorType.OUTPUT_INVALID
        assert after.steps[-1].before == "Lima"


class TestOrElse:
    def test_a_success_stays_as_it_is(self) -> None:
        before = success()
        assert before.or_else(explode) is before

    def test_a_failure_is_made_good(self) -> None:
        after = failure().or_else(lambda failed: success(f"unknown, {failed.error == BUSY}"))
        assert after.content == "unknown, True"

    def test_an_exception_leaves_the_failure_and_is_noted(self) -> None:
        before = failure(steps=(PipelineStepResult(step="strip", success=True),))
        after = before.or_else(explode)
        assert after.success is False
        assert after.error == BUSY
        assert [step.step for step in after.steps] == ["strip", "explode"]
        assert after.steps[-1].error is not None
        assert after.steps[-1].error.message == "explode raised ValueError: boom"
        assert after.steps[-1].before is None


@pytest.mark.parametrize("interrupt", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    "chain",
    [
        lambda function: success().map(function),
        lambda function: success().and_then(function),
        lambda function: failure().or_else(function),
    ],
    ids=["map", "and_then", "or_else"],
)
def test_cancellation_and_interrupts_pass_through(
    chain: Callable[[Callable[[Any], Any]], Any], interrupt: type[BaseException]
) -> None:
    def stop(_: Any) -> Any:
        raise interrupt

    with pytest.raises(interrupt):
        chain(stop)


class TestUnwrap:
    def test_a_success_gives_its_content(self) -> None:
        assert success().unwrap() == "Lima"
        assert success(None).unwrap() is None
        assert success().unwrap_or("unknown") == "Lima"
        assert success(None).unwrap_or("unknown") is None

    def test_a_failure_raises_what_went_wrong(self) -> None:
        with pytest.raises(ProviderError, match="slow down") as caught:
            failure().unwrap()
        assert caught.value.info is BUSY
        assert caught.value.retryable is True
        assert caught.value.retry_after == 20.0

    def test_a_failure_without_a_reason_is_an_internal_fault(self) -> None:
        with pytest.raises(ProviderError, match="failed without a recorded error") as caught:
            failure(None).unwrap()
        assert caught.value.error_type is ErrorType.INTERNAL

    def test_a_failure_gives_the_default(self) -> None:
        assert failure(content="last good value").unwrap_or("unknown") == "unknown"


class TestOverhead:
    @staticmethod
    def of(*attempts: InvocationAttempt, **points: int) -> float | None:
        seconds = {"requested": 0, "completed": 20, **points}
        times = EventTimestamps(
            requested_at=TIMES.requested_at,
            **{name: second * SECOND for name, second in seconds.items()},
        )
        return GenerationResult[str](
            success=True, timestamps=times, attempts=attempts
        ).overhead_seconds

    @staticmethod
    def attempt(waited_for: str | None = None, **points: int) -> InvocationAttempt:
        times = {name: second * SECOND for name, second in points.items()}
        return InvocationAttempt(
            number=1,
            provider="p",
            model="m",
            timestamps=AttemptTimestamps(**times),
            waited_for=waited_for,
        )

    def test_it_is_what_is_left_after_waiting_calls_pauses_and_pipeline(self) -> None:
        waited = self.attempt("rpm", enqueued=1, admitted=4, started=4, ended=8, backoff_until=10)
        answered = self.attempt(enqueued=10, admitted=11, started=12, ended=16)
        assert self.of(waited, answered, refine_started=17, refined=18) == 1 + 2 + 1 + 2

    def test_a_wait_that_ended_in_a_refusal_is_none_of_it(self) -> None:
        assert self.of(self.attempt(enqueued=1, ended=19)) == 2.0

    def test_attempts_at_the_same_time_count_once(self) -> None:
        slow, quick = self.attempt(started=1, ended=18), self.attempt(started=5, ended=18)
        assert self.of(slow, quick) == 3.0

    def test_the_calls_of_a_step_are_part_of_the_pipeline(self) -> None:
        answer, helper = self.attempt(started=0, ended=5), self.attempt(started=7, ended=11)
        assert self.of(answer, helper, refine_started=6, refined=19) == 2.0

    def test_what_outlasts_the_call_makes_it_no_less_than_nothing(self) -> None:
        assert self.of(self.attempt(started=0, ended=30)) == 0.0

    def test_a_call_that_asked_nobody_was_all_our_own(self) -> None:
        assert self.of() == 20.0

    def test_it_is_unknown_until_the_call_is_over(self) -> None:
        assert success().overhead_seconds is None


def test_lists_in_a_result_become_tuples() -> None:
    result = success(dropped=["seed"], steps=[])
    assert result.dropped == ("seed",)
    assert result.steps == ()


def test_the_vendors_reply_is_kept_but_neither_written_nor_compared() -> None:
    result = success(raw={"id": "r-1"})
    assert "raw" not in result.to_dict()
    assert "r-1" not in repr(result)
    assert result == success(raw=None)
    assert result.raw == {"id": "r-1"}


def test_content_that_json_does_not_know_is_written_as_well_as_it_can() -> None:
    written = json.loads(json.dumps(success({"cities": {"Lima"}, "at": TIMES}).to_dict()))
    assert written["content"]["cities"] == ["Lima"]
    assert written["content"]["at"]["requested"] == 0


class TestProviderResponse:
    RESPONSE = ProviderResponse(
        provider="p",
        model="m",
        parts=(
            ReasoningPart(text="Peru"),
            TextPart(text="Li"),
            ToolCall(id="1", name="find"),
            ReasoningPart(text="…"),
            AudioPart(data=b"RIFF"),
            TextPart(text="ma"),
            AudioPart(data=b"more"),
        ),
    )

    def test_its_parts_are_found_by_what_they_are(self) -> None:
        assert self.RESPONSE.text == "Lima"
        assert self.RESPONSE.reasoning == "Peru…"
        assert self.RESPONSE.tool_calls == (ToolCall(id="1", name="find"),)
        assert self.RESPONSE.audio == AudioPart(data=b"RIFF")

    def test_it_continues_the_conversation(self) -> None:
        assert self.RESPONSE.message == Message(role=Role.ASSISTANT, content=self.RESPONSE.parts)

    def test_an_empty_one_is_an_empty_message(self) -> None:
        empty = ProviderResponse(provider="p", model="m")
        assert (empty.text, empty.reasoning, empty.tool_calls, empty.audio) == ("", "", (), None)
        assert empty.message == Message.assistant("")
