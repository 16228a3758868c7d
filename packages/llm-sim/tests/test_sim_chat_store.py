"""Stored chat completions, driven by the official package; and how much is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from llm_sim import SimServer
from llm_sim.shelf import Shelf


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    with (
        SimServer() as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as made,
    ):
        yield made


def keep(client: openai.OpenAI, content: Any, **body: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    body = {"model": "gpt-4o", "messages": messages, "store": True, **body}
    return client.chat.completions.create(**body)


def test_a_stored_completion_is_read_labelled_and_deleted(client: openai.OpenAI) -> None:
    made = keep(client, "hello", metadata={"run": "1"})
    stored = client.chat.completions
    assert stored.retrieve(made.id).choices == made.choices
    changed: Any = stored.update(made.id, metadata={"run": "2"})
    assert changed.metadata == {"run": "2"}
    assert stored.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match="not found"):
        stored.retrieve(made.id)


def test_without_store_nothing_is_kept(client: openai.OpenAI) -> None:
    made = keep(client, "hello", store=False)
    for chunk in keep(client, "hello", store=False, stream=True):
        assert chunk.object == "chat.completion.chunk"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)
    assert client.chat.completions.list().data == []


def test_a_streamed_completion_is_stored_whole(client: openai.OpenAI) -> None:
    (made,) = {chunk.id for chunk in keep(client, "one two", stream=True)}
    assert client.chat.completions.retrieve(made).choices[0].message.content == "one two"


def test_stored_completions_are_listed_page_by_page(client: openai.OpenAI) -> None:
    ids = [keep(client, str(number), metadata={"n": str(number)}).id for number in range(3)]
    keep(client, "x", model="gpt-5")
    stored = client.chat.completions
    assert [one.id for one in stored.list(model="gpt-4o", limit=2)] == ids
    assert [one.id for one in stored.list(model="gpt-4o", order="desc")] == ids[::-1]
    assert [one.id for one in stored.list(metadata={"n": "1"})] == [ids[1]]


def test_the_messages_of_a_stored_completion_are_listed(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "text", "text": " this"}]
    made = keep(client, parts)
    (message,) = client.chat.completions.messages.list(made.id, order="desc")
    assert (message.content, len(message.content_parts or ())) == ("see this", 2)
    plain = keep(client, "text")
    (message,) = client.chat.completions.messages.list(plain.id)
    assert (message.content, message.content_parts) == ("text", None)


def test_a_shelf_forgets_the_oldest_by_number_and_by_size() -> None:
    shelf: Shelf[str] = Shelf(3, most_bytes=100)
    for name, size in (("a", 10), ("b", 60), ("c", 30), ("d", 10)):
        shelf.put(name, name.upper(), size_bytes=size)
    assert list(shelf) == ["B", "C", "D"]
    shelf.remove("c")
    shelf.put("e", "E", size_bytes=40)
    assert list(shelf) == ["D", "E"]
    shelf.put("f", "F", size_bytes=1000)
    assert list(shelf) == ["F"]
    assert ("f" in shelf, "e" in shelf, shelf["f"]) == (True, False, "F")
