"""Everything known after a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast

from llm_core.error_info import ErrorInfo
from llm_core.error_types import ErrorType
from llm_core.frozen import EMPTY
from llm_core.messages import AudioPart, ToolCall
from llm_core.record import NOT_JSON, Record
from llm_core.request import GenerationRequest
from llm_core.response import FinishReason, RateLimitFacts
from llm_core.timing import AttemptTimestamps, BackoffStats, EventTimestamps
from llm_core.usage import Cost, Usage
from llm_core.value import immutable

__all__ = [
    "Degradation",
    "DegradedReason",
    "GenerationResult",
    "InvocationAttempt",
    "PipelineStepResult",
    "Rates",
]

T = TypeVar("T")
U = TypeVar("U")


class DegradedReason(StrEnum):
    """Why the content is not the full wish."""

    FALLBACK_VALUE = "fallback_value"
    """The request's own `fallback_value`."""
    FALLBACK_MODEL = "fallback_model"
    """Another model answered than the one asked for."""
    STALE_CACHE = "stale_cache"
    """An answer from the cache that was past its time."""
    LAST_GOOD_VALUE = "last_good_value"
    """A pipeline step failed; the content is what the steps before it had made."""
    PARTIAL = "partial"
    """The reply broke off; the content is what had arrived."""
    LOSSY = "lossy"
    """A step had to guess or drop something to read the reply; the content may differ from what it said."""
    DROPPED_FEATURE = "dropped_feature"
    """The model lacks something the request asked for and allowed to be dropped."""


@immutable
class Degradation(Record):
    """Which lesser answer was given, and why."""

    reason: DegradedReason
    detail: str
    """One sentence for people."""
    error: ErrorInfo | None = None
    """The failure that made it necessary."""


@immutable
class Rates(Record):
    """Requests and tokens per minute of this service, over the last minute."""

    rpm_before: float = 0.0
    rpm_after: float = 0.0
    tpm_before: float = 0.0
    tpm_after: float = 0.0


@immutable
class InvocationAttempt(Record):
    """One time a provider was asked, or was about to be: also of calls that the gates refused."""

    number: int
    """Counts from 1 within the call, over all models and purposes."""
    provider: str
    model: str
    timestamps: AttemptTimestamps
    purpose: str = "answer"
    """``answer``, or the helper call it was for, such as ``isolation`` or ``reask``."""
    reserved_tokens: int = 0
    """What the gates were asked for beforehand; `usage` is what it came to."""
    waited_for: str | None = None
    """The name of the limit that made it wait longest at the gates, or that it could not get by.

    None if it did not wait, or was cancelled meanwhile.
    """
    error: ErrorInfo | None = None
    """Why it failed, or why the gates refused it."""
    usage: Usage | None = None
    """What the provider reported, or what was estimated; None if it was never asked."""
    cost: Cost | None = None
    """What `usage` came to; None if nobody priced it."""
    finish_reason: FinishReason | None = None
    response_id: str | None = None
    provider_request_id: str | None = None
    rate_limits: RateLimitFacts | None = None

    @property
    def success(self) -> bool:
        """Whether the provider answered completely."""
        return self.error is None

    @property
    def time_per_output_token_seconds(self) -> float | None:
        """Mean time between tokens after the first one; None unless two or more were streamed."""
        tokens = self.usage.output_tokens if self.usage else 0
        return self.timestamps.time_per_output_token_seconds(tokens)


@immutable
class PipelineStepResult(Record):
    """What one post-processing step did; contents are held by reference, not copied."""

    step: str
    success: bool
    before: Any = None
    """The content that the step was given."""
    after: Any = None
    """The content that it made; None after a failure."""
    error: ErrorInfo | None = None
    """Why it failed."""
    duration_seconds: float = 0.0
    started: int | None = None
    """When the step began, as monotonic nanoseconds like `EventTimestamps`; None if not timed."""
    ended: int | None = None
    """When the step was done, likewise."""
    skipped: bool = False
    """The step had nothing to do, or its failure was skipped as configured."""
    lossy: bool = False
    """The step gave a value that may differ from what the text said."""
    trail: Mapping[str, Any] = EMPTY
    """How the value was found: rungs tried, edits made, matches."""


