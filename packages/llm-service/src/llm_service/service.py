"""`BaseLLMService`: what users subclass; its methods are business operations."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from llm_core import (
    Clock,
    ConfigurationError,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    Gate,
    GenerationRequest,
    GenerationResult,
    InvalidValue,
    LLMError,
    Message,
    PriceBook,
    Provider,
    ResponseCache,
    StreamEvent,
    SystemClock,
    TelemetryClient,
)
from llm_gates import BreakerPolicy
from llm_metrics import MetricsRecorder, TelemetryFanOut, UsageStats, choose_telemetry
from llm_service.arguments import (
    check_limits,
    check_requests,
    check_service,
    fallbacks_of,
)
from llm_service.closest import closest
from llm_service.embedding import (
    CALLS_AT_ONCE,
    EMBEDDING_METADATA,
    EmbeddingProvider,
    batches,
    joined_vectors,
)
from llm_service.engine import GenerationEngine
from llm_service.fan_out import fan_out
from llm_service.gate_book import GateBook, Limits
from llm_service.hedging import HedgePolicy, Hedger
from llm_service.in_flight import InFlight
from llm_service.invocation import Sink
from llm_service.ladder import Fallback
from llm_service.operations import completed, current, innermost
from llm_service.parts import EngineParts
from llm_service.pieces import Pieces, ProviderMethod, TakeRaw, engine_for
from llm_service.portal import Portal
from llm_service.request_fields import check_fields, unknown_field
from llm_service.retry import RetryPolicy
from llm_service.routing import Router
from llm_service.snapshot import ServiceSnapshot
from llm_service.sound_values import as_audio_parts
from llm_service.streaming import stream_batches, stream_events
from llm_service.structured import structured_fields

if TYPE_CHECKING:
    from pathlib import Path

    from llm_providers import ProviderRegistry

__all__ = ["BaseLLMService"]

T = TypeVar("T")

_DEFAULT_BREAKER = BreakerPolicy()
_RATE_LIMITS = ("max_rpm", "max_tpm")


class BaseLLMService:
    """Calls to language models as methods that never throw.

    Subclass it and write each business operation as a method around `generate`::

        class Geography(BaseLLMService):
            @operation(deadline_seconds=10)
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
        fallbacks: Iterable[Fallback | str] = (),
        max_rpm: int | None = None,
        max_tpm: int | None = None,
        max_concurrent_requests: int | None = None,
        limits: Mapping[str, Limits] = MappingProxyType({}),
        gate: Gate | None = None,
        breaker: BreakerPolicy | None = _DEFAULT_BREAKER,
        retry: RetryPolicy | None = None,
        restart_streams: bool = False,
        hedge: HedgePolicy | None = None,
        cache: ResponseCache | None = None,
        telemetry: TelemetryClient | str | None = None,
        price_book: PriceBook | None = None,
        operation_fields: Callable[[str | None], Mapping[str, Any]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Put a service together; nothing is connected before the first call.

        *Who answers.* `model` is the default for requests that name none: a model name or ``provider/model``.
        `provider` answers every call, whatever the model; without it the model's name decides, in `registry` or else
        among the vendors this toolkit knows. `fallbacks` are asked in order when the model that was wanted cannot answer.

        *How much.* `max_rpm`, `max_tpm` and `max_concurrent_requests` hold for each model of each provider by itself,
        as vendors count them; `limits` gives single ones others, by ``provider/model``, model or provider, and
        operations limits of their own by ``operation:NAME``, which go before those in the code.
        `gate` replaces all of these. A forked worker counts by itself from then on, with all slots free and what was
        sent in the windows; for workers that share their limits give a `RedisGateSet`.
        `breaker` says when a model that keeps failing is left alone; None never.

        *How persistently.* `retry` is for failures that may pass, `hedge` for unusually slow answers (off by default).
        `restart_streams` lets a stream that fails after its first token begin anew, though never after a tool call;
        otherwise it fails and keeps what had arrived.

        *Around it.* `cache` keeps texts, for requests whose cache policy allows it. `telemetry` hears of every call: a backend,
        or names of installed ones (``"otel,jsonl"``, ``"none"``); without it ``LLM_TELEMETRY`` names them, else the
        only one installed is taken. `price_book` turns tokens into money; without one, costs say ``unpriced``.
        One that has its prices to load begins with it now, in the background, so that no call waits for them.
        `operation_fields` gives the fields that requests of an operation take where neither they nor `@operation`
        say anything; `from_config` fills it.

        Raises InvalidValue for what a service cannot work with and for limits that contradict each other, and
        ConfigurationError for telemetry
        that is not there, or of which several are installed and none is chosen.
        """
        check_service(
            model=model,
            provider=provider,
            registry=registry,
            gate=gate,
            breaker=breaker,
            retry=retry,
            restart_streams=restart_streams,
            hedge=hedge,
            cache=cache,
            telemetry=telemetry,
            price_book=price_book,
            operation_fields=operation_fields,
            clock=clock,
        )
        check_limits(limits)
        rungs = fallbacks_of(fallbacks)
        own_limits = Limits(
            max_rpm=max_rpm, max_tpm=max_tpm, max_concurrent_requests=max_concurrent_requests
        )
        if gate is not None and (own_limits != Limits() or limits):
            raise InvalidValue("gate: given together with limits; expected one or the other")
        self._clock = clock or SystemClock()
        self._router = Router(default_model=model, provider=provider, registry=registry)
        self._gates = GateBook(
            own_limits, per_model=limits, breaker=breaker, gate=gate, clock=self._clock
        )
        self._operation_fields = operation_fields
        preload = getattr(price_book, "preload", None)
        if preload is not None:
            preload(wait=False)
        self._in_flight = InFlight()
        self._portal = Portal(self._in_flight)
        self._metrics = MetricsRecorder(clock=self._clock)
        self._usage = UsageStats()
        self._telemetry = choose_telemetry(telemetry)
        parts = EngineParts(
            resolve=self._router.resolve,
            gate_of=self._gates.gate_of,
            retry=retry or RetryPolicy(),
            clock=self._clock,
            fallbacks=rungs,
            restart_streams=restart_streams,
            hedger=Hedger(hedge) if hedge else None,
            telemetry=TelemetryFanOut([self._telemetry]),
            usage=self._usage,
            in_flight=self._in_flight,
            metrics=self._metrics,
            price_book=price_book,
            cache=cache,
            counts_money=gate is not None,
        )
        self._engine = GenerationEngine(parts)

    @classmethod
    def from_config(cls, path: str | Path | None = None, **arguments: Any) -> Self:
        """Put a service together from a YAML file, the environment, `.env` and `arguments`, in that rising order.

        `arguments` are settings such as ``model="fast"`` or ``max_rpm=100``; see `llm_service.config`.
        Objects that no file could hold go to the constructor, in place of what the configuration says: `provider`,
        `registry`, `fallbacks`, `gate`, `price_book`, `operation_fields`, `clock`, and a `retry`, `hedge`, `breaker`,
        `cache` or `telemetry` that is no mapping. None says nothing.
        Raises ConfigurationError that names file, line and key of every fault, and what the constructor raises.
        """
        from llm_service.config import load_config, service_options
        from llm_service.config.options import own_options

        own = own_options(arguments)
        settings = {name: value for name, value in arguments.items() if name not in own}
        has_models = bool({"provider", "registry"} & set(own))
        loaded = load_config(path, arguments=settings, own_models=has_models)
        options = service_options(loaded.config, secrets=loaded.secrets)
        options["operation_fields"] = loaded.config.request_fields
        return cls(**{**options, **own})

    async def generate(
        self, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> GenerationResult[Any]:
        """Answer one request: a `GenerationRequest`, the user's text, or its fields as keywords.

        ``generate("Hello", seed=7)`` is ``generate(GenerationRequest(user="Hello", seed=7))``;
        keywords given with a request replace its fields.
        Never raises, except CancelledError when the awaiting task is cancelled.
        """
        return await self._answer(request, fields)

    def generate_sync(
        self, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> GenerationResult[Any]:
        """Do as `generate` does, and block until there is a result.

        Works in scripts, in threads and where a loop is running (notebooks).
        """
        return self.run_sync(lambda: self.generate(request, **fields))

    async def generate_structured(
        self, schema: Any, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> GenerationResult[Any]:
        """Answer one request with a value of `schema`: a type that has a JSON Schema, or a JSON Schema itself.

        Types are pydantic models, dataclasses, TypedDicts, ``list[City]``, ``City | None``, enums, ``int``, ….
        The model is asked for that shape, natively where it can (`result.structured_by` says how), and the reply is
        converted and validated; the content is an instance of the type, such as a list of cities, or plain data for a
        JSON Schema.
        What is no JSON object is asked for in an object whose one field, ``value``, holds it, as vendors enforce schemas
        of objects alone; a reply that is the bare value, as JSON, is taken as well. A JSON Schema is sent as it is.
        Takes what `generate` takes besides; a `pipeline` or `response_schema` of the request's own is refused.
        A reply of another shape is an ``output_invalid`` failure, a `schema` of which pydantic knows no JSON Schema
        an ``invalid_request``.
        """
        try:
            if _shapes_answers(request) or "pipeline" in fields or "response_schema" in fields:
                raise InvalidValue(
                    "generate_structured: sets pipeline and response_schema itself; "
                    "expected a request without them, or generate in place of it"
                )
            fields = {**fields, **structured_fields(schema)}
        except LLMError as error:
            return self._refuse(error)
        return await self._answer(request, fields)

    def generate_structured_sync(
        self, schema: Any, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> GenerationResult[Any]:
        """Do as `generate_structured` does, and block until there is a result."""
        return self.run_sync(lambda: self.generate_structured(schema, request, **fields))

    async def embed(
        self, texts: Sequence[str], *, dimensions: int | None = None, **fields: Any
    ) -> GenerationResult[tuple[tuple[float, ...], ...]]:
        """Return one vector per text, in order, over as many calls as the vendor's limits ask for.

        `fields` are those of `GenerationRequest` that make sense here: model, tenant, priority, deadline_seconds, ….
        Each call passes the gates; if one fails, the result does, and no more are sent. There is no cache for vectors.
        The deadline holds for all calls together, and the usage, cost and waits are those of all; with a `request_id`
        of yours each of several has one of its own, such as ``yours-2``.
        """
        options = {} if dimensions is None else {"dimensions": dimensions}
        pieces: Pieces[tuple[str, ...]] = pieces_of(self, EmbeddingProvider)
        try:
            check_fields(fields, "embed", besides=["dimensions"])
            asked = list(batches(texts))
            if not asked:
                raise InvalidValue("texts: got none, expected at least one text")
            fields["metadata"] = {**EMBEDDING_METADATA, **fields.get("metadata", {})}
        except Exception as error:  # noqa: BLE001 - as in `_answer`
            return self._refuse(error)

        async def make(batch: tuple[str, ...]) -> GenerationRequest:
            return GenerationRequest(
                messages=(Message.user(*batch),),
                pipeline=TakeRaw("vectors"),
                provider_options=options,
                **fields,
            )

        return await pieces.answer(asked, make, joined_vectors, in_flight=CALLS_AT_ONCE)

    def embed_sync(
        self, texts: Sequence[str], *, dimensions: int | None = None, **fields: Any
    ) -> GenerationResult[tuple[tuple[float, ...], ...]]:
        """Do as `embed` does, and block until there is a result."""
        return self.run_sync(lambda: self.embed(texts, dimensions=dimensions, **fields))

    def stream(
        self, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> AsyncGenerator[StreamEvent, None]:
        """Answer one request piece by piece; takes what `generate` takes.

        Yields `TextDelta` and the like as they come, and ends always and exactly once with `StreamResult`,
        which carries the `GenerationResult`. Closing the generator (`aclose`, or leaving `async with aclosing(…)`)
        closes the connection at once and books what was used.
        An answer from the cache, or of an identical call that was under way, comes with each part in one piece; no call
        waits for a stream's answer, which comes as slowly as it is read.
        """
        return stream_events(lambda sink: self._answer(request, fields, sink))

    def stream_sync(
        self, request: GenerationRequest | str | None = None, /, **fields: Any
    ) -> Generator[StreamEvent, None, None]:
        """Do as `stream` does, for a sync caller."""
        batches = stream_batches(lambda sink: self._answer(request, fields, sink))
        return self._portal.iterate(batches)

    def generate_many(
        self,
        requests: Iterable[GenerationRequest | str] | AsyncIterable[GenerationRequest | str],
        *,
        in_flight: int = 16,
        in_order: bool = False,
    ) -> AsyncGenerator[tuple[int, GenerationResult[Any]], None]:
        """Answer many requests, at most `in_flight` at a time; yield (position, result) as they finish.

        With `in_order` they come in the order of `requests`, the finished ones waiting for those before them.
        `requests` is read only as fast as results are taken, so it may be endless.
        Leaving the loop early cancels what is in flight.
        Raises InvalidValue, at once, for `requests` that are one text or nothing to iterate over and for an `in_flight`
        below 1, and what `requests` itself raises, after the results of what
        had been read by then.
        """
        check_requests(requests)
        return fan_out(self.generate, requests, in_flight=in_flight, in_order=in_order)

    def generate_many_sync(
        self,
        requests: Iterable[GenerationRequest | str],
        *,
        in_flight: int = 16,
        in_order: bool = False,
    ) -> Generator[tuple[int, GenerationResult[Any]], None, None]:
        """Do as `generate_many` does, for a sync caller; `requests` is read on the service's background loop."""
        many = self.generate_many(requests, in_flight=in_flight, in_order=in_order)
        return self._portal.iterate(_one_by_one(many))

    def set_rate_limits(self, **changes: int | None) -> None:
        """Change `max_rpm` or `max_tpm` now, for all who wait; what counts in the windows stays counted.

        None takes a limit away; one that was None before counts the calls of the last minute, too.
        Models with limits of their own keep those. Raises InvalidValue for an impossible limit.
        """
        unknown = set(changes) - set(_RATE_LIMITS)
        if unknown:
            name = min(unknown)
            raise InvalidValue(f"set_rate_limits: got {name!r}{closest(name, _RATE_LIMITS)}")
        self._gates.change(**changes)

    def set_concurrency(self, max_concurrent_requests: int | None) -> None:
        """Change how many calls may be under way at once, None for any number; calls in flight run to their end."""
        self._gates.change(max_concurrent_requests=max_concurrent_requests)

    def use_limits(self, general: Limits, limits: Mapping[str, Limits]) -> None:
        """Change all limits at once, `limits` being those of single models and providers, as in the constructor."""
        check_limits(limits, general=general)
        self._gates.use(general, limits)

    def use_model(self, model: str) -> None:
        """Change the default model from the next call on; calls in flight keep theirs."""
        self._router.use_model(model)

    def use_provider(self, provider: Provider | None) -> None:
        """Change who answers from the next call on, None for whom the model's name says; calls in flight keep theirs."""
        check_service(provider=provider)
        self._router.use_provider(provider)

    def snapshot(self) -> ServiceSnapshot:
        """Return rates, times, limits and cache as they are now; `gates` has operations' own under ``operation:NAME``."""
        return ServiceSnapshot(
            stats=self._metrics.snapshot(),
            gates=self._gates.snapshots(),
            cache=self._engine.cache_stats(),
            in_flight=len(self._in_flight),
        )

    @property
    def usage(self) -> UsageStats:
        """Calls, attempts, tokens and money by operation, model and provider, since the start or `usage.reset()`."""
        return self._usage

    def check(self) -> None:
        """Raise ConfigurationError if the default model has no provider, or its key or package is missing.

        Sends nothing. Programs call it at their start, to fail there and not at the first request.
        """
        self._router.check()

    def run_sync(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine that `function` makes on the service's background loop, and wait for it."""
        return self._portal.run(function)

    async def aclose(self, *, drain_seconds: float = 10.0) -> None:
        """End in order: refuse new calls, let those under way finish, then end what is left, and close connections.

        A call that is ended has a result of type ``cancelled``; the task that awaits it is not cancelled.
        What a provider raises is raised when all else is closed. May be called more than once.
        """
        try:
            await self._end(drain_seconds)
        finally:
            self._close_rest()

    def close(self, *, drain_seconds: float = 10.0) -> None:
        """Do as `aclose` does, for sync callers."""
        try:
            self.run_sync(lambda: self._end(drain_seconds))
        finally:
            self._close_rest()

    async def _end(self, drain_seconds: float) -> None:
        self._in_flight.closed = True
        await self._in_flight.drain(drain_seconds)
        await self._router.aclose()

    def _close_rest(self) -> None:
        try:
            self._portal.close()
        finally:
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

    def _answer(
        self,
        request: GenerationRequest | str | None,
        fields: dict[str, Any] | None = None,
        sink: Sink | None = None,
        *,
        engine: GenerationEngine | None = None,
    ) -> Coroutine[Any, Any, GenerationResult[Any]]:
        """Begin to answer what `generate` takes, by `engine` if not by the usual one."""
        if self._in_flight.closed:
            return _at_once(self._refuse(ConfigurationError("the service is closed")))
        try:
            asked = _as_request(request, fields or {})
            if innermost.get() or self._operation_fields is not None:
                asked = self._completed(asked)
        except Exception as error:  # noqa: BLE001 - also what the caller's `operation_fields` raises
            return _at_once(self._refuse(unknown_field(fields or {}) or error))
        return (engine or self._engine).generate(asked, sink)

    def _completed(self, request: GenerationRequest) -> GenerationRequest:
        """Return `request` with what the operation that it belongs to says where it says nothing itself."""
        running = current(self)
        if running is not None:
            defaults = running.defaults
            if defaults.limits is not None:
                self._gates.limit_operation(defaults.operation_name, defaults.limits)
            request = completed(request, defaults.fields())
        if self._operation_fields is not None:
            request = completed(request, self._operation_fields(request.operation_name))
        if running is not None:
            now = self._clock.monotonic_ns()
            request = running.in_time(request, self._operation_fields, now)
        return request

    def _refuse(self, error: Exception) -> GenerationResult[Any]:
        """Answer a request that could not even be made: a bad value, or a keyword that is no field."""
        now = self._clock.monotonic_ns()
        name = type(error).__name__
        return GenerationResult(
            success=False,
            error=ErrorInfo.of(ErrorType.INVALID_REQUEST, str(error), exception=name),
            timestamps=EventTimestamps(
                requested_at=self._clock.now(), requested=now, completed=now
            ),
        )


def pieces_of(service: BaseLLMService, kind: type[ProviderMethod]) -> Pieces[Any]:
    """Return what answers the pieces of a call by a method of the provider, by the gates, retries and accounts of `service`.

    What `embed` and the functions of `llm_service.audio` are made with.
    """
    engine = engine_for(kind, service._engine.parts)
    return Pieces(
        engine,
        send=partial(service._answer, engine=engine),
        complete=service._completed,
        refuse=service._refuse,
    )


def _as_request(
    request: GenerationRequest | str | None, fields: dict[str, Any]
) -> GenerationRequest:
    """Build what was asked for; `fields` may be changed here."""
    if "audio" in fields:
        fields = {**fields, "audio": as_audio_parts(fields["audio"])}
    if isinstance(request, GenerationRequest):
        return request.replace(**fields) if fields else request
    if request is not None:
        if "user" in fields:
            raise InvalidValue(
                "user: given twice, as the text and by its name; expected one of them"
            )
        fields["user"] = request
    return GenerationRequest.from_fields(fields)


def _shapes_answers(request: GenerationRequest | str | None) -> bool:
    return isinstance(request, GenerationRequest) and not (
        request.pipeline is None and request.response_schema is None
    )


async def _at_once(result: GenerationResult[Any]) -> GenerationResult[Any]:
    return result


async def _one_by_one(values: AsyncGenerator[T, None]) -> AsyncGenerator[tuple[T], None]:
    async with aclosing(values):
        async for value in values:
            yield (value,)
