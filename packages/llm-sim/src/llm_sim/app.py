"""The ASGI application: reads requests, and sends answers at the pace they are given."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from llm_sim.exchange import Answer, Chunk, Request
from llm_sim.simulator import Simulator

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]

TRANSPORT = "llm_sim.transport"
"""The ASGI extension that gives the connection's transport, for faults below HTTP."""

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
        whole = False
        try:
            if answer.body is not None and not answer.header_delay_seconds:
                wait = answer.delay_seconds + answer.seconds_per_token * answer.usage.output_tokens
                if wait <= 0:
                    await _send_whole(send, answer, answer.body)
                    whole = True
                    return
            gone = asyncio.ensure_future(receive())
            try:
                whole = await _Sender(self, answer, send, gone, scope).run()
            finally:
                gone.cancel()
        finally:
            self.simulator.finish(answer, abandoned=not whole)

    async def pause(self, seconds: float, gone: asyncio.Future[Message]) -> bool:
        """Wait; False as soon as the client is gone."""
        if seconds > 1.0:  # a long wait is worth the task that ends it early
            sleeping = asyncio.ensure_future(self._sleep(seconds))
            either: set[asyncio.Future[Any]] = {sleeping, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            sleeping.cancel()
        else:
            await self._sleep(seconds)
        return not gone.done()

    def now(self) -> float:
        """Read the clock that paces streams."""
        return self._monotonic()


class _Sender:
    """Sends one answer that takes its time."""

    def __init__(
        self,
        app: Application,
        answer: Answer,
        send: Send,
        gone: asyncio.Future[Message],
        scope: Scope,
    ) -> None:
        self._app = app
        self._answer = answer
        self._send = send
        self._gone = gone
        self._scope = scope
        self._waiting: list[bytes] = []

    async def run(self) -> bool:
        """Send it; False if the client left before the end."""
        answer = self._answer
        if answer.header_delay_seconds and not await self._pause(answer.header_delay_seconds):
            return False
        if answer.body is not None:
            wait = answer.delay_seconds + answer.seconds_per_token * answer.usage.output_tokens
            if wait > 0 and not await self._pause(wait):
                return False
            await _send_whole(self._send, answer, answer.body)
            return True
        return await self._stream()

    async def _stream(self) -> bool:
        answer = self._answer
        pace = answer.seconds_per_token
        due = self._app.now() + answer.delay_seconds
        first = answer.delay_seconds > 0
        size = 0
        if not _resets_first(answer):
            await self._start()
        for chunk in answer.chunks:
            ahead = 0.0
            if pace or first:
                due += chunk.tokens * pace
                ahead = due - self._app.now()
                first = False
            if ahead > _TICK_SECONDS or size > _BATCH_BYTES:
                await self._flush()
                size = 0
                if not await self._pause(max(ahead, 0.0)):
                    return False
            if chunk.data:
                self._waiting.append(chunk.data)
                size += len(chunk.data)
            if chunk.action:
                size = 0
                begun = self._app.now()
                if not await self._act(chunk):
                    return chunk.action != "wait"
                due += self._app.now() - begun
        stayed = not self._gone.done()
        body = b"".join(self._waiting)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        return stayed

    async def _start(self) -> None:
        answer = self._answer
        headers = [(b"content-type", answer.content_type), *answer.headers]
        if answer.content_length is not None:
            headers.append((b"content-length", b"%d" % answer.content_length))
        await self._send(
            {"type": "http.response.start", "status": answer.status, "headers": headers}
        )

    async def _act(self, chunk: Chunk) -> bool:
        """Do what a chunk asks for; False if nothing can follow."""
        await self._flush()
        if chunk.action == "wait":
            return await self._pause(chunk.seconds)
        if chunk.action == "flush":
            await self._app.pause(0.0, self._gone)
            return True
        transport = self._scope.get("extensions", {}).get(TRANSPORT, {}).get("transport")
        if transport is not None:
            if chunk.action == "reset":
                # A lingering time of 0 makes closing send RST instead of FIN.
                linger = struct.pack("ii", 1, 0)
                peer = transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                transport.abort()
            else:
                transport.close()
            await asyncio.sleep(0)
        return False

    async def _flush(self) -> None:
        if self._waiting:
            body = b"".join(self._waiting)
            self._waiting.clear()
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _pause(self, seconds: float) -> bool:
        return await self._app.pause(seconds, self._gone)


def _resets_first(answer: Answer) -> bool:
    """Tell whether the connection is reset before anything of the answer is sent."""
    chunks = answer.chunks
    return isinstance(chunks, list) and bool(chunks) and chunks[0].action == "reset"


async def _send_whole(send: Send, answer: Answer, body: bytes) -> None:
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(body)),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


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
