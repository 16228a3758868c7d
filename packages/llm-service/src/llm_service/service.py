"""`BaseLLMService`: what users subclass; its methods are business operations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from types import TracebackType
from typing import Any, Self

from llm_core import (
    Clock,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    Gate,
    GenerationRequest,
    GenerationResult,
    InvalidValue,
    PriceBook,
    Provider,
    ResponseCache,
    StreamEvent,
    SystemClock,
    TelemetryClient,
)
from llm_gates import ConcurrencyGate, GateSet
from llm_providers import ProviderRegistry
from llm_service.engine import GenerationEngine
from llm_service.fan_out import fan_out
from llm_service.hedging import Hedger, HedgePolicy
from llm_service.invocation import Sink
from llm_service.ladder import Fallback
from llm_service.parts import EngineParts
from llm_service.portal import Portal
from llm_service.retry import RetryPolicy
from llm_service.routing import Router
from llm_service.streaming import stream_events

__all__ = ["BaseLLMService"]


class BaseLLMService:
    """Calls to language models as methods that never throw.

    Subclass it and write each business operation as a method around `generate`::

        class Geography(BaseLLMService):
            async def capital_of(self, country: str) -> GenerationResult[str]:
                return await self.generate(f"What is the capital of {country}?")

    Safe to use from any number of tasks, threads and event loops at once: all share the same gates.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        provider: Provider | None = None,
        registry: ProviderRegistry | None = None,
        max_concurrent_requests: int | None = None,
        gate: Gate | None = None,
        retry: RetryPolicy | None = None,
        fallbacks: Iterable[Fallback | str] = (),
        restart_streams: bool = False,
        hedge: HedgePolicy | None = None,
        telemetry: TelemetryClient | None = None,
        price_book: PriceBook | None = None,
        cache: ResponseCache | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Put a service together; nothing is connected, read or started before the first call.

        `model` is the default for requests that name none: a model name or ``provider/model``.
        `provider` answers every call, whatever the model; without it the model's name decides, in `registry`
        or else among the vendors this toolkit knows.
        `gate` replaces the limits that the service would build from `max_concurrent_requests`.
        `fallbacks` are asked in order when the model that was wanted cannot answer.
        `restart_streams` lets a stream that fails after its first token begin anew (never after a tool call);
        otherwise it fails and keeps what had arrived.
        `hedge` allows a second attempt beside an unusually slow one.
        Raises InvalidValue for limits that contradict each other or cannot be.
        """
        if gate is not None and max_concurrent_requests is not None:
            raise InvalidValue("gate: given together with max_concurrent_requests; expected one")
        limits = [] if max_concurrent_requests is None else [max_concurrent_requests]
        self._clock = clock or SystemClock()
        self._router = Router(
            default_model=model, provider=provider, registry=registry or ProviderRegistry()
        )
        self._portal = Portal()
        self._telemetry = telemetry
        self._gate = gate or GateSet(*map(ConcurrencyGate, limits))
        self._engine = GenerationEngine(
            EngineParts(
                resolve=self._router.resolve,
                gate_of=lambda provider, model: self._gate,
                retry=retry or RetryPolicy(),
                fallbacks=tuple(map(_as_fallback, fallbacks)),
                restart_streams=restart_streams,
                hedger=Hedger(hedge) if hedge else None,
                clock=self._clock,
                telemetry=telemetry,
                price_book=price_book,
                cache=cache,
            )
        )

    async def generate(
        self, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> GenerationResult[Any]:
        """Answer one request: a `GenerationRequest`, the user's text, or its fields as keywords.

        ``generate("Hello", temperature=…)`` is ``generate(GenerationRequest(user="Hello", …))``;
        keywords given with a request replace its fields.
        Never raises, except CancelledError when the awaiting task is cancelled.
        """
        return await self._generate(request, fields, None)

    def generate_sync(
        self, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> GenerationResult[Any]:
        """Do as `generate` does, and block until there is a result.

        Works in scripts, in threads and where a loop is running (notebooks).
        """
        return self._portal.run(lambda: self.generate(request, **fields))

    def stream(
        self, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> AsyncGenerator[StreamEvent, None]:
        """Answer one request piece by piece; takes what `generate` takes.

        Yields `TextDelta` and the like as they come, and ends always and exactly once with `StreamResult`,
        which carries the `GenerationResult`. Closing the generator (`aclose`, or leaving `async with aclosing(…)`)
        closes the connection at once and books what was used.
        """
        return stream_events(lambda sink: self._generate(request, fields, sink))

    def stream_sync(
        self, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> Generator[StreamEvent, None, None]:
        """Do as `stream` does, for a sync caller."""
        events = self.stream(request, **fields)
        try:
            while (event := self._portal.run(lambda: _next_or_none(events))) is not None:
                yield event
        finally:
            self._portal.run(events.aclose)

    def generate_many(
        self,
        requests: Iterable[GenerationRequest | str] | AsyncIterable[GenerationRequest | str],
        *,
        in_flight: int = 16,
    ) -> AsyncGenerator[tuple[int, GenerationResult[Any]], None]:
        """Answer many requests, at most `in_flight` at a time; yield (position, result) as they finish.

        `requests` is read only as fast as results are taken, so it may be endless.
        Leaving the loop early cancels what is in flight.
        Raises InvalidValue for an `in_flight` below 1, and what `requests` itself raises.
        """
        if in_flight < 1:
            raise InvalidValue.of("in_flight", in_flight, "1 or more")
        return fan_out(self.generate, requests, width=in_flight)

    def check(self) -> None:
        """Raise ConfigurationError if the default model has no provider, or its key or package is missing.

        Sends nothing. Programs call it at their start, to fail there and not at the first request.
        """
        self._router.check()

    async def aclose(self) -> None:
        """Close connections and deliver telemetry; may be called more than once."""
        await self._router.aclose()
        self._close_rest()

    def close(self) -> None:
        """Do as `aclose` does, for sync callers."""
        self._portal.run(self._router.aclose)
        self._close_rest()

    def _close_rest(self) -> None:
        self._portal.close()
        if self._telemetry is not None:
            self._telemetry.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def _generate(
        self, request: GenerationRequest | str | None, fields: dict[str, Any], sink: Sink | None
    ) -> GenerationResult[Any]:
        try:
            wanted = _as_request(request, fields)
        except (InvalidValue, TypeError) as error:
            return self._refuse(error)
        return await self._engine.generate(wanted, sink)

    def _refuse(self, error: Exception) -> GenerationResult[Any]:
        """Answer a request that could not even be made: a bad value, or a keyword that is no field."""
        info = ErrorInfo.of(ErrorType.INVALID_REQUEST, str(error), exception=type(error).__name__)
        now = self._clock.monotonic_ns()
        return GenerationResult(
            success=False,
            error=info,
            timestamps=EventTimestamps(
                requested_at=self._clock.now(), requested=now, completed=now
            ),
        )


def _as_fallback(rung: Fallback | str) -> Fallback:
    return Fallback(model=rung) if isinstance(rung, str) else rung


def _as_request(
    request: GenerationRequest | str | None, fields: dict[str, Any]
) -> GenerationRequest:
    if isinstance(request, GenerationRequest):
        return request.replace(**fields) if fields else request
    if request is not None:
        fields = {"user": request, **fields}
    return GenerationRequest(**fields)


async def _next_or_none(events: AsyncGenerator[StreamEvent, None]) -> StreamEvent | None:
    return await anext(events, None)
