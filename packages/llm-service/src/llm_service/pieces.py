"""Calls that are made of several, one for each piece of what is asked: texts to embed, sound to hear, text to speak.

The pieces go the same way as every other call (gates, retries, ledger, one deadline) and come back as one result.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import chain
from typing import Any, Generic, TypeVar

from llm_core import (
    UNSET,
    BackoffStats,
    Degradation,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    GenerationRequest,
    GenerationResult,
    LLMCallRequest,
    Provider,
    ProviderResponse,
    StepContext,
    StreamEvent,
    UnsupportedFeature,
    Usage,
)
from llm_core.later import asyncio
from llm_service.engine import GenerationEngine
from llm_service.fan_out import fan_out
from llm_service.ledger import total_cost
from llm_service.parts import EngineParts

__all__ = ["Pieces", "ProviderMethod", "TakeRaw", "engine_for"]

P = TypeVar("P")

_CANCELLED = "an earlier piece failed"


class ProviderMethod:
    """A provider with another of its methods in place of `invoke`; what that made is in the reply's `raw`."""

    method = ""
    lacking = ""
    """What a provider without the method has not."""

    def __init__(self, provider: Provider, parts: EngineParts) -> None:
        self._provider = provider
        self._parts = parts
        self._method: Any = getattr(provider, self.method, None)

    @property
    def name(self) -> str:
        """The provider's own name."""
        return self._provider.name

    @property
    def server_address(self) -> Any:
        """Where the provider's endpoint is, if it tells."""
        return getattr(self._provider, "server_address", None)

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        """Do what the method does; UnsupportedFeature if the provider has none."""
        if self._method is None:
            raise UnsupportedFeature(f"provider {self.name!r} has no {self.lacking}")
        return await self._invoke(request)

    async def _invoke(self, request: LLMCallRequest) -> ProviderResponse:
        raise NotImplementedError

    def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        """Refuse: each piece comes whole."""
        raise UnsupportedFeature(f"{self.method} is not streamed")

    async def aclose(self) -> None:
        """Leave the provider open: its owner closes it."""


