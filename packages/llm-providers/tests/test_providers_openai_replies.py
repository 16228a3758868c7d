from __future__ import annotations

from typing import Any

import pytest

from llm_core import (
    ErrorType,
    FinishReason,
    ImagePart,
    ProviderError,
    ReasoningDelta,
    ReasoningPart,
    StreamDone,
    StreamFailed,
    StreamStarted,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    UsageUpdate,
)
from llm_providers import OpenAIProvider

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
}
USED = Usage(
    input_tokens=100,
    output_tokens=20,
    cache_read_tokens=40,
    cache_write_tokens=10,
    reasoning_tokens=5,
)


def response(*output: Any, **fields: Any) -> dict[str, Any]:
    base = {"id": "resp_1", "model": "gpt-4o-2024", "status": "completed", "usage": USAGE}
    return {**base, "output": list(output), **fields}


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


async def streamed(provider: OpenAIProvider, request: Any) -> list[Any]:
    return [event async for event in provider.stream(request)]


async def test_a_whole_reply_is_read(openai: OpenAIProvider, wire: Any, ask: Any) -> None:
    wire.json(
        response(
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "Let me see."}],
                "encrypted_content": "enc",
            },
            said("Rome."),
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "weather",
                "arguments": '{"city":"Rome"}',
            },
            {"type": "image_generation_call", "result": "iVBORw0="},
            {"type": "web_search_call"},
        ),
        x_request_id="req_1",
        x_ratelimit_remaining_tokens="7",
    )
    reply = await openai.invoke(ask())
    thought, text, call, image = reply.parts
    assert thought == ReasoningPart(text="Let me see.", signature="enc", reference_id="rs_1")
    assert text == TextPart(text="Rome.")
    assert (call.name, call.arguments) == ("weather", {"city": "Rome"})  # type: ignore[union-attr]
    assert isinstance(image, ImagePart)
    assert reply.usage == USED
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert (reply.model, reply.response_id) == ("gpt-4o-2024", "resp_1")
    assert reply.provider_request_id == "req_1"
    assert reply.rate_limits is not None
    assert reply.rate_limits.tokens is not None
    assert reply.rate_limits.tokens.remaining == 7
    assert reply.raw["id"] == "resp_1"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, FinishReason.STOP),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            FinishReason.LENGTH,
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            FinishReason.CONTENT_FILTER,
        ),
        ({"status": "incomplete"}, FinishReason.INCOMPLETE),
        ({"status": "queued"}, FinishReason.INCOMPLETE),
    ],
)
async def test_finish_reasons_of_responses(
    openai: OpenAIProvider, wire: Any, ask: Any, fields: dict[str, Any], reason: FinishReason
) -> None:
    wire.json(response(said("x"), **fields))
    assert (await openai.invoke(ask())).finish_reason is reason


async def test_a_refusal_is_an_answer_that_says_so(
    openai: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.json(response({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}))
    reply = await openai.invoke(ask())
    assert (reply.text, reply.finish_reason) == ("No.", FinishReason.REFUSAL)


async def test_a_failed_response_with_status_200_is_an_error(
    openai: OpenAIProvider, wire: Any, ask: Any
) -> None:
    error = {"code": "rate_limit_exceeded", "message": "slow down"}
    wire.json(response(status="failed", error=error))
    with pytest.raises(ProviderError) as caught:
        await openai.invoke(ask())
    assert caught.value.info.type is ErrorType.RATE_LIMITED
    assert caught.value.info.status_code == 200


@pytest.mark.parametrize(
    "body", [{"hello": 1}, {"status": "cancelled", "output": []}, {"output": 3, "status": "failed"}]
)
async def test_a_reply_without_meaning_is_the_servers_fault(
    openai: OpenAIProvider, wire: Any, ask: Any, body: Any
) -> None:
    wire.json(body)
    with pytest.raises(ProviderError) as caught:
        await openai.invoke(ask())
    assert caught.value.info.type is ErrorType.SERVER_ERROR


async def test_a_responses_stream_with_everything(
    openai: OpenAIProvider, wire: Any, ask: Any
) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": ""}
    whole = {**call, "arguments": '{"a":1}', "status": "completed"}
    delta = "response.function_call_arguments.delta"
    twice = {"type": "response.output_text.delta", "delta": "Ro", "sequence_number": 7}
    wire.sse(
        {"type": "response.created", "response": response(status="in_progress", usage=None)},
        {"type": "response.reasoning_summary_part.added", "summary_index": 0},
        {"type": "response.reasoning_summary_text.delta", "delta": "Hm"},
        {"type": "response.reasoning_summary_part.added", "summary_index": 1},
        {"type": "response.reasoning_summary_text.delta", "delta": "m"},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {"type": "reasoning", "id": "rs_1", "encrypted_content": "enc"},
        },
        {"type": "response.output_item.added", "output_index": 1, "item": {"type": "message"}},
        twice,
        twice,
        {"type": "response.output_text.delta", "delta": "me"},
        {"type": "response.output_item.added", "output_index": 2, "item": call},
        {"type": delta, "output_index": 2, "delta": '{"a"'},
        {"type": delta, "output_index": 2, "delta": ":1}"},
        {"type": "response.output_item.done", "output_index": 2, "item": whole},
        {
            "type": "response.output_item.done",
            "output_index": 3,
            "item": {"type": "function_call", "call_id": "c2", "name": "n", "arguments": "{}"},
        },
        {
            "type": "response.output_item.done",
            "output_index": 4,
            "item": {"type": "image_generation_call", "result": "iVBORw0="},
        },
        {"type": "response.something.new"},
        {"type": "response.completed", "response": response(whole)},
    )
    events = await streamed(openai, ask())
    kinds = [type(event) for event in events]
    assert kinds == [
        StreamStarted,
        *[ReasoningDelta] * 3,
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
    assert done.reasoning == "Hm\n\nm"
    assert done.parts[0].signature == "enc"
    assert done.text == "Rome"
    assert [c.arguments for c in done.tool_calls] == [{"a": 1}, {}]
    assert [c.complete for c in done.tool_calls] == [True, True]
    assert isinstance(done.parts[-1], ImagePart)
    assert done.usage == USED
    assert done.finish_reason is FinishReason.TOOL_CALLS


async def test_a_responses_stream_that_hits_the_limit(
    openai: OpenAIProvider, wire: Any, ask: Any
) -> None:
    cut = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    call = {"type": "function_call", "call_id": "c1", "name": "weather"}
    delta = "response.function_call_arguments.delta"
    wire.sse(
        {"type": "response.output_item.added", "output_index": 0, "item": call},
        {"type": delta, "output_index": 0, "delta": '{"a'},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**call, "status": "incomplete"},
        },
        {"type": "response.incomplete", "response": cut},
        ending=b"data: [DONE]\n\n",
    )
    done = (await streamed(openai, ask()))[-1].response
    assert done.finish_reason is FinishReason.LENGTH
    assert done.tool_calls[0].complete is False
    assert done.tool_calls[0].arguments_text == '{"a'


