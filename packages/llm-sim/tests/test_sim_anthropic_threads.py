"""Threads of Anthropic's Messages, driven by the official package; and the roles they may hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from llm_sim import SimServer

MODEL = "claude-sonnet-5"


@pytest.fixture
def client() -> Iterator[anthropic.Anthropic]:
    call = {"name": "get_weather", "arguments": {"city": "Paris"}}
    rules = [{"contains": "weather", "turns": [{"tool_calls": [call]}, "It is sunny."]}]
    with (
        SimServer(rules) as sim,
        anthropic.Anthropic(base_url=sim.anthropic_base_url, api_key="k", max_retries=0) as made,
    ):
        yield made


def say(client: anthropic.Anthropic, text: str, **body: Any) -> Any:
    return client.beta.messages.create(
        model=MODEL, max_tokens=50, messages=[{"role": "user", "content": text}], **body
    )


def test_the_packages_own_loop_over_tools_comes_to_its_end(client: anthropic.Anthropic) -> None:
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Look up the weather of a city."""
        asked.append(city)
        return "sunny"

    runner = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": "What is the weather?"}],
        tools=[get_weather],
        max_iterations=5,
    )
    (block,) = runner.until_done().content
    assert block.type == "text"
    assert block.text == "It is sunny."
    assert asked == ["Paris"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_thread_holds_what_was_said(client: anthropic.Anthropic, streamed: bool) -> None:
    first = say(client, "one two three", thread={"type": "create"})
    thread = {"type": "continue", "previous_message_id": first.id}
    if streamed:
        with client.beta.messages.stream(
            model=MODEL,
            max_tokens=50,
            messages=[{"role": "user", "content": "four"}],
            thread=thread,  # type: ignore[arg-type]
        ) as stream:
            second = stream.get_final_message()
    else:
        second = say(client, "four", thread=thread)
    assert second.usage.input_tokens > say(client, "four").usage.input_tokens
    third = say(client, "five", thread={"type": "continue", "previous_message_id": second.id})
    assert third.usage.input_tokens > second.usage.input_tokens


@pytest.mark.parametrize(
    ("thread", "message"),
    [
        ({"type": "continue", "previous_message_id": "msg_1"}, "no such message: 'msg_1'"),
        ({"type": "fork"}, "thread.type: Input should be 'create' or 'continue'"),
        ("new", "thread: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_thread_is_refused(client: anthropic.Anthropic, thread: Any, message: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        say(client, "x", thread=thread)


def test_a_system_message_may_come_between(client: anthropic.Anthropic) -> None:
    message = client.messages.create(
        model=MODEL,
        max_tokens=50,
        messages=[
            {"role": "user", "content": "hello"},
            {"role": "system", "content": "be brief"},
        ],
    )
    (block,) = message.content
    assert block.type == "text"
    assert block.text == "hello"
