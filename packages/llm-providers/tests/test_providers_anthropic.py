from __future__ import annotations

from typing import Any

import pytest

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    LLMCallRequest,
    Message,
    ReasoningEffort,
    ReasoningPart,
    ResponseSchema,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolResult,
    UnsupportedFeature,
    Verbosity,
)
from llm_providers import AnthropicProvider

PNG = b"\x89PNG\r\n\x1a\n"
MODEL = "claude-sonnet-4-5"
CITY = ResponseSchema(
    name="city",
    json_schema={"type": "object", "properties": {"name": {"type": "string"}}, "required": []},
)


def call(*messages: Message, model: str = MODEL, **fields: Any) -> LLMCallRequest:
    return LLMCallRequest(model=model, messages=messages or (Message.user("Hi"),), **fields)


def prepared(request: LLMCallRequest, stream: bool = False) -> Any:
    return AnthropicProvider("key").dialect_for(request).prepare(request, stream=stream)


def body_of(*messages: Message, **fields: Any) -> Any:
    return prepared(call(*messages, **fields)).body


def test_a_simple_request() -> None:
    body = body_of(Message.system("Be brief."), Message.system("Be kind."), Message.user("Hi"))
    assert body == {
        "model": MODEL,
        "max_tokens": 64_000,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief.\n\nBe kind.",
    }
    assert prepared(call(max_output_tokens=5), stream=True).body["stream"] is True
    assert body_of(model="claude-next")["max_tokens"] == 8192


def test_turns_of_one_role_are_joined_and_tool_results_come_first() -> None:
    body = body_of(
        Message.user("Weather?"),
        Message.assistant(
            ReasoningPart(text="hm", signature="sig"),
            ReasoningPart(signature="data", reference_id="redacted_thinking"),
            ReasoningPart(text="foreign", signature="enc", reference_id="rs_1"),
            ReasoningPart(text="unsigned"),
            "",
            ToolCall(id="c1", name="weather", arguments={"city": "Rome"}),
            ToolCall(id="c2", name="weather"),
        ),
        Message.tool(ToolResult(tool_call_id="c1", content="sunny")),
        Message.user("Quick!"),
        Message.tool(ToolResult(tool_call_id="c2", content="no city", is_error=True)),
    )
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "data"},
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "c2", "name": "weather", "input": {}},
    ]
    assert body["messages"][2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"},
            {"type": "tool_result", "tool_use_id": "c2", "content": "no city", "is_error": True},
            {"type": "text", "text": "Quick!"},
        ],
    }


def test_caching_marks_the_end_of_a_message() -> None:
    body = body_of(
        Message.system("Long.", cache=True), Message.user("A", "B", cache=True), Message.user("C")
    )
    mark = {"type": "ephemeral"}
    assert body["system"] == [{"type": "text", "text": "Long.", "cache_control": mark}]
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "A"},
        {"type": "text", "text": "B", "cache_control": mark},
        {"type": "text", "text": "C"},
    ]


def test_images_and_documents() -> None:
    body = body_of(
        Message.user(
            ImagePart(data=PNG),
            ImagePart(url="https://x.test/a.png"),
            FilePart(data=b"%PDF-1", filename="a.pdf"),
            FilePart(data=b"a,b", filename="t.csv"),
            FilePart(url="https://x.test/a.pdf"),
            FilePart(file_id="file_1"),
        )
    )
    assert body["messages"][0]["content"] == [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        },
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
            "title": "a.pdf",
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "a,b"},
            "title": "t.csv",
        },
        {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
    ]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (ImagePart(data=b"BM123"), "images as image/bmp"),
        (FilePart(data=b"\xff\x00\xfe"), "files as application/octet-stream"),
        (AudioPart(data=b"x"), "audio_input"),
    ],
)
def test_what_no_block_can_hold_is_refused_or_dropped(part: Any, words: str) -> None:
    with pytest.raises(UnsupportedFeature, match=words):
        body_of(Message.user("Hi", part))
    dropped = prepared(call(Message.user("Hi", part), on_unsupported="drop"))
    assert dropped.dropped == (words,)
    assert dropped.body["messages"] == [{"role": "user", "content": "Hi"}]


def test_what_another_model_said_aloud_goes_on_as_its_words() -> None:
    spoken = AudioPart(data=b"x", transcript="Hi!", reference_id="a1")
    body = body_of(Message.user("Q"), Message.assistant(spoken), Message.user("Q"))
    assert body["messages"][1] == {"role": "assistant", "content": "Hi!"}


def test_a_tool_with_an_array_of_anything_stays_strict() -> None:
    point = {"type": "object", "properties": {"at": {"type": "array"}}}
    tool = body_of(tools=(Tool(name="go", parameters=point, strict=True),))["tools"][0]
    assert tool["strict"] is True
    assert tool["input_schema"] == {**point, "additionalProperties": False}


