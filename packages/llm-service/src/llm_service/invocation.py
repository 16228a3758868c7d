"""Stage three of a call: one attempt, admitted by the gates, sent by the provider, settled by what it used."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from llm_core import (
    AttemptEnded,
    AttemptStarted,
    DeadlineExceeded,
    ErrorInfo,
    ErrorType,
    LLMError,
    Permit,
    ProviderError,
    ProviderResponse,
)
from llm_service.parts import EngineParts
from llm_service.timeline import AttemptRecord, PreparedCall, Timeline

__all__ = ["Invocation"]


class Invocation:
    """The attempts of one call; tenacity calls `attempt` until it succeeds or the policy gives up."""

    def __init__(self, parts: EngineParts, line: Timeline, call: PreparedCall) -> None:
        self._parts = parts
        self._line = line
        self._call = call

    async def attempt(self) -> ProviderResponse:
        """Ask the provider once; the attempt's record is kept whatever happens."""
        line, call = self._line, self._call
        record = line.begin_attempt(call)
        try:
            async with self._parts.gate.admit(
                tokens=call.input_tokens + call.output_tokens,
                output_tokens=call.output_tokens,
                key=line.request.tenant,
                timeout=line.remaining_seconds(),
                priority=line.request.priority,
            ) as permit:
                record.note_admission(permit, line.clock.monotonic_ns())
                record.response = await self._send(record, permit)
                used = record.response.usage
                permit.settle(tokens=used.total_tokens, output_tokens=used.output_tokens)
            return record.response
        except asyncio.CancelledError:
            record.error = ErrorInfo.of(ErrorType.CANCELLED, "the caller gave up")
            raise
        except Exception as error:
            record.error = ErrorInfo.from_exception(error)
            raise
        finally:
            self._close(record)

    async def _send(self, record: AttemptRecord, permit: Permit) -> ProviderResponse:
        try:
            return await self._send_in_time(record, permit)
        except ProviderError as error:
            permit.fail(error.info)
            if error.retry_after:
                self._parts.gate.hold(error.retry_after)
            raise
        except DeadlineExceeded as error:
            permit.fail(ErrorInfo.from_exception(error))
            raise
        except LLMError:
            # Providers raise anything else before they send: an unsupported feature, a missing key.
            permit.cancel()
            raise

    async def _send_in_time(self, record: AttemptRecord, permit: Permit) -> ProviderResponse:
        line, call = self._line, self._call
        remaining = line.remaining_seconds()
        record.points["started"] = record.points["request_sent"] = line.clock.monotonic_ns()
        provider, model = call.provider.name, call.request.model
        self._parts.tell(
            lambda: AttemptStarted(
                number=record.number, provider=provider, model=model, **line.stamp()
            )
        )
        if remaining is None:
            response = await call.provider.invoke(call.request)
        else:
            request = replace(call.request, timeout_seconds=max(remaining, 0.001))
            try:
                async with asyncio.timeout(remaining):
                    response = await call.provider.invoke(request)
            except TimeoutError as late:
                deadline = line.request.deadline_seconds
                raise DeadlineExceeded(f"no answer within the deadline of {deadline} s") from late
        record.points["first_byte"] = line.clock.monotonic_ns()
        if response.rate_limits is not None:
            self._parts.gate.observe(response.rate_limits)
        return response

    def _close(self, record: AttemptRecord) -> None:
        line = self._line
        record.points["ended"] = line.clock.monotonic_ns()
        usage, book = record.usage, self._parts.price_book
        if usage is not None and record.response is not None and record.response.cost is not None:
            record.cost = record.response.cost
        elif usage is not None and book is not None:
            record.cost = book.price(
                usage,
                provider=self._call.provider.name,
                model=self._call.request.model,
                at=line.clock.now(),
            )
        self._parts.tell(lambda: AttemptEnded(attempt=record.freeze(), **line.stamp()))
