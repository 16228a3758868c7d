"""The Responses API as the official package sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from llm_sim import SimServer

RULES = [
    {
        "exact": "weather",
        "turns": [
            {"tool_calls": [{"name": "look", "arguments": {"city": "Paris"}}, {"name": "clock"}]},
            "Sunny at noon.",
        ],
    },
    {"exact": "forbidden", "reply": {"refusal": "I will not."}},
    {"exact": "filtered", "reply": {"text": "half", "finish_reason": "content_filter"}},
]
LOOK: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}


class City(BaseModel):
    name: str
    population: int


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        SimServer(RULES) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="sk-test", max_retries=0) as client,
    ):
        yield client


def test_a_response_echoes_and_counts(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-5", input="good day", instructions="be brief")
    assert response.output_text == "good day"
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.input_tokens == 3 + (2 + 3) * 2
    assert response.usage.output_tokens == 2
    assert response.instructions == "be brief"


def test_a_stream_has_the_vendors_events_in_order(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="gpt-5", input="one two", reasoning={"effort": "low", "summary": "auto"}
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert list(dict.fromkeys(kinds)) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))  # type: ignore[union-attr]
    assert kinds.count("response.output_text.delta") == 2
    assert final.output_text == "one two"
    assert final.usage is not None
    details = final.usage.output_tokens_details
    assert details.reasoning_tokens == kinds.count("response.reasoning_summary_text.delta")
    assert final.usage.output_tokens == details.reasoning_tokens + 2


def test_reasoning_without_a_summary_is_an_empty_item(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="gpt-5",
        input="hi",
        reasoning={"effort": "medium"},
        include=["reasoning.encrypted_content"],
    )
    item = response.output[0]
    assert item.type == "reasoning"
    assert item.summary == []
    assert item.encrypted_content
    streamed = client.responses.create(
        model="gpt-5", input="hi", reasoning={"effort": "medium"}, stream=True
    )
    assert [e.type for e in streamed].count("response.output_item.added") == 2


def test_a_tool_loop_is_chained_by_the_previous_response(client: openai.OpenAI) -> None:
    first = client.responses.create(model="gpt-5", input="weather", tools=[LOOK])
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [
        ("look", '{"city": "Paris"}'),
        ("clock", "{}"),
    ]
    second = client.responses.create(
        model="gpt-5",
        previous_response_id=first.id,
        input=[
            {"type": "function_call_output", "call_id": call.call_id, "output": "x"}
            for call in calls
        ],
    )
    assert second.output_text == "Sunny at noon."
    assert second.previous_response_id == first.id
    again = client.responses.create(model="gpt-5", previous_response_id=second.id, input="so?")
    assert second.usage is not None
    assert again.usage is not None
    # What was said ("Sunny at noon.", 4 tokens) and asked ("so?", 2), 3 for each message.
    assert again.usage.input_tokens == second.usage.input_tokens + 4 + 2 + 3 + 3


def test_a_streamed_tool_call_adds_up(client: openai.OpenAI) -> None:
    with client.responses.stream(model="gpt-5", input="weather", tools=[LOOK]) as stream:
        done = [e for e in stream if e.type == "response.function_call_arguments.done"]
        final = stream.get_final_response()
    assert [event.arguments for event in done] == ['{"city": "Paris"}', "{}"]
    assert [item.type for item in final.output] == ["function_call", "function_call"]


def test_a_schema_is_satisfied_on_the_typed_path(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="gpt-5", input="a city", text_format=City)
    assert response.output_parsed == City(name="name example", population=1)
    with client.responses.stream(model="gpt-5", input="a city", text_format=City) as stream:
        stream.until_done()
        assert stream.get_final_response().output_parsed == response.output_parsed


def test_a_refusal_is_a_part_of_its_own(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-5", input="forbidden")
    message = response.output[0]
    assert message.type == "message"
    assert message.content[0].type == "refusal"
    streamed = client.responses.create(model="gpt-5", input="forbidden", stream=True)
    kinds = [event.type for event in streamed]
    assert kinds.count("response.refusal.delta") == 4
    assert "response.refusal.done" in kinds


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("word " * 40, {"max_output_tokens": 16}, "max_output_tokens"),
        ("filtered", {}, "content_filter"),
    ],
)
def test_a_cut_response_is_incomplete(
    client: openai.OpenAI, text: str, options: dict[str, Any], reason: str
) -> None:
    response = client.responses.create(model="gpt-5", input=text, **options)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == reason
    streamed = list(client.responses.create(model="gpt-5", input=text, stream=True, **options))
    assert streamed[-1].type == "response.incomplete"


def test_all_kinds_of_input_are_counted(client: openai.OpenAI) -> None:
    given: Any = [
        {"role": "developer", "content": "rules"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "earlier"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "https://example.org/x.png", "detail": "low"},
                {"type": "input_file", "filename": "a"},
                {"type": "input_audio", "input_audio": {"data": "A" * 21336, "format": "mp3"}},
            ],
        },
    ]
    response = client.responses.create(model="gpt-5", input=given)
    assert response.output_text == "seea"
    assert response.usage is not None
    assert response.usage.input_tokens == 3 + 4 * (1 + 3) + 85 + 11


def test_stored_responses_can_be_read_listed_and_deleted(client: openai.OpenAI) -> None:
    kept = client.responses.create(model="gpt-5", input="keep me")
    assert client.responses.retrieve(kept.id).output_text == "keep me"
    (item,) = client.responses.input_items.list(kept.id).data
    assert item.type == "message"
    client.responses.delete(kept.id)
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.retrieve(kept.id)
    with pytest.raises(openai.BadRequestError, match="Previous response with id") as caught:
        client.responses.create(model="gpt-5", input="x", previous_response_id=kept.id)
    assert caught.value.code == "previous_response_not_found"


def test_a_response_that_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-5", input="forget me", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "me", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
        ({"input": "x", "max_output_tokens": 15}, "max_output_tokens"),
        ({"input": "x", "tools": ["x"]}, "tools[0]"),
        ({"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"input": "x", "reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"input": "x", "messages": []}, "messages"),
    ],
)
def test_a_bad_request_names_its_parameter(
    client: openai.OpenAI, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/responses", body={"model": "gpt-5", **body}, cast_to=object)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", ["look", "b"]),
        ({"type": "function", "name": "b"}, ["b"]),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, ["look", "b"]),
        ("none", []),
    ],
)
def test_a_demanded_tool_is_called(client: openai.OpenAI, choice: Any, names: list[str]) -> None:
    tools: Any = [LOOK, {"type": "function", "name": "b"}, {"type": "web_search"}]
    response = client.responses.create(model="gpt-5", input="hi", tools=tools, tool_choice=choice)
    assert [item.name for item in response.output if item.type == "function_call"] == names


def test_without_parallel_calls_one_tool_is_called(client: openai.OpenAI) -> None:
    tools: Any = [LOOK, {"type": "function", "name": "b"}]
    response = client.responses.create(
        model="gpt-5", input="hi", tools=tools, tool_choice="required", parallel_tool_calls=False
    )
    assert len(response.output) == 1


def test_any_json_is_an_object(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="gpt-5", input="hi", text={"format": {"type": "json_object"}}
    )
    assert response.output_text == '{"text": "hi"}'


def test_a_stored_prompt_needs_no_input(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-5", prompt={"id": "pmpt_1"})
    assert response.output_text == ""


def test_only_so_many_responses_are_kept() -> None:
    from llm_sim.exchange import Request
    from llm_sim.simulator import Simulator

    simulator = Simulator()
    ids = []
    for _ in range(4097):
        answer = simulator.answer(
            Request(
                method="POST",
                path="/v1/responses",
                headers={b"authorization": b"Bearer k"},
                body=b'{"model": "m", "input": "x"}',
            )
        )
        simulator.finish(answer)
        ids.append(json.loads(answer.body or b"")["id"])

    def status(response_id: str) -> int:
        return simulator.answer(
            Request(
                method="GET",
                path=f"/v1/responses/{response_id}",
                headers={b"authorization": b"Bearer k"},
            )
        ).status

    assert (status(ids[0]), status(ids[1])) == (404, 200)


def test_log_probabilities_are_given_where_they_are_included(client: openai.OpenAI) -> None:
    options: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    with client.responses.stream(model="gpt-5", input="one two", **options) as stream:
        deltas = [event for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert [delta.logprobs[0].token for delta in deltas] == ["one", " two"]
    message = final.output[0]
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    assert message.content[0].logprobs is not None
    assert len(message.content[0].logprobs[1].top_logprobs) == 2


def test_a_prompt_is_counted_without_an_answer(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model="gpt-5", input="good day")
    used = client.responses.create(model="gpt-5", input="good day").usage
    assert used is not None
    assert counted.input_tokens == used.input_tokens
    assert client.responses.input_tokens.count(input="good day").input_tokens == used.input_tokens


def test_only_background_responses_are_cancelled(client: openai.OpenAI) -> None:
    synchronous = client.responses.create(model="gpt-5", input="x")
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        client.responses.cancel(synchronous.id)
    background = client.responses.create(model="gpt-5", input="x", background=True)
    assert client.responses.cancel(background.id).status == "completed"
