"""`Timeline`: the mutable record of one call while it runs.

The engine's stages write into it; what leaves the engine is a frozen `GenerationResult`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llm_core import (
    AttemptTimestamps,
    BackoffStats,
    Clock,
    Cost,
    Degradation,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    FinishReason,
    FrozenDict,
    GenerationRequest,
    GenerationResult,
    InvocationAttempt,
    LLMCallRequest,
    PipelineStepResult,
    Provider,
    ProviderResponse,
    Rates,
    StreamEvent,
    StreamStarted,
    TextDelta,
    TextPart,
    ToolCallStarted,
    TraceContext,
    Usage,
    UsageUpdate,
    Value,
    drafts_of,
    immutable,
    unchecked,
)
from llm_service.estimate import estimate_text_tokens
from llm_service.ledger import bill
from llm_service.standstill import Standstill, standstill

if TYPE_CHECKING:
    from llm_pipeline import Pipeline

WITHOUT_CONTENT = (StreamStarted, UsageUpdate)
"""Events of a stream that give nothing of the answer."""

# To be refused at once takes some microseconds, and is no wait.
_SHORTEST_WAIT_NS = 1_000_000


@immutable
class PreparedCall(Value):
    """Who is asked what, and how many tokens to reserve for it."""

    provider: Provider
    provider_name: str
    request: LLMCallRequest
    input_tokens: int
    output_tokens: int

    def asks_as(self, other: PreparedCall) -> bool:
        """Whether `other` goes to the same model of the same provider."""
        mine = (self.provider_name, self.request.model)
        return mine == (other.provider_name, other.request.model)


class AttemptRecord:
    """What is known of one attempt so far; the points of time are those of `AttemptTimestamps`."""

    lost = False
    """Whether it was cancelled because another attempt of its race was faster."""

    def __init__(self, number: int, call: PreparedCall, purpose: str, enqueued: int) -> None:
        self.number = number
        self.call = call
        self.purpose = purpose
        self.enqueued = enqueued
        self.admitted: int | None = None
        self.started: int | None = None
        self.first_byte: int | None = None
        self.first_token: int | None = None
        self.last_token: int | None = None
        self.ended: int | None = None
        self.backoff_until: int | None = None
        self.waited_for: str | None = None
        self.gate_wait_seconds = self.backoff_seconds = self.retry_after_seconds = 0.0
        self.error: ErrorInfo | None = None
        self.response: ProviderResponse | None = None
        self.cost: Cost | None = None
        self.heard: list[str] | None = None
        """The text that a stream has given so far."""
        self.reported: Usage | None = None
        """The tokens that a stream has reported so far."""
        self.frozen: InvocationAttempt | None = None
        """What `freeze` gave, until something changes."""

    @property
    def seen(self) -> ProviderResponse | None:
        """The reply, or the part of it that arrived."""
        return self.response or (self.error.partial if self.error else None)

    @property
    def usage(self) -> Usage | None:
        """The tokens it used, as far as known; those of an answer that got lost on its way are estimated."""
        if self.response is not None:
            return self.response.usage
        seen = self.seen
        if seen is not None:
            return seen.usage
        lost = self.error is not None and self.started is not None and self.error.may_be_billed
        return self.used_when_abandoned if lost else None

    def hear(self, event: StreamEvent) -> None:
        """Remember what a stream gave, for the case that its end never comes."""
        if isinstance(event, TextDelta):
            if self.heard is None:
                self.heard = []
            self.heard.append(event.text)
        elif isinstance(event, UsageUpdate):
            self.reported = event.usage

    @property
    def heard_text(self) -> str:
        """The text that a stream has given so far, in one piece."""
        return "".join(self.heard or ())

    @property
    def used_when_abandoned(self) -> Usage:
        """The tokens of a call that was sent and whose end was not awaited: reported, else counted here."""
        counted = estimate_text_tokens(self.heard_text)
        if self.reported is not None:
            output_tokens = max(self.reported.output_tokens, counted)
            return replace(self.reported, output_tokens=output_tokens, estimated=True)
        return Usage(input_tokens=self.call.input_tokens, output_tokens=counted, estimated=True)

    def abandoned(self, message: str, error_type: ErrorType) -> ErrorInfo:
        """Describe an attempt whose end never came; if it was sent, with what had arrived and its usage."""
        partial = None
        if self.started is not None:
            text = self.heard_text
            partial = ProviderResponse(
                provider=self.call.provider_name,
                model=self.call.request.model,
                parts=(TextPart(text=text),) if text else (),
                usage=self.used_when_abandoned,
                finish_reason=FinishReason.INCOMPLETE,
            )
        return ErrorInfo.of(error_type, message, partial=partial)

    def with_usage(self, response: ProviderResponse) -> ProviderResponse:
        """Return a reply that came without usage with what it must have used, counted here."""
        if not response.text:
            return response
        counted = Usage(
            input_tokens=self.call.input_tokens,
            output_tokens=estimate_text_tokens(response.text),
            estimated=True,
        )
        return replace(response, usage=counted)

    def note_wait_in_vain(self, ended: int) -> None:
        """Note the time at gates that did not let it go, and the limit it waited for, as far as the refusal names it."""
        if ended - self.enqueued < _SHORTEST_WAIT_NS:
            return
        self.gate_wait_seconds = (ended - self.enqueued) / 1e9
        if self.error is not None and self.error.type is ErrorType.GATE_TIMEOUT:
            limit = self.error.details.get("limit")
            self.waited_for = limit if isinstance(limit, str) else None

    def freeze(self) -> InvocationAttempt:
        """Return the attempt as it goes into the result."""
        if self.frozen is not None:
            return self.frozen
        # Of a reply that came, as most do, nothing has to be made out.
        call, response, error = self.call, self.response, self.error
        seen = response or self.seen
        request_id = error.provider_request_id if error else None
        times = _draft_of_attempt_times()
        times.enqueued = self.enqueued
        times.admitted = self.admitted
        times.started = times.request_sent = self.started
        times.first_byte = self.first_byte
        times.first_token = self.first_token
        times.last_token = self.last_token
        times.ended = self.ended
        times.backoff_until = self.backoff_until
        times.__class__ = AttemptTimestamps
        made = _draft_of_attempt()
        made.number = self.number
        made.provider = call.provider_name
        made.model = call.request.model
        made.purpose = self.purpose
        made.timestamps = times
        made.reserved_tokens = call.input_tokens + call.output_tokens
        made.waited_for = self.waited_for
        made.error = error
        made.usage = response.usage if response else self.usage
        made.cost = self.cost
        if seen is None:
            made.finish_reason = made.response_id = made.rate_limits = None
            made.provider_request_id = request_id
        else:
            made.finish_reason = seen.finish_reason
            made.response_id = seen.response_id
            made.rate_limits = seen.rate_limits
            made.provider_request_id = request_id or seen.provider_request_id
        made.__class__ = InvocationAttempt
        self.frozen = made
        return self.frozen


class HelperAttempts(list[AttemptRecord]):
    """The attempts of a helper call: each also stands, from its beginning, on the ledger of the call it helps.

    There it is numbered, and named by what the helper call is for.
    """

    def __init__(self, ledger: list[AttemptRecord], purpose: str) -> None:
        super().__init__()
        self._ledger = ledger
        self._purpose = purpose

    def append(self, attempt: AttemptRecord, /) -> None:
        """Put it on both ledgers."""
        super().append(attempt)
        attempt.number = len(self._ledger) + 1
        attempt.purpose = self._purpose
        # Last, as this one may be a helper's too: the outermost numbers and names.
        self._ledger.append(attempt)


# A dataclass for its slots alone: beyond thirty attributes an instance without them keeps a dict.
@dataclass(slots=True, eq=False, repr=False, init=False)
class Timeline:
    """One call's facts as they come in, and the result made of them in the end."""

    request: GenerationRequest
    restart_streams: bool
    request_id: str
    own_trace: str
    """The trace of a call that nobody traces, and its span in that."""
    own_span: str
    trace: TraceContext | None
    """The span of the call, or the one that was active when it came; None if nobody asks for one."""
    rates_before: tuple[float, float]
    now: Callable[[], int]
    """Reads the clock: monotonic nanoseconds."""
    requested_at: datetime
    requested: int
    """Like the points below one of `EventTimestamps`; those of attempts are with these."""
    prepared: int | None
    cache_checked: int | None
    backoff_until: int | None
    refine_started: int | None
    refined: int | None
    completed: int | None
    deadline_ns: int | None
    provider_name: str | None
    model: str | None
    standstill: Standstill | None
    """What waits until this call is over, and must not be waited for; None in most calls."""
    bounded: bool
    """Whether it may not wait for as long as it takes."""
    cache_key: str | None
    pipeline: Pipeline[Any, Any] | None
    attempts: list[AttemptRecord]
    """The ledger; `HelperAttempts` of a helper call."""
    steps: tuple[PipelineStepResult, ...]
    answered_by: AttemptRecord | None
    """The attempt whose reply became the answer."""
    recalled: GenerationResult[Any] | None
    """The stored or shared result whose reply became the answer."""
    response: ProviderResponse | None
    content: Any
    raw_content: str | None
    """The reply's text, once it was looked at."""
    error: ErrorInfo | None
    failure: ErrorInfo | None
    """What ended the latest try that is followed by another, at the same model or the next."""
    rung: int
    """How many of the fallbacks have had their turn."""
    fell_for: ErrorInfo | None
    """The failure for which another model is asked."""
    made_up_for: ErrorInfo | None
    """The failure in whose place a substitute stands."""
    degraded: Degradation | None
    delivered: bool
    """Whether the caller has seen a part of a streamed answer."""
    delivered_tool_call: bool

    def __init__(
        self, request: GenerationRequest, clock: Clock, restart_streams: bool = False
    ) -> None:
        self.request = request
        self.restart_streams = restart_streams
        digits = os.urandom(24).hex()
        self.own_trace, self.own_span = digits[:32], digits[32:]
        self.request_id = request.request_id or self.own_trace
        self.requested_at = clock.now()
        self.now = now = clock.monotonic_ns
        self.requested = now()
        seconds = request.deadline_seconds
        self.deadline_ns = None if seconds is None else self.requested + round(seconds * 1e9)
        self.standstill = standstill.get()
        self.bounded = seconds is not None or self.standstill is not None
        self.rates_before = (0.0, 0.0)
        self.attempts = []
        self.steps = ()
        self.delivered = self.delivered_tool_call = False
        self.trace = self.provider_name = self.model = self.pipeline = self.cache_key = None
        self.prepared = self.cache_checked = self.refine_started = self.refined = None
        self.backoff_until = self.completed = self.answered_by = self.recalled = None
        self.response = self.content = self.raw_content = None
        self.error = self.failure = self.fell_for = self.made_up_for = self.degraded = None
        self.rung = 0

    def remaining_seconds(self) -> float | None:
        """Return the time until the deadline, below zero once it has passed; None without deadline."""
        if self.deadline_ns is None:
            return None
        return (self.deadline_ns - self.now()) / 1e9

    def note_delivery(self, event: StreamEvent) -> None:
        """Note what of a streamed answer the caller gets to see."""
        if not isinstance(event, WITHOUT_CONTENT):
            self.delivered = True
            if isinstance(event, ToolCallStarted):
                self.delivered_tool_call = True

    @property
    def may_restart(self) -> bool:
        """Whether a failed stream may begin anew: unseen, or seen if that is wanted, but never after a tool call."""
        return not self.delivered or (self.restart_streams and not self.delivered_tool_call)

    def note_pause(self, seconds: float, retry_after_seconds: float) -> None:
        """Note the pause after the latest attempt, and the part of it that the provider asked for."""
        attempt = self._latest
        attempt.frozen = None
        attempt.backoff_seconds = seconds
        attempt.retry_after_seconds = retry_after_seconds
        assert attempt.ended is not None, "a pause comes after an attempt"
        attempt.backoff_until = self.backoff_until = attempt.ended + round(seconds * 1e9)

    def cut_pause(self) -> None:
        """Cut a pause that is going on to what has passed of it: the call was cancelled."""
        attempt, now = self._latest, self.now()
        if attempt.ended is None or attempt.backoff_until is None or attempt.backoff_until <= now:
            return
        attempt.backoff_seconds = (now - attempt.ended) / 1e9
        attempt.retry_after_seconds = min(attempt.retry_after_seconds, attempt.backoff_seconds)
        attempt.backoff_until = self.backoff_until = now

    @property
    def _latest(self) -> AttemptRecord:
        """The attempt that ended last, and lost no race."""
        ran = [attempt for attempt in reversed(self.attempts) if not attempt.lost]
        return max(ran, key=lambda attempt: attempt.ended or 0)

    def degrade(self, reason: DegradedReason, detail: str, error: ErrorInfo | None) -> None:
        """Note that the content is not the full wish."""
        self.degraded = Degradation(reason=reason, detail=detail, error=error)

    def note_cancellation(self, words: str) -> None:
        """Note that the call was cancelled, and why; what had arrived by then is kept."""
        latest = self._latest.error if self.attempts else None
        partial = latest.partial if latest else None
        self.error = ErrorInfo.of(ErrorType.CANCELLED, words, partial=partial)

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        remaining = self.remaining_seconds()
        return remaining is not None and remaining <= 0

    def substitute(self, reason: DegradedReason, detail: str) -> None:
        """Note that something else stands in for the failure; the call has succeeded after all."""
        self.made_up_for = self.made_up_for or self.error
        self.degrade(reason, detail, self.made_up_for)
        self.error = None

    def result(self, rates_after: tuple[float, float] | None = None) -> GenerationResult[Any]:
        """Freeze everything known into the result; `rates_after` are requests and tokens per minute at its end."""
        attempts = tuple(map(_freeze, self.attempts))
        request, error, trace = self.request, self.error, self.trace
        made = _draft_of_result()
        made.request = request
        made.success = error is None
        made.timestamps = self._timestamps()
        made.content = self.content
        made.error = error or self.made_up_for
        made.degraded = self.degraded
        made.usage, made.cost = bill(attempts)
        made.attempts = attempts
        made.backoff = self._backoff()
        made.steps = self.steps
        made.provider = self.provider_name
        before, after = self.rates_before, rates_after
        made.rates = after and _rates(
            rpm_before=before[0], rpm_after=after[0], tpm_before=before[1], tpm_after=after[1]
        )
        made.operation_name = request.operation_name
        made.request_id = self.request_id
        made.trace_id = trace.trace_id if trace else self.own_trace
        made.span_id = trace.span_id if trace else self.own_span
        made.cached = self.recalled is not None and self.recalled.success
        # After a failure the partial reply stands in, so that what had arrived is not lost.
        seen = self.response or (error.partial if error else None)
        if seen is None:
            made.model, made.raw_content = self.model, self.raw_content
            made.finish_reason = made.reasoning = made.audio = None
            made.response_id = made.structured_by = made.raw = None
            made.tool_calls = made.dropped = ()
        else:
            made.model = seen.model
            made.raw_content = seen.text if self.raw_content is None else self.raw_content
            made.finish_reason = seen.finish_reason
            made.response_id = seen.response_id
            made.structured_by = seen.structured_by
            made.dropped = seen.dropped
            made.raw = seen.raw
            parts = seen.parts
            if len(parts) == 1 and type(parts[0]) is TextPart:
                # Nothing but text is what most replies are, and looking for more costs three walks.
                made.reasoning = made.audio = None
                made.tool_calls = ()
            else:
                made.reasoning = seen.reasoning or None
                made.tool_calls = seen.tool_calls
                made.audio = seen.audio
        made.__class__ = GenerationResult
        result: GenerationResult[Any] = made
        return result

    def _timestamps(self) -> EventTimestamps:
        made = _draft_of_times()
        made.requested_at = self.requested_at
        made.requested = self.requested
        made.prepared = self.prepared
        made.cache_checked = self.cache_checked
        if self.attempts:
            last = self.answered_by or self._latest
            made.enqueued = last.enqueued
            made.admitted = last.admitted
            made.started = made.request_sent = last.started
            made.first_byte = last.first_byte
            made.first_token = last.first_token
            made.last_token = last.last_token
            made.ended = last.ended
        else:
            made.enqueued = made.admitted = made.started = made.request_sent = None
            made.first_byte = made.first_token = made.last_token = made.ended = None
        made.backoff_until = self.backoff_until
        made.refine_started = self.refine_started
        made.refined = self.refined
        made.recorded = made.completed = self.completed
        made.__class__ = EventTimestamps
        times: EventTimestamps = made
        return times

    def _backoff(self) -> BackoffStats:
        attempts = self.attempts
        if len(attempts) == 1 and self.backoff_until is None:
            only = attempts[0]
            if only.waited_for is None and not only.gate_wait_seconds:
                return _NO_WAITS
        waits: dict[str, float] = {}
        gate_waits = backoffs = 0
        gate_wait_seconds = backoff_seconds = retry_after_seconds = 0.0
        for attempt in attempts:
            gate_wait_seconds += attempt.gate_wait_seconds
            if attempt.waited_for is not None:
                gate_waits += 1
                name = attempt.waited_for
                waits[name] = waits.get(name, 0.0) + attempt.gate_wait_seconds
            if attempt.backoff_until is not None:
                backoffs += 1
                backoff_seconds += attempt.backoff_seconds
                retry_after_seconds += attempt.retry_after_seconds
        return BackoffStats(
            gate_waits=gate_waits,
            gate_wait_seconds=gate_wait_seconds,
            gate_wait_by_limit=FrozenDict(waits),
            backoffs=backoffs,
            backoff_seconds=backoff_seconds,
            retry_after_seconds=retry_after_seconds,
        )


_NO_WAITS = BackoffStats()
# Looked up once, as every call needs them.
_freeze = AttemptRecord.freeze
_draft_of_attempt = drafts_of(InvocationAttempt)
_draft_of_attempt_times = drafts_of(AttemptTimestamps)
_rates = unchecked(Rates)
_draft_of_times = drafts_of(EventTimestamps)
_draft_of_result = drafts_of(GenerationResult)
