"""Stage two of a call: answers that are there already, and the storing of new ones."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from llm_core import (
    AudioDelta,
    CacheMode,
    CachePolicy,
    Cost,
    DeadlineExceeded,
    DegradedReason,
    ErrorType,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    ProviderResponse,
    ReasoningDelta,
    ReasoningPart,
    StreamEvent,
    StreamStarted,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from llm_core.forks import begin_anew_in_children
from llm_core.later import asyncio
from llm_service.ledger import bill, total_cost
from llm_service.parts import EngineParts
from llm_service.single_flight import SingleFlight
from llm_service.snapshot import CacheStats
from llm_service.standstill import standstill
from llm_service.timeline import PreparedCall, Timeline

__all__ = ["Recall", "events_of", "response_of"]

T = TypeVar("T")

_log = logging.getLogger("llm_service")

# An hour: long enough for a batch run to profit, short enough not to surprise.
DEFAULT_TTL_SECONDS = 3600.0
# A stored answer in place of one that came too late is worth a moment: caches nearby need milliseconds.
_GRACE_SECONDS = 0.25
# Failures that say something about one caller, and nothing about the call.
_THE_OTHERS_OWN = (ErrorType.TIMEOUT_DEADLINE, ErrorType.GATE_TIMEOUT, ErrorType.CANCELLED)
# What attempts at the answer itself are for; those of a pipeline's helper calls are for something else.
_FOR_THE_ANSWER = ("answer", "hedge")


class Recall:
    """Looks answers up, decides whether they are fresh, and stores successes.

    A broken cache is logged and otherwise the same as none.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._flights: SingleFlight[GenerationResult[Any]] = SingleFlight()
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Count from zero and know of no renewal: in a forked child those of its parent never end."""
        self._hits = self._misses = self._shared = 0
        self._saved: Cost | None = None
        self._renewals: dict[str, asyncio.Task[None]] = {}

    def stats(self) -> CacheStats:
        """Return what the cache has done so far."""
        return CacheStats(
            hits=self._hits,
            misses=self._misses,
            shared=self._shared,
            saved=self._saved or total_cost([]),
        )

    def _note_saving(self, reused: GenerationResult[Any]) -> None:
        self._saved = reused.cost if self._saved is None else total_cost([self._saved, reused.cost])

    def concerns(self, request: GenerationRequest) -> bool:
        """Whether there is a cache that the request may use."""
        policy = request.cache
        return (
            self._parts.cache is not None
            and policy is not None
            and policy.mode is not CacheMode.OFF
        )

    async def look_up(
        self,
        line: Timeline,
        call: PreparedCall,
        renew: Callable[[GenerationRequest], Awaitable[None]],
    ) -> None:
        """Put a stored answer into the line of a request that the cache concerns; a stale one is renewed beside it.

        Raises DeadlineExceeded if the cache does not answer before the deadline.
        """
        policy = line.request.cache
        assert policy is not None, "look_up is for requests that the cache concerns"
        # Only now, as it brings json and hashlib, which programs without a cache need not wait for.
        from llm_service.cache_key import cache_key

        line.cache_key = cache_key(call.provider_name, call.request, tenant=line.request.tenant)
        if policy.mode is CacheMode.USE:
            try:
                stored = await _in_time(self._get(line.cache_key), line.remaining_seconds())
            except _TooSlow:
                _log.warning("the response cache did not answer call %s in time", line.request_id)
                self._misses += 1
                line.cache_key = None  # it is not asked again
                words = "the deadline passed while the response cache was asked"
                raise DeadlineExceeded(words) from None
            if stored is not None and self._age_seconds(stored) <= _ttl_of(policy):
                line.recalled = stored
            elif stored is not None:
                line.recalled = stored
                line.degrade(DegradedReason.STALE_CACHE, "a stored answer, being renewed", None)
                self._begin_renewal(line.cache_key, line.request, policy, renew)
            if stored is not None:
                self._hits += 1
                self._note_saving(stored)
        line.cache_checked = line.now()

    async def share(
        self, line: Timeline, answer: Callable[[], Awaitable[None]], *, streamed: bool
    ) -> None:
        """Run `answer`; identical calls that may use the cache run it once and all take its reply, or its failure.

        A failure that was only the other caller's (its deadline, its wait at the gates) is not shared.
        A streamed call takes another's reply, but nobody takes its: it goes as slowly as its reader.
        """
        policy = line.request.cache
        if line.cache_key is None or policy is None or policy.mode is not CacheMode.USE:
            await answer()
            return
        is_shared = False
        try:
            is_shared = await self._answer_once(line.cache_key, line, answer, streamed)
        finally:
            if is_shared:
                self._shared += 1
            else:
                self._misses += 1

    async def _answer_once(
        self, key: str, line: Timeline, answer: Callable[[], Awaitable[None]], streamed: bool
    ) -> bool:
        """Do as `share` says; return whether another's reply, or failure, was taken."""
        if line.standstill is not None and line.standstill.stops_calls:
            # The identical call may be one that waits for this one.
            await answer()
            return False

        async def lead() -> GenerationResult[Any]:
            await answer()
            return line.result()

        patience = line.remaining_seconds
        try:
            result, is_theirs = await self._flights.run(
                key, lead, patience=patience, alone=streamed
            )
        except TimeoutError:
            words = "the deadline passed while an identical call was under way"
            raise DeadlineExceeded(words) from None
        if not is_theirs:
            return False
        if result.error is not None and result.error.type in _THE_OTHERS_OWN:
            await answer()
            return False
        line.recalled, line.error, line.degraded = result, result.error, result.degraded
        if result.success:
            self._note_saving(result)
        return True

    async def stand_in(self, line: Timeline) -> bool:
        """Look for a stored answer to a call that failed, however stale; return whether there is one."""
        if line.cache_key is None or line.recalled is not None:
            return False
        left = line.remaining_seconds()
        try:
            patience = None if left is None else max(left, _GRACE_SECONDS)
            line.recalled = await _in_time(self._get(line.cache_key), patience)
        except _TooSlow:
            _log.warning("the response cache had nothing in time for call %s", line.request_id)
        return line.recalled is not None

    async def store(self, line: Timeline, result: GenerationResult[Any]) -> None:
        """Keep the reply of a full success for its time to live and the time in which it may be given stale.

        What is kept is the model's reply and what it took; each caller refines it anew by a pipeline of its own.
        """
        policy, cache = line.request.cache, self._parts.cache
        if cache is None or policy is None or line.cache_key is None or line.recalled is not None:
            return
        if not result.success or result.degraded is not None:
            return
        keep_seconds = _ttl_of(policy) + policy.stale_seconds
        try:
            storing = cache.put(line.cache_key, _kept(result), ttl_seconds=keep_seconds)
            await _in_time(storing, line.remaining_seconds())
        except _TooSlow:
            _log.warning("the response cache did not take call %s in time", line.request_id)
        except Exception:  # noqa: BLE001 - a broken cache must not spoil a good answer
            _log.exception("the response cache did not take call %s", line.request_id)

    async def _get(self, key: str) -> GenerationResult[Any] | None:
        if self._parts.cache is None:
            return None
        try:
            found: object = await self._parts.cache.get(key)
        except Exception:  # noqa: BLE001 - a broken cache must not spoil a call
            _log.exception("the response cache could not be read")
            return None
        if found is None or (isinstance(found, GenerationResult) and found.success):
            return found
        kind = type(found).__name__
        _log.error("the response cache gave a %s that is no successful GenerationResult", kind)
        return None

    def _age_seconds(self, stored: GenerationResult[Any]) -> float:
        made = stored.timestamps.utc("recorded") or stored.timestamps.requested_at
        return (self._parts.clock.now() - made).total_seconds()

    def _begin_renewal(
        self,
        key: str,
        request: GenerationRequest,
        policy: CachePolicy,
        renew: Callable[[GenerationRequest], Awaitable[None]],
    ) -> None:
        """Ask again beside the caller, once per key.

        The request's pipeline runs again, too: a reply that it refuses must not take a good one's place.
        """
        under_way = self._renewals.get(key)
        if under_way is not None and not under_way.get_loop().is_closed():
            return
        refresh = request.replace(request_id=None, cache=replace(policy, mode=CacheMode.REFRESH))

        async def run() -> None:
            # Nobody stands still until a renewal is over, even if its caller does until the call is.
            standstill.set(None)
            if not self._parts.in_flight.closed:
                await renew(refresh)

        def forget(ended: asyncio.Task[None]) -> None:
            if self._renewals.get(key) is ended:
                del self._renewals[key]

        task = self._renewals[key] = asyncio.create_task(run())
        task.add_done_callback(forget)


