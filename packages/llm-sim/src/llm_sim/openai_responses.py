"""OpenAI Responses: `POST /v1/responses`, plain and streamed, chained by `previous_response_id`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llm_sim import openai_wire as wire
from llm_sim.brain import count_input
from llm_sim.errors import Refusal
from llm_sim.exchange import Answer, Ask, Chunk, Json, Reply, Request, Stamp
from llm_sim.fields import Fields, dump
from llm_sim.responses_input import items_of, read_ask
from llm_sim.responses_output import EventWriter, make_output, make_response
from llm_sim.shelf import Shelf
from llm_sim.wire import JSON, SSE

_STORED_RESPONSES = 4096
"""How many responses are kept for `previous_response_id`, if they are not too large."""


class OpenAIResponses:
    """The Responses endpoint and the responses it has stored."""

    def __init__(self) -> None:
        self._stored: Shelf[tuple[list[Any], Json]] = Shelf(_STORED_RESPONSES)

    def read(self, request: Request) -> Ask:
        """Read a request; raise Refusal as the vendor does."""
        body = wire.read_json(request.body)
        fields = Fields(body, wire.WORDING)
        earlier = self._earlier(fields.optional_text("previous_response_id"))
        return read_ask(fields, earlier, size_bytes=len(request.body))

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        return SSE if ask.stream else JSON

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write a whole response and store it."""
        response = make_response(ask, reply, stamp, make_output(ask, reply, stamp))
        self._store(ask, response)
        return dump(response)

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write the events of a streamed response; it is stored once the last one is written."""
        writer = EventWriter(ask, reply, stamp)
        yield from writer.events()
        self._store(ask, writer.response)

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        data = {"type": "error", "code": "server_error", "message": message, "param": None}
        return b"event: error\ndata: " + dump({**data, "sequence_number": 0}) + b"\n\n"

    def resources(self) -> Iterator[tuple[str, str, Callable[..., Answer]]]:
        """Give method, path and handler of everything that is stored."""
        one = r"/v1/responses/(?P<response_id>[^/]+)"
        yield "POST", "/v1/responses/input_tokens", self._count
        yield "POST", f"{one}/cancel", self._cancel
        yield "GET", one, self._retrieve
        yield "DELETE", one, self._delete
        yield "GET", f"{one}/input_items", self._input_items

    def _count(self, request: Request, stamp: Stamp, /) -> Answer:
        fields = Fields(wire.read_json(request.body), wire.WORDING)
        # A count needs no model; any will do for reading the rest.
        fields.body.setdefault("model", "any")
        ask = read_ask(fields, self._earlier(fields.optional_text("previous_response_id")))
        counted = {"object": "response.input_tokens", "input_tokens": count_input(ask)}
        return Answer(body=dump(counted))

    def _cancel(self, request: Request, stamp: Stamp, /, *, response_id: str) -> Answer:
        response = self._get(response_id)[1]
        if not response["background"]:
            raise wire.refuse("Cannot cancel a synchronous response.", None, "value")
        return Answer(body=dump(response))  # it is complete by now, as everything here

    def _retrieve(self, request: Request, stamp: Stamp, /, *, response_id: str) -> Answer:
        return Answer(body=dump(self._get(response_id)[1]))

    def _input_items(self, request: Request, stamp: Stamp, /, *, response_id: str) -> Answer:
        history, response = self._get(response_id)
        items = [
            {"id": f"msg_{response_id[5:]}{place:02x}", "status": "completed", **item}
            for place, item in enumerate(history[: len(history) - len(response["output"])])
        ]
        for item in items:
            if isinstance(item.get("content"), str):
                item["content"] = [{"type": "input_text", "text": item["content"]}]
        ids = [item["id"] for item in items] or [None]
        page = {"object": "list", "data": items[::-1], "has_more": False}
        return Answer(body=dump({**page, "first_id": ids[-1], "last_id": ids[0]}))

    def _delete(self, request: Request, stamp: Stamp, /, *, response_id: str) -> Answer:
        self._get(response_id)
        self._stored.remove(response_id)
        return Answer(body=dump({"id": response_id, "object": "response", "deleted": True}))

    def _get(self, response_id: str) -> tuple[list[Any], Json]:
        if response_id not in self._stored:
            raise Refusal(
                404,
                f"Response with id '{response_id}' not found.",
                type="invalid_request_error",
                param=None,
            )
        return self._stored[response_id]

    def _earlier(self, response_id: str | None) -> list[Any]:
        if response_id is None:
            return []
        if response_id not in self._stored:
            raise wire.refuse(
                f"Previous response with id '{response_id}' not found.",
                "previous_response_id",
                "previous_response_not_found",
            )
        return self._stored[response_id][0]

    def _store(self, ask: Ask, response: Json) -> None:
        if ask.body.get("store") is False:
            return
        before = ask.body.get("previous_response_id") or ""
        earlier = self._stored[before][0] if before in self._stored else []
        history = [*earlier, *items_of(Fields(ask.body, wire.WORDING)), *response["output"]]
        self._stored.put(response["id"], (history, response), size_bytes=ask.size_bytes)
