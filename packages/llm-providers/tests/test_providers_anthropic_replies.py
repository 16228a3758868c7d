from __future__ import annotations

import json
from typing import Any

import pytest

from llm_core import (
    ErrorType,
    FinishReason,
    Message,
    ReasoningDelta,
    ReasoningPart,
    Sampling,
    StreamDone,
    StreamFailed,
    StreamStarted,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    UsageUpdate,
)
from llm_providers import AnthropicProvider

MODEL = "claude-sonnet-4-5"

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 5,
    "output_tokens": 8,
    "output_tokens_details": {"thinking_tokens": 3},
}
USED = Usage(
    input_tokens=45,
    output_tokens=8,
    cache_read_tokens=30,
    cache_write_tokens=5,
    reasoning_tokens=3,
)


async def test_a_whole_reply_is_read(anthropic: AnthropicProvider, wire: Any, ask: Any) -> None:
    wire.json(
        {
            "id": "msg_1",
            "model": "claude-sonnet-4-5-20250929",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "data"},
                {"type": "text", "text": "Rome."},
                {"type": "text", "text": ""},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "server_tool_use"},
            ],
            "stop_reason": "tool_use",
            "usage": USAGE,
        },
        request_id="req_1",
    )
    reply = await anthropic.invoke(ask(model=MODEL))
    assert reply.parts == (
        ReasoningPart(text="Hm", signature="sig"),
        ReasoningPart(signature="data", reference_id="redacted_thinking"),
        *reply.parts[2:],
    )
    assert reply.text == "Rome."
    assert reply.tool_calls[0].arguments == {"city": "Rome"}
    assert reply.usage == USED
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert reply.provider_request_id == "req_1"
    sent = wire.requests[-1]
    assert sent.url.path == "/v1/messages"
    assert "key" in sent.headers.get("x-api-key", "") + sent.headers.get("authorization", "")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("refusal", FinishReason.REFUSAL),
        ("pause_turn", FinishReason.OTHER),
        (None, FinishReason.INCOMPLETE),
    ],
)
async def test_finish_reasons(
    anthropic: AnthropicProvider, wire: Any, ask: Any, reason: str | None, expected: FinishReason
) -> None:
    wire.json({"content": [], "stop_reason": reason})
    assert (await anthropic.invoke(ask(model=MODEL))).finish_reason is expected


async def test_a_reply_without_content_is_the_servers_fault(
    anthropic: AnthropicProvider, wire: Any, ask: Any
) -> None:
    wire.json({"id": "x"})
    with pytest.raises(Exception, match="no content") as caught:
        await anthropic.invoke(ask(model=MODEL))
    assert caught.value.info.type is ErrorType.SERVER_ERROR  # type: ignore[attr-defined]


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


BEGIN = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude-x",
        "usage": {**USAGE, "output_tokens": 1, "output_tokens_details": None},
    },
}


async def streamed(provider: AnthropicProvider, request: Any) -> list[Any]:
    return [event async for event in provider.stream(request)]