class TakeRaw:
    """The step from a reply to the value that its provider put into `raw`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, content: Any, context: StepContext) -> Any:
        """Return the value."""
        assert context.response is not None, "the engine gives every step the reply"
        return context.response.raw


def engine_for(kind: type[ProviderMethod], parts: EngineParts) -> GenerationEngine:
    """Return an engine that works with `parts` and calls the method of `kind`.

    It has no fallback models, whose vectors and voices are others, and no cache, which keeps text.
    """

    def resolve(model: str | None) -> tuple[Provider, str]:
        provider, name = parts.resolve(model)
        return kind(provider, parts), name

    return GenerationEngine(replace(parts, resolve=resolve, fallbacks=(), cache=None))


class Pieces(Generic[P]):
    """The pieces of one call and their results; the deadline counts from when this is made.

    `send` answers a request by `engine`, `complete` gives it what its operation says, `refuse` makes an error a result.
    """

    def __init__(
        self,
        engine: GenerationEngine,
        *,
        send: Callable[[GenerationRequest], Awaitable[GenerationResult[Any]]],
        complete: Callable[[GenerationRequest], GenerationRequest],
        refuse: Callable[[Exception], GenerationResult[Any]],
    ) -> None:
        self.refuse = refuse
        self._send = send
        self._complete = complete
        self._in_flight = engine.parts.in_flight
        self._now = engine.parts.clock.monotonic_ns
        self._began = self._now()
        self._ends: int | None = None
        self._asked: GenerationRequest
        """The request for the first piece as it was made, with the id, deadline and fallback value of the whole."""
        self._expected = 1
        self._failed = False
        self._under_way: dict[int, asyncio.Task[Any]] = {}
        self._results: list[GenerationResult[Any]] = []
        self._made: list[Any] = []
        """What came of the pieces before the first that failed."""

    async def answer(
        self,
        pieces: Sequence[P],
        make: Callable[[P], Awaitable[GenerationRequest]],
        join: Callable[[list[Any], bool], dict[str, Any]],
        *,
        in_flight: int,
    ) -> GenerationResult[Any]:
        """Send all pieces as `contents` does, and return their results as `merged` does."""
        async for _ in self.contents(pieces, make, in_flight=in_flight):
            pass
        return self.merged(join)

    async def contents(
        self,
        pieces: Sequence[P],
        make: Callable[[P], Awaitable[GenerationRequest]],
        *,
        in_flight: int,
    ) -> AsyncGenerator[Any, None]:
        """Send the request that `make` makes of each piece, at most `in_flight` at a time; yield what comes of them.

        That is in the order of the pieces, up to the first that fails. After a failure no more are sent, and those after
        it that are under way are ended; those before it come to their own end.
        """
        try:
            self._asked = self._complete(await make(pieces[0]))
            calls = fan_out(
                lambda numbered: self._call(make, *numbered),
                self._unsent(pieces),
                in_flight=in_flight,
                in_order=True,
            )
        except Exception as error:  # noqa: BLE001 - what cannot even be asked is a result, as in `generate`
            self._results.append(self.refuse(error))
            return
        self._expected = len(pieces)
        if self._asked.deadline_seconds is not None:
            self._ends = self._began + round(self._asked.deadline_seconds * 1e9)
        unbroken = True
        async with aclosing(calls):
            async for _, result in calls:
                if result is not None:
                    self._results.append(result)
                if result is None or not result.success:
                    unbroken = False
                elif unbroken and result.degraded is None:  # no fallback value
                    self._made.append(result.content)
                    yield result.content

    def _unsent(self, pieces: Sequence[P]) -> Iterator[tuple[int, P]]:
        for position, piece in enumerate(pieces):
            if position and self._is_over:
                return
            yield position, piece

    @property
    def _is_over(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._failed or (self._ends is not None and self._now() >= self._ends)

    async def _call(
        self, make: Callable[[P], Awaitable[GenerationRequest]], position: int, piece: P
    ) -> GenerationResult[Any] | None:
        """Return the result of one piece; None if it was too late to send it."""
        try:
            request = await make(piece) if position else self._asked
            if position and self._is_over:
                return None
            request = request.replace(**self._changes(position))
        except Exception as error:  # noqa: BLE001 - as in `contents`
            result = self.refuse(error)
        else:
            result = await self._sent(request, position)
        if not result.success:
            self._failed = True
            for later in [task for number, task in self._under_way.items() if number > position]:
                self._in_flight.end(later, _CANCELLED)
        return result

    async def _sent(self, request: GenerationRequest, position: int) -> GenerationResult[Any]:
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._under_way[position] = task
        try:
            return await self._send(request)
        finally:
            del self._under_way[position]

    def _changes(self, position: int) -> dict[str, Any]:
        """Return what the request for a piece has of its own: what is left of the deadline; one of several, an id."""
        changes: dict[str, Any] = {}
        if self._ends is not None:
            left = (self._ends - self._now()) / 1e9
            changes["deadline_seconds"] = max(round(left, 3), 0.001)
        if self._expected > 1:
            changes["fallback_value"] = UNSET
            if self._asked.request_id is not None:
                changes["request_id"] = f"{self._asked.request_id}-{position + 1}"
        return changes

    def merged(self, join: Callable[[list[Any], bool], dict[str, Any]]) -> GenerationResult[Any]:
        """Return the results as one; that of a single piece as it is.

        It fails as the first of them that failed; if some were never sent and none failed, the deadline has passed.
        `join` is given what came of the pieces before the failure, if there is any, and whether that is all; it returns
        the content and what else the result has of it.
        The points in time are those of the piece that failed or ended last, from when the first one was requested.
        """
        results = self._results
        if self._expected == 1:
            return results[0]
        asked = self._asked
        failed = next((result for result in results if not result.success), None)
        last = failed or max(results, key=lambda result: result.timestamps.completed or 0)
        attempts = chain.from_iterable(result.attempts for result in results)
        first = results[0].timestamps
        return replace(
            last,
            **self._outcome(failed, join),
            timestamps=replace(
                last.timestamps,
                requested_at=first.requested_at,
                requested=first.requested,
                completed=max(result.timestamps.completed or 0 for result in results),
            ),
            usage=sum((result.usage for result in results), Usage()),
            cost=total_cost(result.cost for result in results),
            attempts=tuple(replace(a, number=n) for n, a in enumerate(attempts, 1)),
            backoff=_summed([result.backoff for result in results]),
            steps=tuple(chain.from_iterable(result.steps for result in results)),
            request_id=asked.request_id or last.request_id,
            request=(last.request or asked).replace(
                request_id=asked.request_id,
                deadline_seconds=asked.deadline_seconds,
                fallback_value=asked.fallback_value,
            ),
        )

    def _outcome(
        self,
        failed: GenerationResult[Any] | None,
        join: Callable[[list[Any], bool], dict[str, Any]],
    ) -> dict[str, Any]:
        """Return the fields that say how the whole went, and what came of it."""
        error, may_stand_in = None, True
        if failed is not None:
            assert failed.error is not None, "failures say why"
            error = failed.error
            # As with any call: not if it was refused or cancelled.
            may_stand_in = failed.request is not None and error.type is not ErrorType.CANCELLED
        elif len(self._results) < self._expected:
            sent = f"{len(self._results)} of {self._expected} calls"
            error = ErrorInfo.of(ErrorType.TIMEOUT_DEADLINE, f"the deadline passed after {sent}")
        if error is not None and may_stand_in and self._asked.fallback_value is not UNSET:
            degraded = Degradation(
                reason=DegradedReason.FALLBACK_VALUE,
                detail="the call failed; its fallback value",
                error=error,
            )
            content = self._asked.fallback_value
            return {"success": True, "error": error, "content": content, "degraded": degraded}
        made = join(self._made, error is None) if self._made else {"content": None}
        return {"success": error is None, "error": error, **made}


def _summed(waits: Sequence[BackoffStats]) -> BackoffStats:
    by_limit: dict[str, float] = {}
    for name, seconds in chain.from_iterable(each.gate_wait_by_limit.items() for each in waits):
        by_limit[name] = by_limit.get(name, 0.0) + seconds
    return BackoffStats(
        gate_waits=sum(each.gate_waits for each in waits),
        gate_wait_seconds=sum(each.gate_wait_seconds for each in waits),
        gate_wait_by_limit=by_limit,
        backoffs=sum(each.backoffs for each in waits),
        backoff_seconds=sum(each.backoff_seconds for each in waits),
        retry_after_seconds=sum(each.retry_after_seconds for each in waits),
    )