def test_tools_and_their_choice() -> None:
    strict = Tool(
        name="strict",
        description="d",
        parameters={"type": "object", "properties": {"a": {"type": "string"}}},
        strict=True,
    )
    tools = (strict, Tool(name="bare"))
    body = body_of(tools=tools, tool_choice=ToolChoice(parallel=False))
    assert body["tools"] == [
        {
            "name": "strict",
            "description": "d",
            "strict": True,
            "input_schema": {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "additionalProperties": False,
            },
        },
        {"name": "bare", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    named = ToolChoice(mode=ToolChoiceMode.NAMED, name="bare")
    assert body_of(tools=tools, tool_choice=named)["tool_choice"] == {
        "type": "tool",
        "name": "bare",
    }
    none = ToolChoice(mode=ToolChoiceMode.NONE, parallel=False)
    assert body_of(tools=tools, tool_choice=none)["tool_choice"] == {"type": "none"}
    required = ToolChoice(mode=ToolChoiceMode.REQUIRED)
    assert body_of(tools=tools, tool_choice=required)["tool_choice"] == {"type": "any"}


def test_schemas_go_natively_or_by_tool_or_by_prompt() -> None:
    native = prepared(call(response_schema=CITY))
    assert native.structured_by == "native"
    assert native.body["output_config"]["format"]["schema"]["additionalProperties"] is False
    older = prepared(call(model="claude-opus-4-1", response_schema=CITY))
    assert (older.structured_by, older.schema_tool) == ("tool", "city")
    assert older.body["tool_choice"]["name"] == "city"
    thinking = prepared(
        call(
            model="claude-opus-4-1",
            response_schema=CITY,
            reasoning_effort=ReasoningEffort.LOW,
        )
    )
    assert thinking.structured_by == "prompt"


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("claude-opus-4-6", "high", ({"type": "adaptive"}, {"effort": "high"})),
        ("claude-next", "xhigh", ({"type": "adaptive"}, {"effort": "xhigh"})),
        ("claude-next", "none", ({"type": "disabled"}, None)),
        (MODEL, "medium", ({"type": "enabled", "budget_tokens": 8192}, None)),
        (MODEL, "none", ({"type": "disabled"}, None)),
        ("claude-3-haiku", "none", (None, None)),
    ],
)
def test_reasoning_effort(model: str, effort: str, expected: tuple[Any, Any]) -> None:
    body = body_of(model=model, reasoning_effort=ReasoningEffort(effort))
    assert (body.get("thinking"), body.get("output_config")) == expected


def test_a_thinking_budget_stays_below_the_limit() -> None:
    body = body_of(reasoning_effort=ReasoningEffort.HIGH, max_output_tokens=2000)
    assert body["thinking"]["budget_tokens"] == 1999
    with pytest.raises(UnsupportedFeature, match="allow more than 1024 output tokens"):
        body_of(reasoning_effort=ReasoningEffort.HIGH, max_output_tokens=1000)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seed": 1}, "seed"),
        ({"verbosity": Verbosity.LOW}, "verbosity"),
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"sampling": Sampling(temperature=1.5)}, "a temperature of 1.5"),
        ({"sampling": Sampling(presence_penalty=1)}, "presence_penalty"),
        ({"model": "claude-opus-4-8", "sampling": Sampling(top_p=0.5)}, "top_p"),
        ({"model": "claude-mythos-5", "reasoning_effort": "none"}, "reasoning_effort 'none'"),
        ({"model": "claude-opus-4-6", "reasoning_effort": "xhigh"}, "reasoning_effort 'xhigh'"),
        (
            {"reasoning_effort": "low", "sampling": Sampling(temperature=0)},
            "temperature",
        ),
        (
            {
                "reasoning_effort": "low",
                "tools": (Tool(name="t"),),
                "tool_choice": ToolChoice(mode=ToolChoiceMode.REQUIRED),
            },
            "forced_tools",
        ),
    ],
)
def test_what_the_api_or_model_lacks(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedFeature, match=words):
        body_of(**fields)
    assert prepared(call(**fields, on_unsupported="drop")).dropped == (words,)


def test_sampling_and_stop() -> None:
    body = body_of(sampling=Sampling(temperature=0.3, top_p=0.9, top_k=5), stop=("END",))
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.3, 0.9, 5)
    assert body["stop_sequences"] == ["END"]


def test_a_started_answer_loses_trailing_space() -> None:
    body = body_of(Message.user("Q"), Message.assistant("Once upon "))
    assert body["messages"][-1] == {"role": "assistant", "content": "Once upon"}
    with pytest.raises(UnsupportedFeature, match="prefill"):
        body_of(Message.user("Q"), Message.assistant("Once"), model="claude-opus-4-6")
    dropped = prepared(
        call(
            Message.user("Q"),
            Message.assistant("Once"),
            model="claude-opus-4-6",
            on_unsupported="drop",
        )
    )
    assert dropped.body["messages"] == [{"role": "user", "content": "Q"}]


def test_dropping_everything_is_an_error() -> None:
    with pytest.raises(UnsupportedFeature, match="without audio_input"):
        prepared(call(Message.user(AudioPart(data=b"x")), on_unsupported="drop"))
