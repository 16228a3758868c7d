"""OpenAI Chat Completions with `store`: what was kept can be read, listed, labelled and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

from llm_sim import chat_input
from llm_sim import openai_chat as chat
from llm_sim import openai_wire as wire
from llm_sim.errors import Refusal
from llm_sim.exchange import Answer, Ask, Chunk, Json, Reply, Request, Stamp
from llm_sim.fields import Fields, dump
from llm_sim.shelf import Shelf

_STORED_COMPLETIONS = 1000
_PAGE = 20
"""How many are listed unless the request says otherwise."""


class OpenAIChat:
    """`POST /v1/chat/completions`, and the completions that were made with `store`."""

    def __init__(self) -> None:
        self._stored: Shelf[tuple[Json, list[Json]]] = Shelf(_STORED_COMPLETIONS)

    def read(self, request: Request) -> Ask:
        """Read a request; raise Refusal as the vendor does."""
        return chat_input.read(request)

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        return chat.content_type(ask)

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write a whole completion; it is kept if that was asked for."""
        body = chat.render(ask, reply, stamp)
        self._keep(ask, body)
        return body

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write the chunks of a streamed completion; it is kept once the last one is written."""
        yield from chat.stream(ask, reply, stamp)
        if ask.body.get("store"):
            self._keep(ask, chat.render(ask, reply, stamp))

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        return chat.error_event(message)

    def resources(self) -> Iterator[tuple[str, str, Callable[..., Answer]]]:
        """Give method, path and handler of everything that is stored."""
        one = "/v1/chat/completions/(?P<name>[^/]+)"
        yield "GET", "/v1/chat/completions", self._list
        yield "GET", one, self._retrieve
        yield "POST", one, self._update
        yield "DELETE", one, self._delete
        yield "GET", f"{one}/messages", self._messages

    def _keep(self, ask: Ask, body: bytes) -> None:
        if ask.body.get("store"):
            completion = {**json.loads(body), "metadata": ask.body.get("metadata") or {}}
            sent = ask.body["messages"]
            size = len(body) + len(dump(sent))
            self._stored.put(completion["id"], (completion, sent), size_bytes=size)

    def _list(self, request: Request, stamp: Stamp, /) -> Answer:
        query = {name: values[-1] for name, values in parse_qs(request.query.decode()).items()}
        found = [completion for completion, _ in self._stored]
        if query.get("order") == "desc":
            found.reverse()
        if "model" in query:
            found = [completion for completion in found if completion["model"] == query["model"]]
        for name, value in query.items():
            if name.startswith("metadata["):
                label = name[len("metadata[") : -1]
                found = [one for one in found if one["metadata"].get(label) == value]
        return _page(found, query)

    def _retrieve(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        return Answer(body=dump(self._get(name)[0]))

    def _update(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        completion, _ = self._get(name)
        fields = Fields(wire.read_json(request.body), wire.WORDING)
        fields.known(["metadata"])
        completion["metadata"] = fields.mapping("metadata")
        return Answer(body=dump(completion))

    def _delete(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        self._get(name)
        self._stored.remove(name)
        gone = {"object": "chat.completion.deleted", "id": name, "deleted": True}
        return Answer(body=dump(gone))

    def _messages(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        query = {key: values[-1] for key, values in parse_qs(request.query.decode()).items()}
        messages = [
            {"id": f"{name}-{place}", **_parted(message)}
            for place, message in enumerate(self._get(name)[1])
        ]
        if query.get("order") == "desc":
            messages.reverse()
        return _page(messages, query)

    def _get(self, name: str) -> tuple[Json, list[Json]]:
        if name not in self._stored:
            raise Refusal(
                404,
                f"Chat completion with id '{name}' not found.",
                type="invalid_request_error",
                param="completion_id",
            )
        return self._stored[name]


def _parted(message: Json) -> Json:
    """Give a message's text as `content`, and its parts if it was written in parts."""
    content = message.get("content")
    if not isinstance(content, list):
        return {**message, "content_parts": None}
    text = "".join(part["text"] for part in content if part.get("type") == "text")
    return {**message, "content": text, "content_parts": content}


def _page(items: list[Json], query: dict[str, str]) -> Answer:
    """Give the items after the one that is named, at most as many as are asked for."""
    ids = [item["id"] for item in items]
    if query.get("after") in ids:
        items = items[ids.index(query["after"]) + 1 :]
    most = int(query.get("limit", _PAGE))
    shown = items[:most]
    return Answer(
        body=dump(
            {
                "object": "list",
                "data": shown,
                "first_id": shown[0]["id"] if shown else None,
                "last_id": shown[-1]["id"] if shown else None,
                "has_more": len(items) > most,
            }
        )
    )
