"""The server that all contenders call: canned bytes from a process of its own, so that the client is what is measured.

python -m benchmarks.harness.canned_server      # prints its port
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

CHUNKS = 400
CITY = {"name": "Bern", "country": "Switzerland", "population": 134_000}
"""What a call that asks for structured output gets."""

TEXT = "The quick brown fox jumps over the lazy dog. " * 4

_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_700_000_000,
    "status": "completed",
    "model": "gpt-4o-2024-08-06",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 52,
    },
}
_COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT, "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52},
}


def _word(number: int) -> str:
    # Not always the same one, which litellm takes for a model that hangs.
    return f" word{number % 10}"


def _responses_events() -> list[dict[str, Any]]:
    empty = {**_RESPONSE, "status": "in_progress", "output": [], "usage": None}
    delta = {
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "logprobs": [],
    }
    deltas = [
        {**delta, "delta": _word(number), "sequence_number": number + 1} for number in range(CHUNKS)
    ]
    return [
        {"type": "response.created", "response": empty, "sequence_number": 0},
        *deltas,
        {"type": "response.completed", "response": _RESPONSE, "sequence_number": CHUNKS + 1},
    ]


def _chat_events() -> list[dict[str, Any]]:
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-2024-08-06",
    }
    words = [
        {"index": 0, "delta": {"content": _word(number)}, "finish_reason": None}
        for number in range(CHUNKS)
    ]
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return [
        *[{**head, "choices": [word], "usage": None} for word in words],
        {**head, "choices": [end], "usage": None},
        {**head, "choices": [], "usage": _COMPLETION["usage"]},
    ]


def _http(body: bytes, content_type: str) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\n"
        f"content-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\n"
        "x-request-id: req_1\r\n"
        "x-ratelimit-limit-requests: 10000\r\n"
        "x-ratelimit-remaining-requests: 9999\r\n"
        "x-ratelimit-reset-requests: 6ms\r\n"
        "x-ratelimit-limit-tokens: 2000000\r\n"
        "x-ratelimit-remaining-tokens: 1999900\r\n"
        "x-ratelimit-reset-tokens: 3ms\r\n\r\n"
    )
    return head.encode() + body


def _chunked(events: list[dict[str, Any]]) -> list[bytes]:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    payloads = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    payloads.append(b"data: [DONE]\n\n")
    return [head, *[b"%x\r\n%s\r\n" % (len(data), data) for data in payloads], b"0\r\n\r\n"]


def _structured(body: dict[str, Any]) -> bytes:
    """Answer with the city, as a call of the tool that was asked for or as content that keeps the schema."""
    text = json.dumps(CITY)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    reason = "stop"
    if body.get("tools"):
        function = {"name": body["tools"][0]["function"]["name"], "arguments": text}
        call = {"id": "call_1", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
        reason = "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return _http(json.dumps({**_COMPLETION, "choices": [choice]}).encode(), "application/json")


async def _serve() -> None:
    plain = {
        "/v1/responses": _http(json.dumps(_RESPONSE).encode(), "application/json"),
        "/v1/chat/completions": _http(json.dumps(_COMPLETION).encode(), "application/json"),
    }
    streams = {
        "/v1/responses": _chunked(_responses_events()),
        "/v1/chat/completions": _chunked(_chat_events()),
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            path = head.split(" ", 2)[1]
            length = int(head.lower().split("content-length: ", 1)[1].split("\r\n", 1)[0])
            body = await reader.readexactly(length)
            if b'"response_format"' in body or b'"tools"' in body:
                writer.write(_structured(json.loads(body)))
                continue
            if b'"stream":true' not in body.replace(b" ", b""):
                writer.write(plain[path])
                continue
            for chunk in streams[path]:
                if writer.is_closing():  # the stream was closed early
                    return
                writer.write(chunk)
                await asyncio.sleep(0)  # one write to the socket each

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
