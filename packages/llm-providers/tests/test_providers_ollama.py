from __future__ import annotations

from typing import Any

import pytest

from llm_core import (
    AudioPart,
    ErrorType,
    FilePart,
    FinishReason,
    ImagePart,
    InvalidValue,
    LLMCallRequest,
    Message,
    ProviderError,
    ReasoningEffort,
    ReasoningPart,
    ResponseSchema,
    Sampling,
    StreamDone,
    StreamFailed,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolResult,
    UnsupportedFeature,
    Usage,
    Verbosity,
)
from llm_providers import OllamaProvider

WEATHER = Tool(name="weather", description="d")


def call(*messages: Message, model: str = "llama3", **fields: Any) -> LLMCallRequest:
    return LLMCallRequest(model=model, messages=messages or (Message.user("Hi"),), **fields)


def prepared(request: LLMCallRequest, stream: bool = False) -> Any:
    return OllamaProvider().dialect_for(request).prepare(request, stream=stream)


def body_of(*messages: Message, **fields: Any) -> Any:
    return prepared(call(*messages, **fields)).body


def test_a_conversation() -> None:
    spoken = AudioPart(data=b"x", transcript=" Aloud.", reference_id="a")
    body = body_of(
        Message.system("Be brief."),
        Message.user("What?", ImagePart(data=b"\x89PNG")),
        Message.assistant(
            ReasoningPart(text="Hm"),
            "I look.",
            spoken,
            ToolCall(id="c1", name="weather", arguments={"city": "Rome"}),
        ),
        Message.tool(
            ToolResult(tool_call_id="c1", content="sunny"),
            ToolResult(tool_call_id="lost", content="?"),
        ),
    )
    assert body == {
        "model": "llama3",
        "stream": False,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What?", "images": ["iVBORw=="]},
            {
                "role": "assistant",
                "content": "I look. Aloud.",
                "thinking": "Hm",
                "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}],
            },
            {"role": "tool", "content": "sunny", "tool_name": "weather"},
            {"role": "tool", "content": "?", "tool_name": "lost"},
        ],
    }


def test_options_format_and_tools() -> None:
    schema = ResponseSchema(name="s", json_schema={"type": "object"})
    body = body_of(
        response_schema=schema,
        tools=(WEATHER,),
        sampling=Sampling(temperature=0.1, top_k=3, presence_penalty=1),
        max_output_tokens=9,
        stop=("END",),
        seed=4,
        provider_options={"keep_alive": "1h", "options": {"num_ctx": 8192}},
    )
    assert body["options"] == {
        "temperature": 0.1,
        "top_k": 3,
        "presence_penalty": 1,
        "num_predict": 9,
        "stop": ["END"],
        "seed": 4,
        "num_ctx": 8192,
    }
    assert body["format"] == {"type": "object"}
    assert body["keep_alive"] == "1h"
    assert body["tools"][0]["function"]["name"] == "weather"
    none = ToolChoice(mode=ToolChoiceMode.NONE)
    assert "tools" not in body_of(tools=(WEATHER,), tool_choice=none)


@pytest.mark.parametrize(
    ("model", "effort", "think"),
    [
        ("qwen3", "none", False),
        ("qwen3", "high", True),
        ("gpt-oss:20b", "minimal", "low"),
        ("gpt-oss:20b", "xhigh", "high"),
    ],
)
def test_thinking(model: str, effort: str, think: Any) -> None:
    assert body_of(model=model, reasoning_effort=ReasoningEffort(effort))["think"] == think


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"verbosity": Verbosity.LOW}, "verbosity"),
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"messages": (Message.user("x", FilePart(file_id="f")),)}, "files"),
        ({"messages": (Message.user("x", AudioPart(data=b"x")),)}, "audio_input"),
        ({"messages": (Message.user("x", ImagePart(url="https://x.test")),)}, "images by URL"),
        (
            {"tools": (WEATHER,), "tool_choice": ToolChoice(mode=ToolChoiceMode.REQUIRED)},
            "forced_tools",
        ),
        ({"tools": (WEATHER,), "tool_choice": ToolChoice(parallel=False)}, "parallel_tools"),
    ],
)
def test_what_the_api_lacks(fields: dict[str, Any], words: str) -> None:
    request = {"model": "llama3", "messages": (Message.user("x"),), **fields}
    with pytest.raises(UnsupportedFeature, match=words):
        prepared(LLMCallRequest(**request))
    assert prepared(LLMCallRequest(**request, on_unsupported="drop")).dropped == (words,)


REPLY = {
    "model": "llama3:8b",
    "message": {
        "role": "assistant",
        "thinking": "Hm",
        "content": "Hi",
        "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}],
    },
    "done": True,
    "done_reason": "stop",
    "total_duration": 5_000_000_000,
    "load_duration": 1_000_000_000,
    "prompt_eval_count": 12,
    "prompt_eval_duration": 500_000_000,
    "eval_count": 7,
    "eval_duration": 2_500_000_000,
}


