"""The ASGI application: reads requests, and sends answers at the pace they are given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from llm_sim.exchange import Answer, Request
from llm_sim.simulator import Simulator

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]

_BATCH_BYTES = 32_768
"""Chunks that are due together are written together, up to about this much at once."""
_TICK_SECONDS = 0.0005
"""Waits shorter than this are not worth a turn of the event loop; they add up to the next one."""


class Application:
    """Serves one `Simulator` over ASGI; raw, because thousands of calls a second pass here."""

    def __init__(
        self,
        simulator: Simulator,
        *,
        sleep: Sleep = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.simulator = simulator
        self._sleep = sleep
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body = await _read(receive)
        if body is None:
            return
        request = Request(
            method=scope["method"],
            path=scope["path"],
            headers=dict(scope["headers"]),
            body=body,
            query=scope["query_string"],
        )
        answer = self.simulator.answer(request)
        if answer.body is not None:
            await self._send_whole(answer, send)
        else:
            await self._send_stream(answer, receive, send)

    async def _send_whole(self, answer: Answer, send: Send) -> None:
        body = answer.body or b""
        wait = answer.delay_seconds + answer.seconds_per_token * answer.usage.output_tokens
        if wait > 0:
            await self._sleep(wait)
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(body)).encode()),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _send_stream(self, answer: Answer, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", answer.content_type), *answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        gone = asyncio.ensure_future(receive())
        try:
            due = self._monotonic() + answer.delay_seconds
            waiting: list[bytes] = []
            size = 0
            for chunk in answer.chunks:
                due += chunk.tokens * answer.seconds_per_token
                ahead = due - self._monotonic() if answer.seconds_per_token or not size else 0.0
                if ahead > _TICK_SECONDS or size > _BATCH_BYTES:
                    if waiting:
                        await _send_part(send, waiting)
                        size = 0
                    await self._sleep(max(ahead, 0.0))
                    if gone.done():
                        return
                waiting.append(chunk.data)
                size += len(chunk.data)
            await send(
                {"type": "http.response.body", "body": b"".join(waiting), "more_body": False}
            )
        finally:
            gone.cancel()


async def _send_part(send: Send, waiting: list[bytes]) -> None:
    await send({"type": "http.response.body", "body": b"".join(waiting), "more_body": True})
    waiting.clear()


async def _read(receive: Receive) -> bytes | None:
    """Read the whole body; None if the client went away before its end."""
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
    return b"".join(parts)
