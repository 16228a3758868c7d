"""Working fakes of the interfaces, for tests of this project and of yours.

Nothing here waits in real time or speaks to a network.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from llm_core.error_info import ErrorInfo
from llm_core.errors import ProviderError
from llm_core.events import StreamDone, StreamEvent, StreamFailed, StreamStarted, TextDelta
from llm_core.interfaces import Generate
from llm_core.messages import TextPart
from llm_core.request import GenerationRequest, LLMCallRequest
from llm_core.response import ProviderResponse, RateLimitFacts
from llm_core.result import GenerationResult
from llm_core.telemetry import TelemetryEvent
from llm_core.usage import Cost, CostStatus, Usage

__all__ = [
    "FakePermit",
    "FixedPriceBook",
    "ManualClock",
    "MemoryAuditLog",
    "MemoryCache",
    "OpenGate",
    "RecordingTelemetry",
    "ScriptedProvider",
    "SimpleStepContext",
]

_START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Time that moves only when told to: eleven seconds pass in none.

    `advance` moves it and wakes every sleeper that is due; sleepers of any event loop and thread are woken in order.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._start = start
        self._ns = 0
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the clock was made."""
        return self._ns

    def now(self) -> datetime:
        """Return the start time plus what has passed."""
        return self._start + timedelta(microseconds=self._ns / 1e3)

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep."""
        with self._lock:
            return sum(not future.done() for *_, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Suspend the current task until the clock has been moved by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            due = self._ns + round(seconds * 1e9)
            heapq.heappush(self._sleepers, (due, next(self._order), loop, future))
        await future

    def advance(self, seconds: float) -> None:
        """Move time forward and wake who is due; ValueError for a negative number."""
        if seconds < 0:
            raise ValueError(f"seconds: got {seconds!r}, expected zero or more: time goes forward")
        with self._lock:
            self._ns += round(seconds * 1e9)
            due = []
            while self._sleepers and self._sleepers[0][0] <= self._ns:
                due.append(heapq.heappop(self._sleepers))
        for _, _, loop, future in due:
            loop.call_soon_threadsafe(_wake, future)

    async def run_for(self, seconds: float) -> None:
        """Move time forward from one sleeper to the next, letting tasks run in between.

        What wakes up may sleep again within the same span.
        """
        end = self._ns + round(seconds * 1e9)
        while True:
            await _let_tasks_run()
            with self._lock:
                due = self._sleepers[0][0] if self._sleepers else None
            if due is None or due > end:
                break
            self.advance((due - self._ns) / 1e9)
        self.advance((end - self._ns) / 1e9)
        await _let_tasks_run()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _let_tasks_run() -> None:
    """Yield often enough for chains of callbacks to come to rest."""
    for _ in range(20):
        await asyncio.sleep(0)


Reply = str | ProviderResponse | ErrorInfo | Exception | Callable[[LLMCallRequest], Any]
"""What a script may hold: text, a whole response, a failure to raise, or a function of the request."""


class ScriptedProvider:
    """A provider that answers from a list, in order, then repeats the last reply; without a list it echoes.

    `requests` keeps every call it got. Streams give one word at a time.
    """

    def __init__(self, replies: Iterable[Reply] = (), *, name: str = "scripted") -> None:
        self._name = name
        self._replies = list(replies) or [lambda request: request.messages[-1].text]
        self.requests: list[LLMCallRequest] = []
        self.closed = False

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._name

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        """Give the next reply of the script, or raise it."""
        position = min(len(self.requests), len(self._replies) - 1)
        self.requests.append(request)
        reply = self._replies[position]
        while callable(reply) and not isinstance(reply, type):
            reply = reply(request)
            if asyncio.iscoroutine(reply):
                reply = await reply
        if isinstance(reply, ErrorInfo):
            raise ProviderError(reply)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, ProviderResponse):
            return reply
        return self._response(request, str(reply))

    async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        """Give the next reply word by word."""
        try:
            response = await self.invoke(request)
        except ProviderError as error:
            yield StreamFailed(error=error.info)
            return
        yield StreamStarted(model=response.model, response_id=response.response_id)
        for word in response.text.split(" "):
            yield TextDelta(text=word if word == response.text else word + " ")
        yield StreamDone(response=response)

    async def aclose(self) -> None:
        """Note that the provider was closed."""
        self.closed = True

    def _response(self, request: LLMCallRequest, text: str) -> ProviderResponse:
        words = sum(len(message.text.split()) for message in request.messages)
        return ProviderResponse(
            provider=self._name,
            model=request.model,
            parts=(TextPart(text=text),),
            usage=Usage(input_tokens=words, output_tokens=len(text.split())),
            response_id=f"response-{len(self.requests)}",
        )


@dataclass(slots=True)
class FakePermit:
    """A permit that remembers what was done with it."""

    tokens: int = 0
    wait_seconds: float = 0.0
    waited_for: str | None = None
    settled: int | None = None
    error: ErrorInfo | None = None
    cancelled: bool = False
    released: bool = False

    def settle(
        self, *, tokens: int, output_tokens: int | None = None, cost: Decimal | None = None
    ) -> None:
        """Remember the tokens really used."""
        self.settled = tokens

    def fail(self, error: ErrorInfo) -> None:
        """Remember the failure."""
        self.error = error

    def cancel(self) -> None:
        """Remember that the call was never sent."""
        self.cancelled = True


class OpenGate:
    """A gate that admits everybody at once, and keeps every permit in `permits`."""

    def __init__(self) -> None:
        self.permits: list[FakePermit] = []
        self.observed: list[RateLimitFacts] = []
        self.held_seconds: list[float] = []

    @asynccontextmanager
    async def admit(
        self,
        *,
        tokens: int = 0,
        output_tokens: int | None = None,
        cost: Decimal | None = None,
        key: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's name
        priority: int = 0,
    ) -> AsyncIterator[FakePermit]:
        """Admit at once."""
        permit = FakePermit(tokens=tokens)
        self.permits.append(permit)
        try:
            yield permit
        finally:
            permit.released = True

    def observe(self, facts: RateLimitFacts) -> None:
        """Remember the facts."""
        self.observed.append(facts)

    def hold(self, seconds: float) -> None:
        """Remember the hold, without holding."""
        self.held_seconds.append(seconds)


class RecordingTelemetry:
    """A telemetry backend that keeps every event in `events`."""

    def __init__(self) -> None:
        self.events: list[TelemetryEvent] = []
        self.closed = False

    def emit(self, event: TelemetryEvent) -> None:
        """Keep the event."""
        self.events.append(event)

    def close(self, timeout: float | None = None) -> None:
        """Note that it was closed."""
        self.closed = True


class FixedPriceBook:
    """A price book with one price per million tokens for everything."""

    def __init__(self, *, input_per_million: Decimal, output_per_million: Decimal) -> None:
        self._input = input_per_million
        self._output = output_per_million

    def price(self, usage: Usage, *, provider: str, model: str, at: datetime) -> Cost:
        """Return tokens times price; estimated if the usage is."""
        amount = usage.input_tokens * self._input + usage.output_tokens * self._output
        return Cost(
            amount=amount / 1_000_000,
            status=CostStatus.ESTIMATED if usage.estimated else CostStatus.PRICED,
            source="fixed",
        )


class MemoryCache:
    """A response cache in a dict, without expiry."""

    def __init__(self) -> None:
        self.results: dict[str, GenerationResult[Any]] = {}

    async def get(self, key: str) -> GenerationResult[Any] | None:
        """Return what was put under `key`."""
        return self.results.get(key)

    async def put(self, key: str, result: GenerationResult[Any], *, ttl_seconds: float) -> None:
        """Keep the result."""
        self.results[key] = result


class MemoryAuditLog:
    """An audit log in a list."""

    def __init__(self) -> None:
        self.results: list[GenerationResult[Any]] = []

    async def append(self, result: GenerationResult[Any]) -> None:
        """Keep the result."""
        self.results.append(result)


@dataclass(slots=True, kw_only=True)
class SimpleStepContext:
    """A pipeline step's context, filled by hand."""

    request: GenerationRequest | None = None
    response: ProviderResponse | None = None
    generate: Generate | None = None
    notes: dict[str, Any] = field(default_factory=dict)