async def test_a_whole_reply_is_read(ollama: OllamaProvider, wire: Any, ask: Any) -> None:
    wire.json(REPLY)
    reply = await ollama.invoke(ask(model="llama3"))
    assert (reply.reasoning, reply.text) == ("Hm", "Hi")
    assert reply.tool_calls[0].id == "call_0"
    assert reply.tool_calls[0].arguments == {"city": "Rome"}
    assert reply.usage == Usage(input_tokens=12, output_tokens=7)
    assert reply.server_seconds == {"total": 5.0, "load": 1.0, "prompt_eval": 0.5, "eval": 2.5}
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert str(wire.requests[0].url) == "http://ollama.test/api/chat"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"done_reason": "stop"}, FinishReason.STOP),
        ({"done_reason": "length"}, FinishReason.LENGTH),
        ({"done_reason": "whim"}, FinishReason.OTHER),
        ({"done": False}, FinishReason.INCOMPLETE),
    ],
)
async def test_finish_reasons(
    ollama: OllamaProvider, wire: Any, ask: Any, fields: Any, expected: FinishReason
) -> None:
    wire.json({"message": {"content": "x"}, "done": True, **fields})
    assert (await ollama.invoke(ask(model="llama3"))).finish_reason is expected


async def test_a_stream_with_everything(ollama: OllamaProvider, wire: Any, ask: Any) -> None:
    calls = [{"id": "c9", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]
    wire.ndjson(
        {"model": "llama3:8b", "message": {"thinking": "Hm", "content": ""}, "done": False},
        {"message": {"content": "Hi"}, "done": False},
        {"message": {"content": "", "tool_calls": calls}, "done": False},
        {**REPLY, "message": {"content": ""}},
    )
    events = [event async for event in ollama.stream(ask(model="llama3"))]
    assert isinstance(events[-1], StreamDone)
    done = events[-1].response
    assert (done.reasoning, done.text, done.model) == ("Hm", "Hi", "llama3:8b")
    assert done.tool_calls[0].id == "c9"
    assert done.finish_reason is FinishReason.TOOL_CALLS
    assert done.server_seconds["eval"] == 2.5
    assert done.usage.total_tokens == 19


async def test_an_error_line_fails_the_stream(ollama: OllamaProvider, wire: Any, ask: Any) -> None:
    wire.ndjson({"message": {"content": "Half"}}, {"error": "model runner has crashed"})
    events = [event async for event in ollama.stream(ask(model="llama3"))]
    last = events[-1]
    assert isinstance(last, StreamFailed)
    assert last.error.type is ErrorType.SERVER_ERROR
    assert last.error.partial is not None
    assert last.error.partial.text == "Half"


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (404, "model 'x' not found", ErrorType.MODEL_NOT_FOUND),
        (404, "page not there", ErrorType.INVALID_REQUEST),
        (400, "does not support tools", ErrorType.INVALID_REQUEST),
        (500, "out of memory", ErrorType.SERVER_ERROR),
        (503, "server busy", ErrorType.OVERLOADED),
        (429, "too many", ErrorType.RATE_LIMITED),
        (429, "you have reached your weekly usage limit", ErrorType.QUOTA_EXHAUSTED),
    ],
)
async def test_errors(
    ollama: OllamaProvider, wire: Any, ask: Any, status: int, message: str, expected: ErrorType
) -> None:
    wire.json({"error": message}, status)
    with pytest.raises(ProviderError) as caught:
        await ollama.invoke(ask(model="x"))
    assert caught.value.info.type is expected
    assert caught.value.info.message == message


async def test_a_reply_without_message(ollama: OllamaProvider, wire: Any, ask: Any) -> None:
    wire.json({"done": True})
    with pytest.raises(ProviderError, match="no message"):
        await ollama.invoke(ask(model="x"))


async def test_texts_become_vectors(ollama: OllamaProvider, wire: Any) -> None:
    wire.json({"model": "nomic", "embeddings": [[1, 2.5], [3, 4]], "prompt_eval_count": 6})
    made = await ollama.embed(["a", "b"], model="nomic-embed-text", dimensions=2)
    assert made.vectors == ((1, 2.5), (3, 4))
    assert (made.dimensions, made.usage.input_tokens, made.model) == (2, 6, "nomic")
    assert wire.sent == {
        "model": "nomic-embed-text",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 2,
    }
    wire.json({"embeddings": [[1]]})
    with pytest.raises(ProviderError, match="1 embeddings for 2 texts"):
        await ollama.embed(["a", "b"], model="m")
    with pytest.raises(InvalidValue, match="not one text"):
        await ollama.embed("abc", model="m")


async def test_models_on_the_server(ollama: OllamaProvider, wire: Any) -> None:
    wire.json({"models": [{"model": "llama3:8b", "modified_at": "2026-01-02T03:04:05.123456789Z"}]})
    (model,) = await ollama.list_models()
    assert model.id == "llama3:8b"
    assert model.created is not None


async def test_tokens_are_estimated(ollama: OllamaProvider, ask: Any) -> None:
    counted = await ollama.count_tokens(ask("x" * 40, model="llama3"))
    assert (counted.input_tokens, counted.counted_by) == (14, "estimate")


async def test_a_key_for_the_cloud_goes_into_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    provider = OllamaProvider("http://u:p@ollama.test:1/x?k=1", api_key="sesame")
    assert "sesame" not in repr(provider) + str(vars(provider))
    assert repr(provider) == "OllamaProvider(name='ollama', host='http://ollama.test:1/x')"
    client = provider._make_client()
    assert client._client.headers["authorization"] == "Bearer sesame"
    await client.close()
