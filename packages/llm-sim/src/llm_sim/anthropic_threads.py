"""Anthropic Messages with threads: conversations whose state the server holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from llm_sim import anthropic_messages as messages
from llm_sim import anthropic_wire as wire
from llm_sim.exchange import Ask, Chunk, Reply, Request, Stamp
from llm_sim.fields import Fields, dump
from llm_sim.shelf import Shelf

_STORED_THREADS = 1024
"""How many replies a thread can be continued from."""


class AnthropicMessages:
    """`POST /v1/messages`, and the threads (a beta) that its replies may begin or go on with."""

    def __init__(self) -> None:
        self._stored: Shelf[list[Any]] = Shelf(_STORED_THREADS)

    def read(self, request: Request) -> Ask:
        """Read a request, with all that its thread holds; raise Refusal as the vendor does."""
        if b'"thread"' not in request.body:  # most have none: not worth reading them twice
            return messages.read(request)
        body = wire.read_json(request.body)
        thread = Fields(body, wire.WORDING).mapping("thread")
        if thread.get("type") == "continue":
            fields = Fields(body, wire.WORDING)
            earlier = self._earlier(thread.get("previous_message_id"))
            body = body | {"messages": [*earlier, *fields.items("messages")]}
        elif thread and thread.get("type") != "create":
            raise wire.refuse("thread.type: Input should be 'create' or 'continue'")
        return messages.read(replace(request, body=dump(body)))

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        return messages.content_type(ask)

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write a whole message; its thread is kept."""
        self._keep(ask, reply, stamp)
        return messages.render(ask, reply, stamp)

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write the events of a streamed message; its thread is kept once the last is written."""
        yield from messages.stream(ask, reply, stamp)
        self._keep(ask, reply, stamp)

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        return messages.error_event(message)

    def _earlier(self, message_id: object) -> list[Any]:
        if message_id not in self._stored:
            raise wire.refuse(f"thread.previous_message_id: no such message: {message_id!r}")
        return self._stored[str(message_id)]

    def _keep(self, ask: Ask, reply: Reply, stamp: Stamp) -> None:
        if not ask.body.get("thread"):
            return
        said = messages.message(ask, reply, stamp)
        spoken = {"role": "assistant", "content": said["content"]}
        held = [*ask.body["messages"], spoken]
        self._stored.put(said["id"], held, size_bytes=len(dump(held)))
