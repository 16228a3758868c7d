"""What transports over a vendor's async client have in common, be its HTTP library httpx2 or httpx."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from llm_core import ErrorType
from llm_providers.connection_errors import transport_failure
from llm_providers.loop_clients import LoopClients
from llm_providers.wire import TransportFailure, WireCall, WireReply, WireStream

__all__ = ["ClientTransport", "ResponseStream", "as_failure"]

_CONNECT_SHARE = 0.75
"""The part of a short time limit that connecting may take."""


class ClientTransport(ABC):
    """Carries calls over an async client, one per event loop.

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
            headers=_lower_headers(response.headers.raw),
            content=response.content,
        )

    async def open(self, call: WireCall) -> WireStream:
        """Send `call` and return when the headers are there."""
        return ResponseStream(await self._request(call, stream=True))

    async def aclose(self) -> None:
        """Close the clients of all loops."""
        await self._clients.aclose()

    @abstractmethod
    async def _request(self, call: WireCall, *, stream: bool) -> Any:
        """Return the HTTP library's response; raises TransportFailure if there is none."""

    def _own_connect_seconds(self, call: WireCall) -> float | None:
        """Return how long connecting may take for a call that is shorter than `connect_seconds`, else None.

        Connecting must give up before the whole call does, to be told apart from a slow answer.
        """
        limit = call.timeout_seconds
        if limit is None or limit > self._connect_seconds:
            return None
        return limit * _CONNECT_SHARE


def as_failure(error: Exception, otherwise: ErrorType) -> TransportFailure:
    """Return what `error` of an SDK or HTTP library means; `otherwise` is the type of an unknown one."""
    known = transport_failure(error)
    return known or TransportFailure(otherwise, f"{type(error).__name__}: {error}")


class ResponseStream:
    """The body of one open response of httpx2 or httpx, which are alike in this."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = _lower_headers(response.headers.raw)

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
            raise as_failure(error, ErrorType.CONNECTION) from error

    async def aclose(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            # Boundary to foreign code: the answer is told already, and a connection that breaks while closing is closed.
            await self._response.aclose()


def _lower_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as a plain dict with lower-case names; of repeated ones the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in raw}


def _close_client(client: Any) -> Awaitable[None]:
    closing: Awaitable[None] = client.close()
    return closing


async def _leave_client(_: Any) -> None:
    """Do nothing: what the caller made, the caller closes."""