@immutable
class GenerationResult(Record, Generic[T]):
    """The answer to a `GenerationRequest`, or what became of it: never an exception.

    ::

        match result:
            case GenerationResult(success=True, content=city):
                ...
            case GenerationResult(error=ErrorInfo(retryable=True, retry_after=seconds)):
                ...

    `to_dict` writes contents that JSON does not know as well as it can (see `llm_core.to_json`);
    `from_dict` then gives back that JSON form.
    """

    success: bool
    """Content is the value asked for, or a substitute that the caller allowed (see `degraded`)."""
    timestamps: EventTimestamps
    request: GenerationRequest | None = None
    """What was asked; None when the request itself could not be made."""
    content: T | None = None
    """The value; after a failure the last good value if there is one, else None."""
    raw_content: str | None = None
    """The model's text before any post-processing, also after a failure as far as it had come."""
    error: ErrorInfo | None = None
    """Why it failed, or, in a degraded success, what was made up for."""
    degraded: Degradation | None = None
    usage: Usage = Usage()
    """Sum over all attempts, retries and helper calls included."""
    cost: Cost = Cost()
    """Sum over all attempts, retries and helper calls included."""
    attempts: tuple[InvocationAttempt, ...] = ()
    backoff: BackoffStats = BackoffStats()
    steps: tuple[PipelineStepResult, ...] = ()
    finish_reason: FinishReason | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    audio: AudioPart | None = None
    rates: Rates | None = None
    """None where nobody measures them."""
    model: str | None = None
    """The model that answered, or the last one asked."""
    provider: str | None = None
    operation_name: str | None = None
    request_id: str = ""
    trace_id: str | None = None
    """The distributed trace that the call belongs to: 32 hexadecimal digits.

    Where nobody traces it is the `request_id`, or a random one if the caller gave that.
    """
    span_id: str | None = None
    """The call's span in that trace: 16 hexadecimal digits."""
    response_id: str | None = None
    """What `previous_response_id` of the next request takes."""
    structured_by: str | None = None
    """How the response schema was asked for: ``native``, ``tool`` or ``prompt``."""
    dropped: tuple[str, ...] = ()
    """Features left out of the request because the model lacks them."""
    cached: bool = False
    """Answered from the response cache, without asking a provider."""
    raw: Any = field(default=None, metadata=NOT_JSON, compare=False, repr=False)
    """The vendor's reply as a plain dict; not written to JSON."""

    @property
    def overhead_seconds(self) -> float | None:
        """Time in which no attempt waited, ran or paused and no step of the pipeline ran: our own.

        What went on at the same time, such as attempts that race or the calls of a step, counts once.
        """
        requested, completed = self.timestamps.requested, self.timestamps.completed
        if completed is None:
            return None
        own, seen_until = 0, requested
        for begins, ends in sorted(self._busy_spans()):
            own += max(min(begins, completed) - seen_until, 0)
            seen_until = max(seen_until, ends)
        return (own + max(completed - seen_until, 0)) / 1e9

    def _busy_spans(self) -> Iterator[tuple[int, int]]:
        """Yield from when to when somebody else was at work, or was waited for."""
        for attempt in self.attempts:
            times = attempt.timestamps
            if attempt.waited_for is not None or times.admitted is None:
                yield from _span(times.enqueued, times.admitted or times.ended)
            yield from _span(times.started, times.ended)
            yield from _span(times.ended, times.backoff_until)
        yield from _span(self.timestamps.refine_started, self.timestamps.refined)

    def map(self, function: Callable[[T], U]) -> GenerationResult[U]:
        """Return this result with `function` applied to the content of a success.

        A failure is returned as it is.
        An exception out of `function` becomes a failure of type ``output_invalid``; the old content
        stays in `steps`. Cancellation and interrupts are no such exceptions: they propagate.
        """
        if not self.success:
            return cast("GenerationResult[U]", self)
        try:
            content = function(cast("T", self.content))
        except Exception as error:  # noqa: BLE001 - foreign code; results never throw
            return cast("GenerationResult[U]", self._spoilt_by(function, error))
        return cast("GenerationResult[U]", replace(cast("Any", self), content=content))

    def and_then(self, function: Callable[[T], GenerationResult[U]]) -> GenerationResult[U]:
        """Return what `function` makes of the content of a success; a failure is returned as it is.

        The returned result accounts for its own call only; an exception out of `function` is
        handled as in `map`.
        """
        if not self.success:
            return cast("GenerationResult[U]", self)
        try:
            return function(cast("T", self.content))
        except Exception as error:  # noqa: BLE001 - foreign code; results never throw
            return cast("GenerationResult[U]", self._spoilt_by(function, error))

    def or_else(
        self, function: Callable[[GenerationResult[T]], GenerationResult[T]]
    ) -> GenerationResult[T]:
        """Return this success, or what `function` makes of this failure.

        An exception out of `function` leaves this failure as it was, with one more of `steps`.
        """
        if self.success:
            return self
        try:
            return function(self)
        except Exception as error:  # noqa: BLE001 - foreign code; results never throw
            return replace(self, steps=(*self.steps, _failed_step(function, self.content, error)))

    def unwrap(self) -> T:
        """Return the content of a success; raise ProviderError carrying `error` for a failure."""
        if self.success:
            return cast("T", self.content)
        error = self.error or ErrorInfo.of(ErrorType.INTERNAL, "failed without a recorded error")
        raise error.to_exception()

    def unwrap_or(self, default: U) -> T | U:
        """Return the content of a success, or `default`."""
        return cast("T", self.content) if self.success else default

    def _spoilt_by(self, function: Callable[..., Any], error: Exception) -> GenerationResult[T]:
        step = _failed_step(function, self.content, error)
        steps = (*self.steps, step)
        return replace(self, success=False, content=None, error=step.error, steps=steps)


def _span(begins: int | None, ends: int | None) -> Iterator[tuple[int, int]]:
    if begins is not None and ends is not None:
        yield begins, ends


def _failed_step(
    function: Callable[..., Any], given: object, error: Exception
) -> PipelineStepResult:
    name = getattr(function, "__name__", repr(function))
    message = f"{name} raised {type(error).__name__}: {error}"
    info = ErrorInfo.of(ErrorType.OUTPUT_INVALID, message, exception=type(error).__name__)
    return PipelineStepResult(step=name, success=False, before=given, error=info)
