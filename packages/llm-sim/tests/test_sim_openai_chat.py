"""Chat Completions as the official package sees them."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from llm_sim import SimServer

RULES = [
    {"regex": r"capital of (?P<country>\w+)", "reply": "The capital of {{country}}: {{1}} City"},
    {
        "exact": "weather",
        "turns": [
            {
                "tool_calls": [
                    {"name": "look", "arguments": {"city": "Paris"}},
                    {"name": "look", "arguments": {"city": "Rome"}},
                ]
            },
            "Sunny in both.",
        ],
    },
    {"exact": "forbidden", "reply": {"refusal": "I will not say that."}},
    {"exact": "think", "reply": {"text": "42", "reasoning": "six times seven"}},
    {"exact": "filtered", "reply": {"text": "half", "finish_reason": "content_filter"}},
]
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
            "required": ["city", "days"],
        },
    },
}


class City(BaseModel):
    name: str
    population: int
    tags: list[str]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        SimServer(RULES) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="sk-test", max_retries=0) as client,
    ):
        yield client


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    return client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": text}], **options
    )


def test_a_reply_echoes_by_default_and_counts_its_tokens(client: openai.OpenAI) -> None:
    completion = ask(client, "good day to you")
    assert completion.choices[0].message.content == "good day to you"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.completion_tokens == 4
    assert completion.usage.prompt_tokens == 4 + 3 + 3
    assert completion.usage.total_tokens == 14
    assert completion.id.startswith("chatcmpl-")
    assert completion._request_id.startswith("req_")


def test_a_rule_answers_with_what_it_captured(client: openai.OpenAI) -> None:
    completion = ask(client, "what is the capital of Peru?")
    assert completion.choices[0].message.content == "The capital of Peru: Peru City"


def test_a_stream_carries_one_token_a_chunk_and_the_same_usage(client: openai.OpenAI) -> None:
    plain = ask(client, "one two three, four! 👍🏽 été")
    chunks = list(
        ask(
            client,
            "one two three, four! 👍🏽 été",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(texts) == "one two three, four! 👍🏽 été"
    assert len(texts) == plain.usage.completion_tokens
    assert chunks[-1].usage == plain.usage
    assert chunks[-1].choices == []
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "stop"
    assert all(c.usage is None for c in chunks[:-1])


def test_a_stream_without_asking_for_usage_has_none(client: openai.OpenAI) -> None:
    assert all(chunk.usage is None for chunk in ask(client, "hello", stream=True))


def test_the_typed_stream_helper_rebuilds_the_completion(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="gpt-4o", messages=[{"role": "user", "content": "weather"}]
    ) as stream:
        kinds = {event.type for event in stream}
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert "tool_calls.function.arguments.delta" in kinds
    assert calls is not None
    assert [call.function.arguments for call in calls] == ['{"city": "Paris"}', '{"city": "Rome"}']


def test_a_tool_loop_ends_with_the_next_turn(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "weather"}]
    first = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[LOOK])  # type: ignore[list-item]
    assert first.choices[0].finish_reason == "tool_calls"
    assert first.choices[0].message.content is None
    calls = first.choices[0].message.tool_calls or []
    assert len({call.id for call in calls}) == 2
    messages.append(first.choices[0].message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in calls]
    second = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[LOOK])  # type: ignore[list-item]
    assert second.choices[0].message.content == "Sunny in both."


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
def test_a_demanded_tool_is_called_with_arguments_of_its_schema(
    client: openai.OpenAI, choice: Any
) -> None:
    completion = ask(client, "hello", tools=[LOOK], tool_choice=choice)
    (call,) = completion.choices[0].message.tool_calls
    assert call.function.name == "look"
    assert call.function.arguments == '{"city": "city example", "days": 3}'


def test_a_schema_is_satisfied_on_the_typed_path(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(
        model="gpt-4o", messages=[{"role": "user", "content": "a city"}], response_format=City
    )
    parsed = completion.choices[0].message.parsed
    assert parsed == City(name="name example", population=1, tags=["tags example"])


def test_any_json_is_an_object(client: openai.OpenAI) -> None:
    completion = ask(client, "say json", response_format={"type": "json_object"})
    assert completion.choices[0].message.content == '{"text": "say json"}'


def test_a_refusal_stands_in_its_own_field(client: openai.OpenAI) -> None:
    message = ask(client, "forbidden").choices[0].message
    assert (message.content, message.refusal) == (None, "I will not say that.")
    streamed = [c.choices[0].delta.refusal for c in ask(client, "forbidden", stream=True)]
    assert "".join(part or "" for part in streamed) == "I will not say that."


def test_reasoning_is_counted_and_not_shown(client: openai.OpenAI) -> None:
    completion = ask(client, "think")
    assert completion.choices[0].message.content == "42"
    assert completion.usage.completion_tokens_details.reasoning_tokens == 3
    assert completion.usage.completion_tokens == 1 + 3
    assert ask(client, "hi", reasoning_effort="high").usage.completion_tokens > 40


def test_the_reply_ends_at_the_token_limit(client: openai.OpenAI) -> None:
    completion = ask(client, "one two three four", max_completion_tokens=2)
    assert completion.choices[0].message.content == "one two"
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 2


def test_reasoning_alone_can_use_up_the_token_limit(client: openai.OpenAI) -> None:
    completion = ask(client, "think", max_tokens=2)
    assert completion.choices[0].message.content == ""
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 2


def test_the_reply_ends_before_a_stop_sequence(client: openai.OpenAI) -> None:
    completion = ask(client, "one two three", stop=[" three", "zzz"])
    assert completion.choices[0].message.content == "one two"
    assert completion.choices[0].finish_reason == "stop"


def test_a_scripted_finish_reason_is_told(client: openai.OpenAI) -> None:
    assert ask(client, "filtered").choices[0].finish_reason == "content_filter"


def test_several_choices_are_several_replies(client: openai.OpenAI) -> None:
    completion = ask(client, "hello", n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert completion.usage.completion_tokens == 3
    indices = {c.choices[0].index for c in ask(client, "hello", n=2, stream=True)}
    assert indices == {0, 1}


def test_images_and_sound_are_counted(client: openai.OpenAI) -> None:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\0\0" * 32000)
    parts = [
        {"type": "text", "text": "look and listen"},
        {"type": "image_url", "image_url": {"url": "https://example.org/x.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/y.png"}},
        {
            "type": "input_audio",
            "input_audio": {
                "data": base64.b64encode(sound.getvalue()).decode(),
                "format": "wav",
            },
        },
    ]
    completion = client.chat.completions.create(
        model="gpt-4o-audio",
        messages=[{"role": "user", "content": parts}],  # type: ignore[misc,list-item]
    )
    assert completion.choices[0].message.content == "look and listen"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 3 + 6 + 85 + 765 + 20
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.audio_tokens == 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_spoken_reply_comes_with_its_transcript(client: openai.OpenAI, stream: bool) -> None:
    options: Any = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
    made = ask(client, "say hello", stream=stream, **options)
    if stream:
        deltas = [
            c.choices[0].delta.audio.model_dump()
            for c in made
            if c.choices[0].delta.audio is not None
        ]
        transcript = "".join(d.get("transcript") or "" for d in deltas)
        sound = b"".join(base64.b64decode(d.get("data") or "") for d in deltas)
    else:
        audio = made.choices[0].message.audio
        transcript, sound = audio.transcript, base64.b64decode(audio.data)
        assert made.usage.completion_tokens_details.audio_tokens == 10
    assert transcript == "say hello"
    assert len(sound) == 2 * 24000 // 2  # two tokens of a quarter second, 16 bit at 24 kHz


def test_a_long_prompt_is_cached_by_whole_messages(client: openai.OpenAI) -> None:
    long = {"role": "system", "content": "a long rule " * 500}
    used = []
    for question in ("first question", "second question"):
        completion = client.chat.completions.create(
            model="gpt-4o",
            messages=[long, {"role": "user", "content": question}],  # type: ignore[list-item]
        )
        assert completion.usage is not None
        assert completion.usage.prompt_tokens_details is not None
        used.append(completion.usage.prompt_tokens_details.cached_tokens)
    assert used == [0, 1408]  # 500 times 3 tokens, and 4 more, rounded down to a step of 128


def test_old_prompts_are_forgotten(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_sim.prompt_cache._CACHED_PREFIXES", 1)
    used = []
    for word in ("new", "old", "new", "new"):
        completion = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": f"what is {word} " * 500}]
        )
        assert completion.usage is not None
        assert completion.usage.prompt_tokens_details is not None
        used.append(completion.usage.prompt_tokens_details.cached_tokens)
    assert used == [0, 0, 0, 1408]


def test_each_key_has_a_prompt_cache_of_its_own(client: openai.OpenAI) -> None:
    used = []
    for key in ("one", "another", "one"):
        completion = client.with_options(api_key=key).chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "what is new " * 500}]
        )
        assert completion.usage is not None
        assert completion.usage.prompt_tokens_details is not None
        used.append(completion.usage.prompt_tokens_details.cached_tokens)
    assert used == [0, 0, 1408]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"model": "m"}, "messages", "Missing required parameter: 'messages'."),
        ({"model": "m", "messages": []}, "messages", "empty array"),
        ({"messages": [{"role": "user", "content": "x"}]}, "model", "Missing required"),
        ({"model": 5, "messages": []}, "model", "expected a string, but got an integer"),
        ({"model": "m", "messages": "x"}, "messages", "expected an array, but got a string"),
        ({"model": "m", "messages": ["x"]}, "messages[0]", "expected an object"),
        ({"model": "m", "messages": [{"role": "me"}]}, "messages[0].role", "Supported values"),
        ({"model": "m", "messages": [{"role": "user"}]}, "messages[0].content", "got null"),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "x"}]}]},
            "messages[0].content[0].type",
            "'image_url'",
        ),
        (
            {"model": "m", "messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "Missing",
        ),
        ({"temperature": 3}, "temperature", "above maximum value. Expected a value <= 2"),
        ({"temperature": "hot"}, "temperature", "expected a decimal, but got a string"),
        ({"top_p": -1}, "top_p", "below minimum value. Expected a value >= 0"),
        ({"max_tokens": 0}, "max_tokens", "integer below minimum value"),
        ({"max_tokens": 1.5}, "max_tokens", "expected an integer, but got a decimal"),
        ({"stream": 1}, "stream", "expected a boolean, but got an integer"),
        ({"stop": 1}, "stop", "expected a string or an array of strings"),
        ({"audio": 1}, "audio", "expected an object"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "only allowed when"),
        ({"modalities": ["audio"], "audio": {"format": "opus"}}, "audio.format", "speaks 'wav'"),
        ({"reasoning_effort": "much"}, "reasoning_effort", "'minimal'"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema.name",
            "Missing",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {}},
                }
            },
            "response_format",
            "Invalid schema for response_format 'n'",
        ),
        ({"tools": ["x"]}, "tools[0]", "expected an object"),
        ({"tools": [{"type": "function"}]}, "tools[0].function.name", "Missing"),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"type": "x"}}}
                ]
            },
            "tools[0].function.parameters",
            "Invalid schema for function 'f'",
        ),
        ({"tool_choice": "auto"}, "tool_choice", "only allowed when 'tools' are specified"),
        ({"tools": [LOOK], "tool_choice": 5}, "tool_choice", "Invalid value"),
        ({"colour": "red"}, "colour", "Unknown parameter: 'colour'."),
    ],
)
def test_a_bad_request_is_refused_as_the_vendor_words_it(
    client: openai.OpenAI, body: dict[str, Any], param: str, message: str
) -> None:
    if not {"model", "messages"} & body.keys():
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **body}
    with pytest.raises(openai.BadRequestError, match="Error code: 400") as caught:
        client.post("/chat/completions", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert message in caught.value.message


def test_built_in_tools_and_files_are_accepted(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="gpt-5",
        messages=[
            {"role": "assistant", "content": None},  # type: ignore[list-item]
            {"role": "user", "content": [{"type": "file", "file": {"filename": "notes.pdf"}}]},
        ],
        tools=[{"type": "custom", "custom": {"name": "c"}}, LOOK],  # type: ignore[list-item]
        tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
    )
    assert completion.choices[0].message.content == "notes.pdf"


def test_log_probabilities_are_those_of_the_tokens(client: openai.OpenAI) -> None:
    made = ask(client, "one two", logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [entry.token for entry in made] == ["one", " two"]
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 3 for entry in made)
    assert made[0].top_logprobs[0].token == "one"
    chunks = ask(client, "one two", logprobs=True, stream=True)
    streamed = [c.choices[0].logprobs.content[0] for c in chunks if c.choices[0].logprobs]
    assert [(entry.token, entry.logprob) for entry in streamed] == [
        (entry.token, entry.logprob) for entry in made
    ]
    with pytest.raises(openai.BadRequestError, match="only allowed when 'logprobs' is enabled"):
        ask(client, "one", top_logprobs=2)
