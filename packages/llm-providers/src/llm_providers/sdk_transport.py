"""The transport over the two SDKs that share one client design (openai 3, anthropic 2).

Both document `client.post(path, cast_to=httpx2.Response, …)` for endpoints their own methods do not cover.
It runs the whole of the SDK (authentication, base URL, default headers, connection pool) and returns the HTTP response
as it is, without building the vendor's objects, which is most of what a call through the SDK costs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from llm_core import ErrorType
from llm_providers.connection_errors import transport_failure
from llm_providers.loop_clients import LoopClients
from llm_providers.wire import TransportFailure, WireCall, WireReply, WireStream

__all__ = ["CONNECT_SHARE", "ResponseStream", "SdkTransport", "lower_headers"]

CONNECT_SHARE = 0.75
"""The part of a short time limit that connecting may take."""


class SdkTransport:
    """Carries calls over an SDK's async client, one client per event loop.

    `make_client` builds one with its own retries off; `connect_seconds` bounds the making of a connection.
    With `closes` False the clients are left open in the end, because they send with an HTTP client of the caller's.
    """

    def __init__(
        self, make_client: Callable[[], Any], *, connect_seconds: float, closes: bool = True
    ) -> None:
        close = _close_client if closes else _leave_client
        self._clients: LoopClients[Any] = LoopClients(make_client, close)
        self._connect_seconds = connect_seconds

    def check(self) -> None:
        """Make a client ahead, so that a missing key or package is told before the first call."""
        self._clients.check()

    async def ready(self) -> None:
        """Import the SDK and make this event loop's client, if that has not happened yet."""
        await self._clients.current()

    async def send(self, call: WireCall) -> WireReply:
        """Send `call` and read the whole reply."""
        response = await self._request(call, stream=False)
        return WireReply(
            status=response.status_code,
            headers=lower_headers(response.headers.raw),
            content=response.content,
        )

    async def open(self, call: WireCall) -> WireStream:
        """Send `call` and return when the headers are there."""
        return ResponseStream(await self._request(call, stream=True))

    async def aclose(self) -> None:
        """Close the clients of all loops."""
        await self._clients.aclose()

    async def _request(self, call: WireCall, *, stream: bool) -> Any:
        client = await self._clients.current()
        import httpx2  # the client is there, so it is installed

        options: dict[str, Any] = {}
        if call.headers:
            options["headers"] = dict(call.headers)
        if call.timeout_seconds is not None and call.timeout_seconds <= self._connect_seconds:
            # Connecting must give up before the whole call does, to be told apart from a slow answer.
            options["timeout"] = httpx2.Timeout(None, connect=call.timeout_seconds * CONNECT_SHARE)
        sending: dict[str, Any] = {"cast_to": httpx2.Response, "options": options}
        if stream:
            sending |= {"stream": True, "stream_cls": object}
        try:
            if call.method == "GET":
                return await client.get(call.path, **sending)
            if call.files:
                options.setdefault("headers", {})["Content-Type"] = "multipart/form-data"
                return await client.post(
                    call.path, body=dict(call.form), files=dict(call.files), **sending
                )
            if call.method == "DELETE":
                return await client.delete(call.path, **sending)
            return await client.post(call.path, content=call.content, **sending)
        except (TransportFailure, asyncio.CancelledError):
            raise
        except Exception as error:
            # Boundary to foreign code: the SDKs let errors of several libraries through.
            response = getattr(error, "response", None)
            if isinstance(
                response, httpx2.Response
            ):  # the SDK's error for a status of 400 and more
                return response
            raise (
                transport_failure(error)
                or TransportFailure(ErrorType.INTERNAL, f"{type(error).__name__}: {error}")
            ) from error


class ResponseStream:
    """The body of one open response of httpx2 or httpx, which are alike in this."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = lower_headers(response.headers.raw)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the decoded body as it comes."""
        if self._response.is_stream_consumed:  # an error reply, which the SDK has read
            yield self._response.content
            return
        try:
            async for chunk in self._response.aiter_bytes():
                yield chunk
        except Exception as error:
            # Boundary to foreign code: whatever breaks while reading is a broken connection.
            raise (
                transport_failure(error)
                or TransportFailure(ErrorType.CONNECTION, f"{type(error).__name__}: {error}")
            ) from error

    async def aclose(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            # Boundary to foreign code: the answer is told already, and a connection that breaks while closing is closed.
            await self._response.aclose()


def lower_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as a plain dict with lower-case names; of repeated ones the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in raw}


def _close_client(client: Any) -> Awaitable[None]:
    closing: Awaitable[None] = client.close()
    return closing


async def _leave_client(_: Any) -> None:
    """Do nothing: what the caller made, the caller closes."""
