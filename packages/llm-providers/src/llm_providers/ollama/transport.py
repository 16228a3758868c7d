"""The transport over ollama's own client, which is httpx of the older generation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from llm_core import ErrorType
from llm_providers.connection_errors import transport_failure
from llm_providers.loop_clients import LoopClients
from llm_providers.sdk_transport import CONNECT_SHARE, ResponseStream, lower_headers
from llm_providers.wire import TransportFailure, WireCall, WireReply, WireStream

__all__ = ["OllamaTransport"]


class OllamaTransport:
    """Carries calls over `ollama.AsyncClient`, one client per event loop."""

    def __init__(self, make_client: Callable[[], Any], *, connect_seconds: float) -> None:
        self._clients: LoopClients[Any] = LoopClients(make_client, _close_client)
        self._connect_seconds = connect_seconds

    def check(self) -> None:
        """Make a client ahead, so that a missing package is told before the first call."""
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
        # The package's own methods hide the headers and status of a reply and raise different things for the same failure;
        # its client below them knows the host, the key and the user agent.
        http = (await self._clients.current())._client
        options: dict[str, Any] = {}
        if call.timeout_seconds is not None and call.timeout_seconds <= self._connect_seconds:
            import httpx  # the client is there, so it is installed

            # Connecting must give up before the whole call does, to be told apart from a slow answer.
            connect = call.timeout_seconds * CONNECT_SHARE
            options["timeout"] = httpx.Timeout(None, connect=connect)
        try:
            request = http.build_request(
                call.method,
                call.path,
                content=call.content,
                headers=dict(call.headers),
                **options,
            )
            return await http.send(request, stream=stream)
        except Exception as error:
            # Boundary to foreign code: whatever stops the sending is a failed call.
            raise (
                transport_failure(error)
                or TransportFailure(ErrorType.INTERNAL, f"{type(error).__name__}: {error}")
            ) from error


def _close_client(client: Any) -> Awaitable[None]:
    closing: Awaitable[None] = client.close()
    return closing