async def test_a_refusal_in_a_responses_stream(openai: OpenAIProvider, wire: Any, ask: Any) -> None:
    wire.sse(
        {"type": "response.refusal.delta", "delta": "No."},
        {"type": "response.completed", "response": response()},
    )
    done = (await streamed(openai, ask()))[-1].response
    assert (done.text, done.finish_reason) == ("No.", FinishReason.REFUSAL)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "server_is_overloaded", "message": "busy"},
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
        {"error": {"code": "overloaded", "message": "busy"}},
        {
            "type": "response.failed",
            "response": {"error": {"code": "server_overloaded", "message": "busy"}, "usage": USAGE},
        },
    ],
)
async def test_an_error_event_fails_the_stream_and_keeps_the_text(
    openai: OpenAIProvider, wire: Any, ask: Any, event: Any
) -> None:
    wire.sse({"type": "response.output_text.delta", "delta": "Half"}, event)
    last = (await streamed(openai, ask()))[-1]
    assert isinstance(last, StreamFailed)
    assert last.error.message == "busy"
    assert last.error.type is ErrorType.OVERLOADED
    assert last.error.status_code == 200
    assert last.error.partial is not None
    assert last.error.partial.text == "Half"
    if "response" in event:
        assert last.error.partial.usage == USED
    else:
        assert last.error.partial.usage.estimated
        assert last.error.partial.usage.output_tokens == 1


async def test_an_output_that_comes_only_with_the_last_event_is_streamed_from_it(
    openai: OpenAIProvider, wire: Any, ask: Any
) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"text": "Hm"}]}
    call = {"type": "function_call", "call_id": "c", "name": "t", "arguments": "{}"}
    wire.sse({"type": "response.completed", "response": response(thought, said("Hi"), call)})
    events = await streamed(openai, ask())
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["Hi"]
    done = events[-1].response
    assert (done.reasoning, done.text, done.tool_calls[0].name) == ("Hm", "Hi", "t")
    assert done.parts[0].reference_id == "rs_1"


async def test_a_failed_stream_keeps_what_the_headers_said(
    openai: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.sse({"type": "response.output_text.delta", "delta": "Half"})
    wire.headers |= {"x-ratelimit-remaining-requests": "3", "x-request-id": "req_9"}
    error = (await streamed(openai, ask()))[-1].error
    assert error.rate_limits.requests.remaining == 3
    assert error.provider_request_id == "req_9"


async def test_a_refused_call_keeps_what_the_headers_said(
    openai: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.json({}, 429, x_ratelimit_remaining_tokens="0", retry_after="2")
    with pytest.raises(ProviderError) as caught:
        await openai.invoke(ask())
    facts = caught.value.info.rate_limits
    assert facts is not None
    assert facts.tokens is not None
    assert (facts.tokens.remaining, facts.retry_after) == (0, 2.0)
