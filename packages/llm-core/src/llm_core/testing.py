"""Working fakes of the interfaces, for tests of this project and of yours.

Nothing here waits in real time or speaks to a network.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from llm_core._manual_clock import ManualClock
from llm_core.error_info import ErrorInfo
from llm_core.errors import LLMError, ProviderError
from llm_core.events import (
    AudioDelta,
    ReasoningDelta,
    StreamDone,
    StreamEvent,
    StreamFailed,
    StreamStarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from llm_core.interfaces import Generate, StepContext
from llm_core.messages import AudioPart, ReasoningPart, TextPart, ToolCall
from llm_core.request import GenerationRequest, LLMCallRequest
from llm_core.response import ProviderResponse, RateLimitFacts
from llm_core.result import GenerationResult
from llm_core.telemetry import GenerationStarted, TelemetryEvent
from llm_core.timing import EventTimestamps
from llm_core.trace import TraceContext
from llm_core.usage import Cost, CostStatus, Usage
from llm_core.value import unchecked

__all__ = [
    "FakePermit",
    "FixedPriceBook",
    "FunctionStep",
    "ManualClock",
    "MemoryCache",
    "OpenGate",
    "RecordingTelemetry",
    "Reply",
    "ScriptedGenerate",
    "ScriptedProvider",
    "SimpleStepContext",
    "TracingTelemetry",
]

Reply = str | ProviderResponse | ErrorInfo | BaseException | Callable[[LLMCallRequest], Any]
"""What a script may hold: text, a whole response, a failure to raise, or a (coroutine) function of
the request that gives one of these."""


class ScriptedProvider:
    """A provider that answers from a list, in order, then repeats the last reply.

    Without a list it echoes the text of the last message.
    `requests` keeps every call it got. Streams give text one word at a time.
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
        while callable(reply):
            reply = reply(request)
            if inspect.isawaitable(reply):
                reply = await reply
        if isinstance(reply, ErrorInfo):
            raise ProviderError(reply)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, ProviderResponse):
            return reply
        return self._response(request, str(reply))

    async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        """Give the next reply in pieces; of a failure first the part that had arrived, if any."""
        try:
            response = await self.invoke(request)
        except ProviderError as error:
            if error.info.partial is not None:
                for event in _pieces(error.info.partial):
                    yield event
            yield StreamFailed(error=error.info)
            return
        for event in _pieces(response):
            yield event
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


def _pieces(response: ProviderResponse) -> Iterator[StreamEvent]:
    """Yield what a vendor's stream would say before its terminal event."""
    yield StreamStarted(model=response.model, response_id=response.response_id)
    calls = 0
    for part in response.parts:
        if isinstance(part, TextPart):
            yield from (TextDelta(text=word) for word in re.findall(r"\s*\S+\s*|\s+", part.text))
        elif isinstance(part, ReasoningPart):
            yield ReasoningDelta(text=part.text)
        elif isinstance(part, AudioPart):
            yield AudioDelta(data=part.data, transcript=part.transcript)
        elif isinstance(part, ToolCall):
            yield ToolCallStarted(index=calls, id=part.id, name=part.name)
            yield ToolCallDelta(index=calls, arguments_text=part.arguments_text)
            if part.complete:
                yield ToolCallEnded(index=calls, tool_call=part)
            calls += 1


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
    settled_output_tokens: int | None = None
    settled_cost: Decimal | None = None
    key: str | None = None
    timeout: float | None = None
    priority: int = 0

    def settle(
        self, *, tokens: int, output_tokens: int | None = None, cost: Decimal | None = None
    ) -> None:
        """Remember what was really used."""
        self.settled = tokens
        self.settled_output_tokens = output_tokens
        self.settled_cost = cost

    def fail(self, error: ErrorInfo, *, cost: Decimal | None = None) -> None:
        """Remember the failure."""
        self.error = error
        self.settled_cost = cost

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
        permit = FakePermit(tokens=tokens, key=key, timeout=timeout, priority=priority)
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


class TracingTelemetry(RecordingTelemetry):
    """A telemetry backend that knows one span for every call, and notes what was made current.

    `activated` keeps (request id, attempt) in the order of activation, `active` those not yet left.
    """

    def __init__(self, context: TraceContext | None = None) -> None:
        super().__init__()
        self.context = context or TraceContext(trace_id="1" * 32, span_id="2" * 16)
        self.activated: list[tuple[str, int | None]] = []
        self.active: list[tuple[str, int | None]] = []

    def trace_context(self, request_id: str, *, attempt: int | None = None) -> TraceContext | None:
        """Return the one context; None for a call that was not started here."""
        started = (e for e in self.events if isinstance(e, GenerationStarted))
        return self.context if any(e.request_id == request_id for e in started) else None

    @contextmanager
    def activate(self, request_id: str, *, attempt: int | None = None) -> Iterator[None]:
        """Note it as active inside the `with`."""
        span = (request_id, attempt)
        self.activated.append(span)
        self.active.append(span)
        try:
            yield
        finally:
            self.active.remove(span)


class FixedPriceBook:
    """A price book with one price per million tokens for everything."""

    def __init__(self, *, input_per_million: Decimal, output_per_million: Decimal) -> None:
        self._input = input_per_million
        self._output = output_per_million

    def price(self, usage: Usage, *, provider: str, model: str, at: datetime) -> Cost:
        """Return tokens times price; estimated if the usage is."""
        amount = usage.input_tokens * self._input + usage.output_tokens * self._output
        return unchecked(Cost)(
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


class FunctionStep:
    """A pipeline step made of a function of the content; the context is kept in `contexts`."""

    def __init__(self, function: Callable[[Any], Any], *, name: str | None = None) -> None:
        self._function = function
        self._name = name or function.__name__
        self.contexts: list[StepContext] = []

    @property
    def name(self) -> str:
        """The step's name: the function's unless given."""
        return self._name

    def run(self, content: Any, context: StepContext) -> Any:
        """Return what the function makes of the content."""
        self.contexts.append(context)
        return self._function(content)


class ScriptedGenerate:
    """A way for pipeline steps to ask again, answered by a ScriptedProvider.

    `purposes` keeps what each call was for. A failure of the script is a result, not an exception.
    """

    def __init__(self, replies: Iterable[Reply] = ()) -> None:
        self.provider = ScriptedProvider(replies)
        self.purposes: list[str] = []

    async def __call__(self, request: GenerationRequest, *, purpose: str) -> GenerationResult[Any]:
        """Answer `request` with the next reply of the script."""
        self.purposes.append(purpose)
        timestamps = EventTimestamps(requested_at=ManualClock().now(), requested=0)
        try:
            response = await self.provider.invoke(request.to_call(request.model or "scripted"))
        except LLMError as error:
            info = ErrorInfo.from_exception(error)
            return GenerationResult(
                request=request, success=False, error=info, timestamps=timestamps
            )
        return GenerationResult(
            request=request,
            success=True,
            content=response.text,
            raw_content=response.text,
            usage=response.usage,
            timestamps=timestamps,
        )


@dataclass(slots=True, kw_only=True)
class SimpleStepContext:
    """A pipeline step's context, filled by hand."""

    request: GenerationRequest | None = None
    response: ProviderResponse | None = None
    generate: Generate | None = None
    # Steps under test may leave notes for each other here; it is no part of the interface.
    notes: dict[str, Any] = field(default_factory=dict)