class _TooSlow(Exception):
    """The response cache takes longer than the call that asks it has."""


async def _in_time(asking: Awaitable[T], seconds: float | None) -> T:
    """Await what the cache does for at most `seconds`, None for as long as it takes; raises _TooSlow."""
    if seconds is None:
        return await asking
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await asking
    except TimeoutError:
        if not limit.expired():
            raise
        raise _TooSlow from None


def _kept(result: GenerationResult[Any]) -> GenerationResult[Any]:
    """Return the reply with what it took; a pipeline's value and helper calls are those of one caller."""
    attempts = tuple([a for a in result.attempts if a.purpose in _FOR_THE_ANSWER])
    usage, cost = bill(attempts)
    return replace(
        result, content=result.raw_content, steps=(), attempts=attempts, usage=usage, cost=cost
    )


def response_of(stored: GenerationResult[Any]) -> ProviderResponse:
    """Return the reply that a stored or shared result came from, to be refined anew."""
    thoughts = [ReasoningPart(text=stored.reasoning)] if stored.reasoning else []
    text = [TextPart(text=stored.raw_content)] if stored.raw_content else []
    sound = [stored.audio] if stored.audio else []
    return ProviderResponse(
        provider=stored.provider or "",
        model=stored.model or "",
        parts=(*thoughts, *text, *stored.tool_calls, *sound),
        usage=stored.usage,
        finish_reason=stored.finish_reason or FinishReason.STOP,
        response_id=stored.response_id,
        structured_by=stored.structured_by,
        dropped=stored.dropped,
        raw=stored.raw,
    )


def events_of(reply: ProviderResponse) -> Iterator[StreamEvent]:
    """Yield what a stream says of a reply that is there already: every part in one piece."""
    yield StreamStarted(model=reply.model, response_id=reply.response_id)
    if reply.reasoning:
        yield ReasoningDelta(text=reply.reasoning)
    if reply.text:
        yield TextDelta(text=reply.text)
    for index, call in enumerate(reply.tool_calls):
        yield ToolCallStarted(index=index, id=call.id, name=call.name)
        yield ToolCallDelta(index=index, arguments_text=call.arguments_text)
        if call.complete:
            yield ToolCallEnded(index=index, tool_call=call)
    if reply.audio:
        yield AudioDelta(data=reply.audio.data, transcript=reply.audio.transcript)


def _ttl_of(policy: CachePolicy) -> float:
    return DEFAULT_TTL_SECONDS if policy.ttl_seconds is None else policy.ttl_seconds
