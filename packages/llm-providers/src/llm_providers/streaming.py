"""One stream from its open connection to its single terminal event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace
from datetime import datetime

from llm_core import (
    ErrorInfo,
    ErrorType,
    LLMCallRequest,
    ProviderResponse,
    StreamDone,
    StreamEvent,
    StreamFailed,
)
from llm_providers.classify import VendorError, classify, classify_failure, find_error
from llm_providers.dialect import Dialect, VendorFailure
from llm_providers.json_reading import MalformedBody, parse_json, shown
from llm_providers.reply import ReplyAssembly, ReplyFrame
from llm_providers.token_estimate import estimate_input_usage
from llm_providers.wire import TransportFailure, WireStream

__all__ = ["StreamSession"]

_DRAIN_SECONDS = 0.5
"""How long the end of a finished body is waited for, so that its connection can be used again."""
_KEPT_BYTES = 4096
"""How much of a body that makes no sense is kept for the error message."""


class StreamSession:
    """Reads one upstream body as events: deltas, then StreamDone, or StreamFailed with what had arrived.

    `idle_seconds` bounds the silence between two chunks, `deadline` (event loop time) the whole.
    """

    def __init__(
        self,
        dialect: Dialect,
        upstream: WireStream,
        frame: ReplyFrame,
        request: LLMCallRequest,
        *,
        idle_seconds: float,
        deadline: float,
        now: Callable[[], datetime],
    ) -> None:
        self._upstream = upstream
        self._chunks = upstream.chunks()
        self._frames = dialect.frames()
        self._assembly = ReplyAssembly(frame)
        self._reader = dialect.reader(self._assembly)
        self._frame = frame
        self._request = request
        self._idle_seconds = idle_seconds
        self._deadline = deadline
        self._now = now
        self._read_nothing = True
        self._first_bytes = b""

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """Give every event, the terminal one last and exactly once."""
        try:
            while not self._reader.complete:
                chunk = await self._next_chunk()
                if chunk is None:
                    for event in self._read_all(self._frames.finish()):
                        yield event
                    break
                for payload in self._frames.feed(chunk):
                    for event in self._reader.read(payload):
                        yield event
                    self._read_nothing = False
                    if self._reader.complete:
                        break
            if self._reader.complete:
                for event in self._assembly.start("", ""):  # if nothing was said before the end
                    yield event
                yield StreamDone(response=self._assembly.whole())
                return
            info = self._cut_off()
        except VendorFailure as failure:
            info = self._vendor_failure(failure.error)
        except MalformedBody as error:
            info = self._failure(ErrorType.SERVER_ERROR, f"a message of the stream is {error}")
        except TransportFailure as failure:
            info = classify_failure(
                failure,
                provider=self._frame.provider,
                model=self._request.model,
                partial=self._partial(),
                status=self._upstream.status,
                provider_request_id=self._frame.provider_request_id,
                rate_limits=self._frame.rate_limits,
            )
        except Exception as error:  # noqa: BLE001 - a stream must end with an event, whatever a server makes of us
            words = f"{type(error).__name__} while reading the stream: {error}"
            info = replace(self._failure(ErrorType.INTERNAL, words), exception=type(error).__name__)
        yield StreamFailed(error=info)

    async def drain(self) -> None:
        """Read the rest of a finished body, briefly, so that the connection goes back into the pool."""
        with contextlib.suppress(TransportFailure, TimeoutError, StopAsyncIteration):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while True:
                    await anext(self._chunks)

    async def aclose(self) -> None:
        """Close the upstream connection at once, whatever is still to come."""
        await self._upstream.aclose()
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()

    def _read_all(self, payloads: Iterable[bytes]) -> list[StreamEvent]:
        return [event for payload in payloads for event in self._reader.read(payload)]

    async def _next_chunk(self) -> bytes | None:
        """Return the next chunk, or None at the end of the body; raises TransportFailure for a silence."""
        loop_time = asyncio.get_running_loop().time
        until = min(loop_time() + self._idle_seconds, self._deadline)
        try:
            async with asyncio.timeout_at(until):
                chunk = await anext(self._chunks)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            if until >= self._deadline:
                words, phase = (
                    "the stream was not over within the time for the whole call",
                    "total",
                )
            else:
                words, phase = (
                    f"the stream was silent for {self._idle_seconds:g} s",
                    "idle",
                )
            raise TransportFailure(ErrorType.TIMEOUT_READ, words, {"phase": phase}) from None
        if self._read_nothing and len(self._first_bytes) < _KEPT_BYTES:
            self._first_bytes += chunk[:_KEPT_BYTES]
        return chunk

    def _cut_off(self) -> ErrorInfo:
        """Describe a body that ended without the vendor's terminal event."""
        if not self._read_nothing:
            return self._failure(
                ErrorType.TRUNCATED,
                "the stream ended without the vendor's terminal event",
            )
        with contextlib.suppress(MalformedBody):
            error = find_error(parse_json(self._first_bytes))
            if error is not None:
                return self._vendor_failure(error)
        body = shown(self._first_bytes) if self._first_bytes else "an empty body"
        return self._failure(
            ErrorType.SERVER_ERROR, f"expected a stream of events, got {body}", nothing_came=True
        )

    def _vendor_failure(self, error: VendorError) -> ErrorInfo:
        return classify(
            error,
            status=self._upstream.status,
            headers=self._upstream.headers,
            provider=self._frame.provider,
            model=self._request.model,
            now=self._now(),
            partial=self._partial(),
        )

    def _failure(
        self, error_type: ErrorType, message: str, *, nothing_came: bool = False
    ) -> ErrorInfo:
        return ErrorInfo.of(
            error_type,
            message,
            status_code=self._upstream.status,
            provider=self._frame.provider,
            model=self._request.model,
            provider_request_id=self._frame.provider_request_id,
            rate_limits=self._frame.rate_limits,
            partial=None if nothing_came else self._partial(),
        )

    def _partial(self) -> ProviderResponse:
        return self._assembly.partial(estimate_input_usage(self._request))
