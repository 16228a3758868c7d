from __future__ import annotations

from typing import Any

import pytest

from llm_core import (
    AudioDelta,
    AudioOutput,
    AudioPart,
    ErrorType,
    FinishReason,
    Modality,
    ProviderError,
    ResponseSchema,
    StreamFailed,
    TextDelta,
    Tool,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from llm_providers import OpenAIProvider


async def streamed(provider: OpenAIProvider, request: Any) -> list[Any]:
    return [event async for event in provider.stream(request)]


def completion(message: dict[str, Any], reason: str | None = "stop", **fields: Any) -> Any:
    usage = {
        "prompt_tokens": 50,
        "completion_tokens": 30,
        "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 12},
    }
    choice = {"message": message, "finish_reason": reason}
    return {"id": "chat_1", "model": "m", "choices": [choice], "usage": usage, **fields}


async def test_a_chat_reply_with_everything(chat: OpenAIProvider, wire: Any, ask: Any) -> None:
    call = {"id": "c1", "function": {"name": "weather", "arguments": "{broken"}}
    audio = {"id": "audio_1", "data": "UklGRg==", "transcript": "Hi"}
    message = {
        "content": "Hello",
        "reasoning_content": "Hm",
        "tool_calls": [call],
        "audio": audio,
    }
    wire.json(completion(message))
    request = ask(
        model="gpt-audio",
        output_modalities=(Modality.AUDIO,),
        audio_output=AudioOutput(voice="alloy", format="mp3"),
    )
    reply = await chat.invoke(request)
    assert reply.reasoning == "Hm"
    assert reply.text == "Hello"
    assert reply.tool_calls[0].arguments == {}
    assert reply.tool_calls[0].arguments_text == "{broken"
    assert reply.audio == AudioPart(
        data=b"RIFF", format="mp3", transcript="Hi", reference_id="audio_1"
    )
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert reply.usage == Usage(
        input_tokens=50,
        output_tokens=30,
        cache_read_tokens=8,
        reasoning_tokens=3,
        audio_input_tokens=20,
        audio_output_tokens=12,
    )


@pytest.mark.parametrize(
    ("message", "reason", "expected"),
    [
        ({"content": "x"}, "length", FinishReason.LENGTH),
        ({"content": "x"}, "content_filter", FinishReason.CONTENT_FILTER),
        ({"content": "x"}, None, FinishReason.INCOMPLETE),
        ({"content": "x"}, "eos_token", FinishReason.OTHER),
        ({"refusal": "No."}, "stop", FinishReason.REFUSAL),
    ],
)
async def test_finish_reasons_of_chat(
    chat: OpenAIProvider,
    wire: Any,
    ask: Any,
    message: Any,
    reason: str | None,
    expected: FinishReason,
) -> None:
    wire.json(completion(message, reason))
    assert (await chat.invoke(ask())).finish_reason is expected


async def test_a_chat_reply_without_choices_is_an_error(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.json({"id": "x"})
    with pytest.raises(ProviderError, match="no choices"):
        await chat.invoke(ask())


def chunk(delta: Any = None, reason: str | None = None, **fields: Any) -> Any:
    choices = [] if delta is None else [{"delta": delta, "finish_reason": reason}]
    return {"id": "chat_1", "model": "m", "choices": choices, **fields}


async def test_a_chat_stream_with_everything(chat: OpenAIProvider, wire: Any, ask: Any) -> None:
    first = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": ""}}
    second = {"index": 1, "id": "c2", "function": {"name": "time", "arguments": "{}"}}
    wire.sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning": "Hm"}),
        chunk({"content": "Hi"}),
        chunk({"audio": {"id": "a1", "data": "AAAA", "transcript": "Hi"}}),
        chunk({"audio": {"expires_at": 1}}),
        chunk({"tool_calls": [first]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chunk({"tool_calls": [second]}),
        chunk({}, "tool_calls"),
        chunk(usage={"prompt_tokens": 3, "completion_tokens": 4}),
        ending=b"data: [DONE]\n\n",
    )
    events = await streamed(chat, ask())
    done = events[-1].response
    assert done.reasoning == "Hm"
    assert done.text == "Hi"
    assert [call.arguments for call in done.tool_calls] == [{"a": 1}, {}]
    assert [e.tool_call.id for e in events if isinstance(e, ToolCallEnded)] == ["c1", "c2"]
    assert [e.transcript for e in events if isinstance(e, AudioDelta)] == ["Hi"]
    assert done.audio is not None
    assert done.audio.data == b"\0\0\0"
    assert done.usage.total_tokens == 7
    assert done.finish_reason is FinishReason.TOOL_CALLS


async def test_a_chat_stream_is_complete_only_with_its_end_marker(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.sse(chunk({"content": "Hi"}), chunk({}, "stop"))
    last = (await streamed(chat, ask()))[-1]
    assert isinstance(last, StreamFailed)
    assert last.error.type is ErrorType.TRUNCATED
    wire.sse(chunk({"content": "Hi"}), ending=b"data: [DONE]\n\n")
    last = (await streamed(chat, ask()))[-1]
    assert isinstance(last, StreamFailed)
    assert last.error.type is ErrorType.TRUNCATED


async def test_a_cut_chat_stream_keeps_the_fragments_of_its_tool_call(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    first = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"a'}}
    wire.sse(chunk({"tool_calls": [first]}))
    last = (await streamed(chat, ask()))[-1]
    assert last.error.partial.tool_calls[0].arguments_text == '{"a'
    assert last.error.partial.tool_calls[0].complete is False


async def test_an_error_chunk_fails_a_chat_stream(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.sse(
        chunk({"refusal": "N"}),
        {"error": {"message": "out", "type": "insufficient_quota", "code": "insufficient_quota"}},
    )
    last = (await streamed(chat, ask()))[-1]
    assert last.error.type is ErrorType.QUOTA_EXHAUSTED
    assert last.error.partial.text == "N"


CITY = ResponseSchema(
    name="city", json_schema={"type": "object", "properties": {"name": {"type": "string"}}}
)


async def test_an_answer_by_tool_reads_like_any_other(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    call = {"id": "c1", "function": {"name": "city", "arguments": '{"name":"Rome"}'}}
    wire.json(completion({"tool_calls": [call]}, "tool_calls"))
    request = ask(model="gpt-4-turbo", response_schema=CITY)
    reply = await chat.invoke(request)
    assert (reply.text, reply.tool_calls) == ('{"name":"Rome"}', ())
    assert (reply.structured_by, reply.finish_reason) == ("tool", FinishReason.STOP)
    pieces = [{"index": 0, "id": "c1", "function": {"name": "city", "arguments": '{"name":'}}]
    wire.sse(
        chunk({"tool_calls": pieces}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]}),
        chunk({}, "tool_calls"),
        ending=b"data: [DONE]\n\n",
    )
    events = await streamed(chat, request)
    assert [e.text for e in events if isinstance(e, TextDelta)] == ['{"name":', '"Rome"}']
    assert not any(isinstance(e, ToolCallStarted) for e in events)
    assert events[-1].response.text == '{"name":"Rome"}'
    assert events[-1].response.finish_reason is FinishReason.STOP


async def test_an_answer_by_tool_beside_another_call_keeps_that_call(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    call = {"id": "c1", "function": {"name": "weather", "arguments": "{}"}}
    wire.json(completion({"tool_calls": [call]}, "tool_calls"))
    request = ask(model="gpt-4-turbo", response_schema=CITY, tools=(Tool(name="weather"),))
    reply = await chat.invoke(request)
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert reply.tool_calls[0].name == "weather"


async def test_of_several_answers_only_the_first_is_read(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.sse(
        {"choices": [{"index": 0, "delta": {"content": "A"}}]},
        {"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}]},
        {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]},
        ending=b"data: [DONE]\n\n",
    )
    done = (await streamed(chat, ask()))[-1].response
    assert (done.text, done.finish_reason) == ("A", FinishReason.STOP)


async def test_calls_that_a_server_does_not_number_are_told_apart_by_their_ids(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.sse(
        chunk({"tool_calls": [{"id": "a", "function": {"name": "t", "arguments": "{}"}}]}),
        chunk({"tool_calls": [{"id": "b", "function": {"name": "t", "arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"function": {"arguments": ":1}"}}]}),
        chunk({}, "stop"),
        ending=b"data: [DONE]\n\n",
    )
    done = (await streamed(chat, ask()))[-1].response
    assert [(c.id, c.arguments) for c in done.tool_calls] == [("a", {}), ("b", {"x": 1})]


async def test_spoken_streams_are_raw_samples_with_their_rate(
    chat: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.sse(chunk({"audio": {"data": "AAAA"}}), chunk({}, "stop"), ending=b"data: [DONE]\n\n")
    request = ask(
        model="gpt-audio",
        output_modalities=(Modality.AUDIO,),
        audio_output=AudioOutput(voice="alloy"),
    )
    done = (await streamed(chat, request))[-1].response
    assert done.audio is not None
    assert (done.audio.format, done.audio.sample_rate_hz) == ("pcm16", 24_000)
