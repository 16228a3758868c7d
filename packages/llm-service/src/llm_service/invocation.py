"""Stage three of a call: attempts, each admitted by the gates, sent by the provider, settled by what it used.

A streamed call takes the same way: its deltas go to the sink while they come, and what is returned is the same
complete response.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from llm_core import (
    AttemptEnded,
    AttemptStarted,
    Cost,
    DeadlineExceeded,
    ErrorInfo,
    ErrorType,
    FinishReason,
    FirstToken,
    LLMCallRequest,
    LLMError,
    Permit,
    ProviderError,
    ProviderResponse,
    RateLimitFacts,
    StreamDone,
    StreamEvent,
    StreamFailed,
    StreamRestarted,
    Usage,
    unchecked,
)
from llm_core.later import asyncio
from llm_metrics import Labels
from llm_service.hedging import Signs
from llm_service.parts import EngineParts
from llm_service.timeline import WITHOUT_CONTENT, AttemptRecord, PreparedCall, Timeline

__all__ = ["Invocation", "Sink"]

_log = logging.getLogger("llm_service")

Sink = Callable[[StreamEvent], Awaitable[None]]
"""Takes the deltas of a streamed call."""

# The usual one first, as each call looks for its own.
_ANSWERS = tuple(reason for reason in FinishReason if reason.failure is None)


def _no_answer(response: ProviderResponse) -> ProviderError:
    """Return the failure that a reply is which came whole and is no answer, such as a refusal."""
    reason = response.finish_reason
    assert reason.failure is not None, "asked of replies that are no answers"
    words = f"the reply ended with finish reason {reason.value!r}"
    if response.text:
        words += f": {textwrap.shorten(response.text, 200)}"
    info = ErrorInfo.of(
        reason.failure, words, provider=response.provider, model=response.model, partial=response
    )
    return ProviderError(info)


class Invocation:
    """The attempts of one call at one model."""

    def __init__(
        self, parts: EngineParts, line: Timeline, call: PreparedCall, sink: Sink | None
    ) -> None:
        self._parts = parts
        self._line = line
        self._call = call
        self._sink = sink
        self._gate = parts.gate_of(
            call.provider_name, call.request.model, line.request.operation_name
        )
        self._labels = Labels(
            line.request.operation_name or "",
            call.request.model,
            call.provider_name,
            line.request.tenant or "",
        )
        self._signs: Signs | None = None
        """What the attempts of a race show of themselves; None where none is run."""

    async def run(self) -> None:
        """Ask until there is an answer, which goes into the line, or the retry policy gives up; raises the last error."""
        if self._sink is not None:
            await self._announce_restart(self._sink)
        once = self._attempt if self._parts.hedger is None else self._race
        try:
            record = await once()
        except ProviderError as error:
            record = await self._try_again(once, error)
        budget = self._parts.budgets.get(self._call.provider_name)
        if budget is not None:  # nothing was taken from one that is not there yet
            budget.note_success()
        self._line.answered_by, self._line.response = record, record.response

    async def _try_again(
        self, once: Callable[[], Awaitable[AttemptRecord]], first_error: ProviderError
    ) -> AttemptRecord:
        """Let tenacity go on from the first failure; a call that needs no retry does not pay for it."""
        retrying = self._parts.retry.retrying(
            max_attempts=self._line.request.max_attempts,
            remaining_seconds=self._line.remaining_seconds,
            may_retry=self._may_retry,
            before_sleep=self._line.note_pause,
            sleep=self._parts.clock.sleep,
        )
        failures = [first_error]

        async def attempt() -> AttemptRecord:
            if failures:
                raise failures.pop()
            if self._sink is not None:
                await self._announce_restart(self._sink)
            return await once()

        try:
            answered: AttemptRecord = await retrying(attempt)
        except asyncio.CancelledError:
            self._line.cut_pause()
            raise
        return answered

    def _race(self) -> Awaitable[AttemptRecord]:
        """Make an attempt, and a second one beside it if it is slow."""
        assert self._parts.hedger is not None, "only hedged calls race"
        self._signs = Signs()
        return self._parts.hedger.race(self._attempt, self._signs)

    def _may_retry(self, error: BaseException) -> bool:
        if not isinstance(error, ProviderError) or not error.retryable:
            return False
        self._line.failure = error.info
        budget = self._parts.budget_of(self._call.provider_name)
        budget.note_failure()
        return budget.allows_retry and self._line.may_restart

    async def _announce_restart(self, sink: Sink) -> None:
        line = self._line
        if line.delivered and line.failure is not None:
            await sink(StreamRestarted(attempt=len(line.attempts) + 1, error=line.failure))

    async def _attempt(self, purpose: str = "answer") -> AttemptRecord:
        """Ask the provider once; the attempt's record is kept whatever happens."""
        line, call, parts = self._line, self._call, self._parts
        record = AttemptRecord(len(line.attempts) + 1, call, purpose, line.now())
        line.attempts.append(record)
        try:
            async with self._gate.admit(
                tokens=call.input_tokens + call.output_tokens,
                output_tokens=call.output_tokens,
                cost=self._worst_case() if parts.counts_money else None,
                key=line.request.tenant,
                timeout=self._patience() if line.bounded else None,
                priority=line.request.priority,
            ) as permit:
                record.admitted = line.now()
                record.gate_wait_seconds = permit.wait_seconds
                record.waited_for = permit.waited_for
                if self._signs is not None:
                    self._signs.admitted.set()
                try:
                    response = await self._sent(record)
                except BaseException as error:
                    self._let_go(record, permit, error)
                    raise
                if self._sink is None:
                    record.first_byte = line.now()
                    if self._signs is not None:
                        self._signs.lead(purpose)
                facts = response.rate_limits
                if facts is not None:
                    # Answers seldom say how long to wait, and most calls need no look at that.
                    self._gate.observe(facts if facts.retry_after is None else self._bounded(facts))
                used = response.usage
                if not used.input_tokens and not used.output_tokens:
                    response = record.with_usage(response)
                    used = response.usage
                record.response = response
                record.cost = cost = response.cost or self._cost_of(used)
                permit.settle(
                    tokens=used.input_tokens + used.output_tokens,
                    output_tokens=used.output_tokens,
                    cost=cost.amount if parts.counts_money else None,
                )
                if response.finish_reason not in _ANSWERS:
                    raise _no_answer(response)
            return record
        except asyncio.CancelledError:
            record.lost = self._signs is not None and self._signs.leader not in (None, purpose)
            words = "another attempt was faster" if record.lost else "the call was cancelled"
            record.error = record.abandoned(words, ErrorType.CANCELLED)
            raise
        except Exception as error:
            record.error = ErrorInfo.from_exception(error)
            raise
        finally:
            self._close(record)

    def _patience(self) -> float | None:
        """Return how long to wait at the gates; raises GateTimeout where that could only be for ever."""
        line = self._line
        remaining = None if line.deadline_ns is None else line.remaining_seconds()
        if line.standstill is None:
            return remaining
        most = line.standstill.patience(self._gate)
        return most if remaining is None else remaining if most is None else min(remaining, most)

    def _let_go(self, record: AttemptRecord, permit: Permit, error: BaseException) -> None:
        """Tell the gates how a call went that has no reply, and what a refusal said about limits."""
        if isinstance(error, asyncio.CancelledError):
            used = record.used_when_abandoned
            cost = self._cost_of(used).amount if self._parts.counts_money else None
            permit.settle(tokens=used.total_tokens, output_tokens=used.output_tokens, cost=cost)
        elif isinstance(error, LLMError) and not isinstance(error, ProviderError):
            # Providers raise anything else before they send: an unsupported feature, a missing key.
            permit.cancel()
        elif isinstance(error, Exception):
            record.error = info = ErrorInfo.from_exception(error)
            permit.fail(info, cost=self._spent_on_failure(record))
            self._learn_from(info)

    def _spent_on_failure(self, record: AttemptRecord) -> Decimal | None:
        """Return the money that a failed attempt cost, mostly none at all; None if nobody counts it."""
        if not self._parts.counts_money:
            return None
        cost = self._price(record)
        return Decimal(0) if cost is None else cost.amount

    def _learn_from(self, refusal: ErrorInfo) -> None:
        """Pass on what a refusal says about limits; nobody is held longer than a retry would wait."""
        if refusal.rate_limits is not None:
            self._gate.observe(self._bounded(refusal.rate_limits))
        if refusal.retry_after:
            longest = self._parts.retry.max_retry_after_seconds
            self._gate.hold(min(refusal.retry_after, longest))

    def _bounded(self, facts: RateLimitFacts) -> RateLimitFacts:
        longest = self._parts.retry.max_retry_after_seconds
        if facts.retry_after is None or facts.retry_after <= longest:
            return facts
        return replace(facts, retry_after=longest)

    def _sent(self, record: AttemptRecord) -> Awaitable[ProviderResponse]:
        """Begin the provider's part of the attempt; what is returned ends with its reply, or with the deadline."""
        line, call, parts = self._line, self._call, self._parts
        remaining = None if line.deadline_ns is None else line.remaining_seconds()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("the deadline passed in the queue; nothing was sent")
        started = record.started = line.now()
        parts.metrics.mark_sent(self._labels)
        if AttemptStarted in parts.telemetry.heard:
            self._tell_start(record, started)
        plain = self._sink is None and remaining is None
        if plain and line.trace is None and not parts.telemetry.makes_spans:
            return call.provider.invoke(call.request)
        request = self._outgoing(record, remaining)
        ask = self._ask_in_span if parts.telemetry.makes_spans else self._ask
        asking = ask(record, request)
        return asking if remaining is None else self._in_time(record, asking, remaining)

    def _tell_start(self, record: AttemptRecord, started: int) -> None:
        # Not every provider has a place in a network.
        host, port = getattr(self._call.provider, "server_address", None) or (None, None)
        self._parts.telemetry.emit(
            unchecked(AttemptStarted)(
                request_id=self._line.request_id,
                at_ns=started,
                number=record.number,
                provider=self._call.provider_name,
                model=self._call.request.model,
                server_address=host,
                server_port=port,
            )
        )

    def _outgoing(self, record: AttemptRecord, remaining: float | None) -> LLMCallRequest:
        """Return the call with what is left of the deadline, and with the trace if anybody traces."""
        telemetry, line = self._parts.telemetry, self._line
        trace = line.trace
        if telemetry.makes_spans:
            trace = telemetry.trace_context(line.request_id, attempt=record.number) or trace
        headers = trace.headers() if trace else {}
        if not headers and remaining is None:
            return self._call.request
        return self._call.request.sent_with(headers=headers, timeout_seconds=remaining)

    async def _ask_in_span(
        self, record: AttemptRecord, request: LLMCallRequest
    ) -> ProviderResponse:
        with self._parts.telemetry.activate(self._line.request_id, attempt=record.number):
            return await self._ask(record, request)

    async def _in_time(
        self, record: AttemptRecord, asking: Awaitable[ProviderResponse], remaining: float
    ) -> ProviderResponse:
        limit = asyncio.timeout(remaining)
        try:
            async with limit:
                return await asking
        except TimeoutError as late:
            if not limit.expired():
                raise
            words = f"no answer within the deadline of {self._line.request.deadline_seconds} s"
            raise ProviderError(record.abandoned(words, ErrorType.TIMEOUT_DEADLINE)) from late

    def _ask(self, record: AttemptRecord, request: LLMCallRequest) -> Awaitable[ProviderResponse]:
        if self._sink is not None:
            return self._listen(record, request)
        return self._call.provider.invoke(request)

    def _leads(self, record: AttemptRecord) -> bool:
        """Whether the caller is to see this attempt: always, unless it races and another was faster."""
        return self._signs is None or self._signs.lead(record.purpose)

    async def _listen(self, record: AttemptRecord, request: LLMCallRequest) -> ProviderResponse:
        line, sink = self._line, self._sink
        assert sink is not None, "only streamed calls listen"
        stream = self._call.provider.stream(request)
        try:
            async for event in stream:
                if isinstance(event, StreamDone):
                    self._leads(record)
                    return event.response
                if isinstance(event, StreamFailed):
                    raise ProviderError(event.error)
                self._note(record, event)
                if self._signs is None or self._leads(record):
                    line.note_delivery(event)
                    await sink(event)
        finally:
            aclose: Any = getattr(stream, "aclose", None)
            if aclose is not None:
                await aclose()
        cut = record.abandoned("the stream ended without a terminal event", ErrorType.TRUNCATED)
        raise ProviderError(cut)

    def _note(self, record: AttemptRecord, event: StreamEvent) -> None:
        """Note what came, and when."""
        now = self._line.now()
        if record.first_byte is None:
            record.first_byte = now
        if not isinstance(event, WITHOUT_CONTENT):
            if record.first_token is None:
                record.first_token = now
                self._parts.telemetry.emit(
                    unchecked(FirstToken)(
                        request_id=self._line.request_id, at_ns=now, number=record.number
                    )
                )
            record.last_token = now
        record.hear(event)

    def _close(self, record: AttemptRecord) -> None:
        """Note the end of an attempt; tell the metrics, telemetry, and what hedges, how it went."""
        parts, error, response = self._parts, record.error, record.response
        ended = record.ended = self._line.now()
        record.frozen = None  # a result may have been made of it while it ran: a step's helper call can outlast it
        if record.cost is None:
            record.cost = self._price(record)
        if record.admitted is None:
            record.note_wait_in_vain(ended)
        if record.waited_for is not None:
            queued = (record.admitted or ended) - record.enqueued
            parts.metrics.mark_waited(self._labels, queue_seconds=queued / 1e9)
        started = record.started
        if started is not None:  # else the gates refused it, and it has only waited
            used = record.usage if response is None else response.usage
            latency = (ended - started) / 1e9
            first = None if record.first_token is None else (record.first_token - started) / 1e9
            mark = parts.metrics.mark_received if error is None else parts.metrics.mark_failed
            mark(
                self._labels,
                input_tokens=used.input_tokens if used else 0,
                output_tokens=used.output_tokens if used else 0,
                latency_seconds=latency,
                first_token_seconds=first,
            )
            if parts.hedger is not None and error is None:
                parts.hedger.note_latency(latency if first is None else first)
        if AttemptEnded in parts.telemetry.heard:
            parts.telemetry.emit(
                unchecked(AttemptEnded)(
                    request_id=self._line.request_id, at_ns=ended, attempt=record.freeze()
                )
            )

    def _price(self, record: AttemptRecord) -> Cost | None:
        """Return what the attempt cost: the provider's own bill, or its tokens by the price book."""
        if record.response is not None and record.response.cost is not None:
            return record.response.cost
        used = record.usage
        return None if used is None else self._cost_of(used)

    def _worst_case(self) -> Decimal | None:
        """Return what the reserved tokens would cost, for limits of money; None without a price."""
        if self._parts.price_book is None:
            return None
        call = self._call
        reserved = Usage(input_tokens=call.input_tokens, output_tokens=call.output_tokens)
        return self._cost_of(reserved).amount

    def _cost_of(self, usage: Usage) -> Cost:
        if self._parts.price_book is None:
            return Cost()
        try:
            return self._parts.price_book.price(
                usage,
                provider=self._call.provider_name,
                model=self._call.request.model,
                at=self._line.requested_at,
            )
        except Exception:  # noqa: BLE001 - a broken price book must not spoil an answer that is paid for
            _log.exception("the price book raised; the attempt is unpriced")
            return Cost()
