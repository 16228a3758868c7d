"""The transport over the two SDKs that share one client design (openai 3, anthropic 2).

Both document `client.post(path, cast_to=httpx2.Response, …)` for endpoints their own methods do not cover.
It runs the whole of the SDK (authentication, base URL, default headers, connection pool) and returns the HTTP response
as it is, without building the vendor's objects, which is most of what a call through the SDK costs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from llm_core import ErrorType
from llm_providers.client_transport import ClientTransport, as_failure
from llm_providers.wire import TransportFailure, WireCall

__all__ = ["SdkTransport"]


class SdkTransport(ClientTransport):
    """Carries calls over an SDK's async client."""

    async def _request(self, call: WireCall, *, stream: bool) -> Any:
        client = await self._clients.current()
        import httpx2  # the client is there, so it is installed

        options: dict[str, Any] = {}
        if call.headers:
            options["headers"] = dict(call.headers)
        if (connect := self._own_connect_seconds(call)) is not None:
            options["timeout"] = httpx2.Timeout(None, connect=connect)
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
            raise as_failure(error, ErrorType.INTERNAL) from error
