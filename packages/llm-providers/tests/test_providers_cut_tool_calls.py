"""Tool calls that a token limit cut, and tools that failed: what must not be run, and what the model is told."""

from __future__ import annotations

from typing import Any

from llm_core import FinishReason, Message, Role, StreamDone, TextPart, ToolCall, ToolCallEnded
from llm_core import ToolResult as Result
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider

CLAUDE = "claude-sonnet-4-5"
WHOLE, CUT = '{"city":"Rome"}', '{"city":"Ro'


def _chat_call(index: int, arguments: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"index": index, "id": f"c{index}", "function": function}


async def _streamed(provider: Any, request: Any) -> list[Any]:
    return [event async for event in provider.stream(request)]


def _completeness(calls: tuple[ToolCall, ...]) -> list[bool]:
    return [call.complete for call in calls]


async def test_chat_marks_the_call_that_the_limit_cut_plain_and_streamed_alike(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    calls = [_chat_call(0, WHOLE), _chat_call(1, CUT)]
    choice = {"message": {"tool_calls": calls}, "finish_reason": "length"}
    wire.json({"choices": [choice], "usage": {}})
    plain = await chat.invoke(ask())
    assert plain.finish_reason is FinishReason.LENGTH
    assert _completeness(plain.tool_calls) == [True, False]
    wire.sse(
        {"choices": [{"delta": {"tool_calls": calls}}]},
        {"choices": [{"delta": {}, "finish_reason": "length"}]},
        ending=b"data: [DONE]\n\n",
    )
    events = await _streamed(chat, ask())
    assert isinstance(events[-1], StreamDone)
    assert events[-1].response.tool_calls == plain.tool_calls
    assert [event.index for event in events if isinstance(event, ToolCallEnded)] == [0]


def _message_stream(arguments: str, reason: str) -> list[dict[str, Any]]:
    block = {"type": "tool_use", "id": "c1", "name": "weather", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": arguments}
    return [
        {"type": "message_start", "message": {"id": "m", "model": CLAUDE}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason}},
        {"type": "message_stop"},
    ]


async def test_a_block_of_anthropics_that_the_limit_cut_is_no_whole_call(
    anthropic: AnthropicProvider, wire: Any, ask: Any
) -> None:
    wire.sse(*_message_stream(CUT, "max_tokens"))
    events = await _streamed(anthropic, ask(model=CLAUDE))
    assert not any(isinstance(event, ToolCallEnded) for event in events)
    (call,) = events[-1].response.tool_calls
    assert (call.complete, call.arguments_text) == (False, CUT)
    block = {"type": "tool_use", "id": "c1", "name": "weather", "input": {}}
    wire.json({"content": [block], "stop_reason": "max_tokens"})
    assert _completeness((await anthropic.invoke(ask(model=CLAUDE))).tool_calls) == [False]


async def test_a_call_without_arguments_is_whole(
    anthropic: AnthropicProvider, wire: Any, ask: Any
) -> None:
    wire.sse(*_message_stream("", "tool_use"))
    events = await _streamed(anthropic, ask(model=CLAUDE))
    assert sum(isinstance(event, ToolCallEnded) for event in events) == 1
    assert _completeness(events[-1].response.tool_calls) == [True]


async def test_a_tool_that_failed_is_told_in_words_where_the_vendor_has_no_field_for_it(
    openai: OpenAIProvider, chat: OpenAIProvider, ollama: OllamaProvider, ask: Any
) -> None:
    messages = (
        Message.user("Weather?"),
        Message(role=Role.ASSISTANT, content=(ToolCall(id="c1", name="weather"),)),
        Message.tool(Result(tool_call_id="c1", content="no such city", is_error=True)),
        Message(role=Role.USER, content=(TextPart(text="And now?"),)),
    )
    for provider in (openai, chat, ollama):
        request = ask(*messages)
        body = provider.dialect_for(request).prepare(request, stream=False).body
        told = [
            item.get("output") or item.get("content")
            for item in body.get("input") or body["messages"]
            if item.get("role") == "tool" or item.get("type") == "function_call_output"
        ]
        assert told == ["Error: no such city"]
