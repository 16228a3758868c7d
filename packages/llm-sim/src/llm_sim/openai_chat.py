"""OpenAI Chat Completions: `POST /v1/chat/completions`, plain and streamed."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from llm_sim import logprobs, tokens
from llm_sim.exchange import Ask, Chunk, Json, Reply, Stamp, Usage
from llm_sim.fields import dump, quote
from llm_sim.sound import encode
from llm_sim.wire import JSON, SSE

_FINISH = {"stop_sequence": "stop", "refusal": "stop"}


def content_type(ask: Ask) -> bytes:
    """Name the media type of the answer."""
    return SSE if ask.stream else JSON


def render(ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
    """Write a whole completion."""
    head = _head(ask, stamp, "chat.completion")
    message: Json = {
        "role": "assistant",
        "content": None if (reply.tool_calls or reply.refusal) and not reply.pieces else reply.text,
        "refusal": reply.refusal or None,
        "annotations": [],
    }
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in reply.tool_calls
        ]
    if ask.wants_audio:
        message["content"] = None
        message["audio"] = {
            "id": stamp.id("audio_"),
            "data": base64.b64encode(encode(reply.audio, ask.wants_audio)).decode(),
            "expires_at": stamp.created + 3600,
            "transcript": reply.text,
        }
    likely = None
    if ask.body.get("logprobs"):
        content = logprobs.entries(reply.pieces, ask.body.get("top_logprobs"))
        likely = {"content": content, "refusal": None}
    choices = [
        {"index": i, "message": message, "logprobs": likely, "finish_reason": _finish(reply)}
        for i in range(ask.choices)
    ]
    return dump(
        {
            **head,
            "choices": choices,
            "usage": usage(reply.usage),
            "service_tier": "default",
            "system_fingerprint": "fp_llmsim",
        }
    )


def stream(ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
    """Write the chunks of a streamed completion, `[DONE]` included."""
    options = ask.body.get("stream_options") or {}
    with_usage = bool(options.get("include_usage"))
    head = dump(
        {
            **_head(ask, stamp, "chat.completion.chunk"),
            "service_tier": "default",
            "system_fingerprint": "fp_llmsim",
        }
    ).decode()[:-1]
    tail = ',"usage":null}\n\n' if with_usage else "}\n\n"
    for index in range(ask.choices):
        yield from _choice_chunks(ask, reply, stamp, index, head, tail)
    if with_usage:
        yield Chunk(
            f'data: {head},"choices":[],"usage":{dump(usage(reply.usage)).decode()}}}\n\n'.encode()
        )
    yield Chunk(b"data: [DONE]\n\n")


def error_event(message: str) -> bytes:
    """Write the error that ends a stream half-way."""
    return (
        b"data: "
        + dump({"error": {"message": message, "type": "server_error", "param": None, "code": None}})
        + b"\n\n"
    )


def usage(used: Usage) -> Json:
    """Render the usage of a completion."""
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": used.cached_tokens,
            "audio_tokens": used.audio_input_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "audio_tokens": used.audio_output_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _choice_chunks(
    ask: Ask, reply: Reply, stamp: Stamp, index: int, head: str, tail: str
) -> Iterator[Chunk]:
    open_ = f'data: {head},"choices":[{{"index":{index},"delta":'
    ending = f',"finish_reason":null}}]{tail}'
    close = f',"logprobs":null{ending}'

    def delta(value: Json, count: int = 0) -> Chunk:
        return Chunk(f"{open_}{dump(value).decode()}{close}".encode(), count)

    first: Json = {
        "role": "assistant",
        "content": None if reply.tool_calls else "",
        "refusal": None,
    }
    yield delta(first, reply.usage.reasoning_tokens)
    if ask.wants_audio:
        yield from (delta(value, count) for value, count in _audio_deltas(reply, stamp))
    else:
        before = f'{open_}{{"content":'
        after = f"}}{close}"
        for piece in reply.pieces:
            if ask.body.get("logprobs"):
                likely = dump(logprobs.entry(piece, ask.body.get("top_logprobs") or 0)).decode()
                after = f'}},"logprobs":{{"content":[{likely}],"refusal":null}}{ending}'
            yield Chunk(f"{before}{quote(piece)}{after}".encode("utf-8", "replace"), 1)
    for piece in tokens.split(reply.refusal):
        yield delta({"refusal": piece}, 1)
    for place, call in enumerate(reply.tool_calls):
        opening = {"name": call.name, "arguments": ""}
        value = {"index": place, "id": call.id, "type": "function", "function": opening}
        yield delta({"tool_calls": [value]}, tokens.count(call.name))
        for piece in tokens.split(call.arguments):
            yield delta({"tool_calls": [{"index": place, "function": {"arguments": piece}}]}, 1)
    yield Chunk(f'{open_}{{}},"logprobs":null,"finish_reason":"{_finish(reply)}"}}]{tail}'.encode())


def _audio_deltas(reply: Reply, stamp: Stamp) -> Iterator[tuple[Json, int]]:
    yield {"audio": {"id": stamp.id("audio_"), "transcript": ""}}, 0
    size = len(reply.audio) // max(len(reply.pieces), 1)
    for place, piece in enumerate(reply.pieces):
        yield {"audio": {"transcript": piece}}, 1
        data = reply.audio[place * size : (place + 1) * size]
        yield {"audio": {"data": base64.b64encode(data).decode()}}, 5
    yield {"audio": {"expires_at": stamp.created + 3600}}, 0


def _head(ask: Ask, stamp: Stamp, kind: str) -> Json:
    return {
        "id": stamp.id("chatcmpl-"),
        "object": kind,
        "created": stamp.created,
        "model": ask.model,
    }


def _finish(reply: Reply) -> str:
    return _FINISH.get(reply.finish_reason, reply.finish_reason)