async def test_a_stream_with_everything(anthropic: AnthropicProvider, wire: Any, ask: Any) -> None:
    wire.sse(
        BEGIN,
        {"type": "ping"},
        start(0, type="thinking", thinking=""),
        delta(0, type="thinking_delta", thinking="Hm"),
        delta(0, type="signature_delta", signature="sig"),
        stop(0),
        start(1, type="redacted_thinking", data="data"),
        stop(1),
        start(2, type="text", text=""),
        delta(2, type="text_delta", text="Ro"),
        delta(2, type="text_delta", text="me"),
        delta(2, type="citations_delta"),
        stop(2),
        start(3, type="tool_use", id="c1", name="weather", input={}),
        delta(3, type="input_json_delta", partial_json='{"city"'),
        delta(3, type="input_json_delta", partial_json=': "Rome"}'),
        stop(3),
        start(4, type="tool_use", id="c2", name="weather", input={"city": "Bonn"}),
        stop(4),
        start(5, type="server_tool_use"),
        stop(5),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use"},
            "usage": {
                "output_tokens": 8,
                "output_tokens_details": {"thinking_tokens": 3},
            },
        },
        {"type": "message_stop"},
    )
    events = await streamed(anthropic, ask(model=MODEL))
    assert [type(event) for event in events] == [
        StreamStarted,
        UsageUpdate,
        ReasoningDelta,
        TextDelta,
        TextDelta,
        ToolCallStarted,
        ToolCallDelta,
        ToolCallDelta,
        ToolCallEnded,
        ToolCallStarted,
        ToolCallDelta,
        ToolCallEnded,
        UsageUpdate,
        StreamDone,
    ]
    done = events[-1].response
    assert done.parts[0] == ReasoningPart(text="Hm", signature="sig")
    assert done.parts[1] == ReasoningPart(signature="data", reference_id="redacted_thinking")
    assert done.text == "Rome"
    assert [c.arguments for c in done.tool_calls] == [{"city": "Rome"}, {"city": "Bonn"}]
    assert done.usage == USED
    assert done.finish_reason is FinishReason.TOOL_CALLS
    assert json.dumps(done.to_dict())


async def test_an_overload_in_the_midst_of_a_stream(
    anthropic: AnthropicProvider, wire: Any, ask: Any
) -> None:
    wire.sse(
        BEGIN,
        start(0, type="text", text="Half"),
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    )
    last = (await streamed(anthropic, ask(model=MODEL)))[-1]
    assert isinstance(last, StreamFailed)
    assert (last.error.type, last.error.status_code) == (ErrorType.OVERLOADED, 200)
    assert last.error.retryable
    assert last.error.partial is not None
    assert last.error.partial.text == "Half"
    assert last.error.partial.usage.input_tokens == 45


async def test_a_stream_without_a_stop_reason_is_cut(
    anthropic: AnthropicProvider, wire: Any, ask: Any
) -> None:
    wire.sse(BEGIN, start(0, type="thinking", thinking="H"), {"type": "message_stop"})
    last = (await streamed(anthropic, ask(model=MODEL)))[-1]
    assert last.error.type is ErrorType.TRUNCATED
    assert last.error.partial.reasoning == "H"


async def test_a_bare_error_object_in_a_stream(
    anthropic: AnthropicProvider, wire: Any, ask: Any
) -> None:
    wire.sse({"error": {"type": "api_error", "message": "oops"}})
    last = (await streamed(anthropic, ask(model=MODEL)))[-1]
    assert (last.error.type, last.error.message) == (ErrorType.SERVER_ERROR, "oops")


async def test_tokens_are_counted_by_the_vendor(
    anthropic: AnthropicProvider, wire: Any, ask: Any
) -> None:
    wire.json({"input_tokens": 42})
    counted = await anthropic.count_tokens(
        ask(Message.system("S"), "Hi", model=MODEL, sampling=Sampling(temperature=0))
    )
    assert (counted.input_tokens, counted.counted_by) == (42, "vendor")
    assert wire.paths == ["/v1/messages/count_tokens"]
    assert sorted(wire.sent) == ["messages", "model", "system"]


async def test_models_are_listed_page_by_page(anthropic: AnthropicProvider, wire: Any) -> None:
    entry = {
        "id": "claude-x",
        "created_at": "2026-01-02T00:00:00Z",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }
    wire.replies = [
        {"data": [entry], "has_more": True, "last_id": "claude-x"},
        {"data": [{"id": "claude-y", "created_at": "?"}], "has_more": False},
    ]
    first, second = await anthropic.list_models()
    assert (first.id, first.context_tokens, first.max_output_tokens) == (
        "claude-x",
        200_000,
        64_000,
    )
    assert first.created is not None
    assert first.created.year == 2026
    assert (second.id, second.created, second.context_tokens) == ("claude-y", None, None)
    assert wire.paths[1].endswith("after_id=claude-x")


async def test_the_package_traces_nothing_itself(anthropic: AnthropicProvider) -> None:
    options = anthropic._make_client()._open_telemetry
    assert (options["traces"]["enabled"], options["propagation"]) == (False, False)
