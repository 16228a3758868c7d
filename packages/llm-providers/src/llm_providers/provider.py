"""`BaseLLMProvider`: one call, plain or streamed, over any dialect and any transport."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Self

from llm_core import (
    Clock,
    ErrorInfo,
    ErrorType,
    InvalidValue,
    LLMCallRequest,
    ProviderError,
    ProviderResponse,
    StreamDone,
    StreamEvent,
    StreamFailed,
    SystemClock,
)
from llm_providers.arguments import check_seconds
from llm_providers.classify import (
    classify,
    classify_failure,
    classify_reply,
    request_id_of,
)
from llm_providers.dialect import Dialect, PreparedCall, VendorFailure
from llm_providers.json_reading import MalformedBody, parse_object
from llm_providers.rate_limit_headers import read_rate_limits
from llm_providers.reply import ReplyFrame
from llm_providers.server_address import ServerAddress
from llm_providers.streaming import StreamSession
from llm_providers.wire import (
    Transport,
    TransportFailure,
    WireCall,
    WireReply,
    WireStream,
)

__all__ = ["BaseLLMProvider", "encode_json"]


class BaseLLMProvider(ABC):
    """A provider made of a dialect (pure conversion) and a transport (bytes).

    Subclasses say which dialect a request speaks.
    Nothing but ProviderError leaves `invoke` once something was sent; before that also RequestError
    (UnsupportedFeature, InvalidValue) and ConfigurationError (MissingCredentials, MissingDependencyError).
    """

    def __init__(
        self,
        *,
        name: str,
        transport: Transport,
        timeout_seconds: float = 600.0,
        idle_timeout_seconds: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        """Build a provider called `name`.

        `timeout_seconds` bounds a whole call that does not say its own, `idle_timeout_seconds` the silence
        within a stream (before its first byte, too).
        Raises InvalidValue for what can never work.
        """
        made = type(self).__name__
        check_seconds(
            made, timeout_seconds=timeout_seconds, idle_timeout_seconds=idle_timeout_seconds
        )
        if not isinstance(name, str) or not name:
            raise InvalidValue.of(f"{made}.name", name, "a text that is not empty")
        if not isinstance(transport, Transport):
            raise InvalidValue.of(f"{made}.transport", transport, "a Transport")
        if clock is not None and not isinstance(clock, Clock):
            raise InvalidValue.of(f"{made}.clock", clock, "a Clock")
        self._name = name
        self._transport = transport
        self._timeout_seconds = timeout_seconds
        self._idle_timeout_seconds = idle_timeout_seconds
        self._clock: Clock = SystemClock() if clock is None else clock

    @property
    def name(self) -> str:
        """The name in results, telemetry and ``provider/model``."""
        return self._name

    @property
    def server_address(self) -> ServerAddress | None:
        """Where the endpoint is, as far as it is known; telemetry tells it."""
        return None

    @abstractmethod
    def dialect_for(self, request: LLMCallRequest) -> Dialect:
        """Return the protocol that `request` is to be sent in."""

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        """Answer once, without retrying."""
        dialect = self.dialect_for(request)
        prepared = dialect.prepare(request, stream=False)
        reply = await self.send(self._wire_call(request, prepared), model=request.model)
        return self._read(dialect, prepared, reply, request.model)

    async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        """Answer in pieces, ending always and exactly once with StreamDone or StreamFailed.

        Closing the iterator closes the connection at once.
        """
        dialect = self.dialect_for(request)
        prepared = dialect.prepare(request, stream=True)
        call = self._wire_call(request, prepared)
        await self._transport.ready()
        deadline = asyncio.get_running_loop().time() + (call.timeout_seconds or 0.0)
        upstream = await self._open(call, deadline, request.model)
        if isinstance(upstream, ErrorInfo):
            yield StreamFailed(error=upstream)
            return
        session = StreamSession(
            dialect,
            upstream,
            self._frame(prepared, request.model, upstream.headers),
            request,
            idle_seconds=self._idle_timeout_seconds,
            deadline=deadline,
            now=self._clock.now,
        )
        try:
            async with aclosing(session.events()) as events:
                async for event in events:
                    yield event
                    if isinstance(event, StreamDone):
                        await session.drain()
        finally:
            await session.aclose()

    def check(self) -> None:
        """Raise MissingCredentials or MissingDependencyError if no call could even be sent; sends nothing."""
        self._transport.check()

    async def aclose(self) -> None:
        """Give back connections; may be called more than once, and the provider used again."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self._name!r})"

    async def send(self, call: WireCall, *, model: str | None = None) -> WireReply:
        """Send one call of any kind and return its reply; raises ProviderError for a failure of whatever kind."""
        await self._transport.ready()
        limit_seconds = call.timeout_seconds or self._timeout_seconds
        try:
            async with asyncio.timeout(limit_seconds):
                reply = await self._transport.send(call)
        except TimeoutError:
            raise ProviderError(self._too_late(limit_seconds, model)) from None
        except TransportFailure as failure:
            info = classify_failure(failure, provider=self._name, model=model)
            raise ProviderError(info) from failure
        if reply.status >= 300:
            raise ProviderError(self._classified(reply, model))
        return reply

    @contextmanager
    def reading(self, reply: WireReply, *, model: str | None = None) -> Iterator[None]:
        """Turn whatever goes wrong while `reply` is read inside into a ProviderError."""
        try:
            yield
        except VendorFailure as failure:
            info = classify(
                failure.error,
                status=reply.status,
                headers=reply.headers,
                provider=self._name,
                model=model,
                now=self._clock.now(),
            )
            raise ProviderError(info) from None
        except MalformedBody as error:
            raise ProviderError(self._senseless(reply, str(error), model)) from None
        except Exception as error:
            # A reply must not be able to make anything but a ProviderError leave, whatever it holds.
            words = f"{type(error).__name__} while reading the reply: {error}"
            info = ErrorInfo.of(
                ErrorType.INTERNAL,
                words,
                provider=self._name,
                model=model,
                status_code=reply.status,
                provider_request_id=request_id_of(reply.headers),
                exception=type(error).__name__,
            )
            raise ProviderError(info) from error

    async def send_json(self, call: WireCall, *, model: str | None = None) -> dict[str, Any]:
        """Do as `send`, and return the JSON object that came; raises ProviderError if none did."""
        reply = await self.send(call, model=model)
        with self.reading(reply, model=model):
            return parse_object(reply.content)

    def _wire_call(self, request: LLMCallRequest, prepared: PreparedCall) -> WireCall:
        headers = {**prepared.headers, **request.headers}
        return WireCall(
            path=prepared.path,
            content=encode_json(prepared.body),
            headers=headers,
            timeout_seconds=request.timeout_seconds or self._timeout_seconds,
        )

    def _frame(self, prepared: PreparedCall, model: str, headers: Mapping[str, str]) -> ReplyFrame:
        return ReplyFrame(
            provider=self._name,
            model=model,
            schema_tool=prepared.schema_tool,
            structured_by=prepared.structured_by,
            dropped=prepared.dropped,
            audio_format=prepared.audio_format,
            rate_limits=read_rate_limits(headers, self._clock.now()),
            provider_request_id=request_id_of(headers),
        )

    async def _open(self, call: WireCall, deadline: float, model: str) -> WireStream | ErrorInfo:
        """Open a stream; returns what went wrong instead, if it was refused or never reached."""
        try:
            async with asyncio.timeout_at(deadline):
                upstream = await self._transport.open(call)
                if upstream.status < 300:
                    return upstream
                try:
                    content = b"".join([chunk async for chunk in upstream.chunks()])
                finally:
                    await upstream.aclose()
        except TimeoutError:
            return self._too_late(call.timeout_seconds or self._timeout_seconds, model)
        except TransportFailure as failure:
            return classify_failure(failure, provider=self._name, model=model)
        reply = WireReply(status=upstream.status, headers=upstream.headers, content=content)
        return self._classified(reply, model)

    def _read(
        self, dialect: Dialect, prepared: PreparedCall, reply: WireReply, model: str
    ) -> ProviderResponse:
        """Convert a plain reply; raises ProviderError if it is a failure or makes no sense."""
        with self.reading(reply, model=model):
            payload = parse_object(reply.content)
            return dialect.read(payload, self._frame(prepared, model, reply.headers))

    def _classified(self, reply: WireReply, model: str | None) -> ErrorInfo:
        return classify_reply(reply, provider=self._name, model=model, now=self._clock.now())

    def _senseless(self, reply: WireReply, words: str, model: str | None) -> ErrorInfo:
        return ErrorInfo.of(
            ErrorType.SERVER_ERROR,
            f"HTTP {reply.status} with a body that is {words}"
            if reply.content
            else f"HTTP {reply.status} with an empty body",
            status_code=reply.status,
            provider=self._name,
            model=model,
            provider_request_id=request_id_of(reply.headers),
            rate_limits=read_rate_limits(reply.headers, self._clock.now()),
        )

    def _too_late(self, limit_seconds: float, model: str | None) -> ErrorInfo:
        return ErrorInfo.of(
            ErrorType.TIMEOUT_READ,
            f"no answer within {limit_seconds:g} s",
            provider=self._name,
            model=model,
            details={"phase": "total"},
        )


def encode_json(body: Mapping[str, Any]) -> bytes:
    """Return `body` as JSON; raises InvalidValue if something in it has no JSON form."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(
            f"LLMCallRequest: cannot be written as JSON ({error}), expected JSON values in provider_options, "
            "schemas and tool arguments"
        ) from None
