"""The transport over ollama's own client, which is httpx of the older generation."""

from __future__ import annotations

from typing import Any

from llm_core import ErrorType
from llm_providers.client_transport import ClientTransport, as_failure
from llm_providers.wire import WireCall

__all__ = ["OllamaTransport"]


class OllamaTransport(ClientTransport):
    """Carries calls over `ollama.AsyncClient`."""

    async def _request(self, call: WireCall, *, stream: bool) -> Any:
        # The package's own methods hide the headers and status of a reply and raise different things for the same failure;
        # its client below them knows the host, the key and the user agent.
        http = (await self._clients.current())._client
        options: dict[str, Any] = {}
        if (connect := self._own_connect_seconds(call)) is not None:
            import httpx  # the client is there, so it is installed

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
            raise as_failure(error, ErrorType.INTERNAL) from error
