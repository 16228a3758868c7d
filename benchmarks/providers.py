"""CPU per plain call and per streamed chunk, beside the bare SDK, and memory over many calls.

    python benchmarks/providers.py                     # all of it, a few minutes
    python benchmarks/providers.py --memory-calls 0    # without the long memory run

A server in a process of its own sends canned bytes, so that what is measured is the client's CPU alone.
Rounds of ours and the SDK's alternate and the medians are compared, because other programs disturb both alike.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from multiprocessing.connection import Connection
from typing import Any

from llm_core import LLMCallRequest, Message, StreamDone, TextDelta
from llm_providers import OpenAIProvider

CHUNKS = 400
PLAIN_RATIO = 1.10
"""A plain call may cost this much of the SDK's."""
CHUNK_RATIO = 1.0
"""A streamed chunk must cost less than the SDK's."""
MEMORY_GROWTH_MEGABYTES = 2.0

_TEXT = "The quick brown fox jumps over the lazy dog. " * 4

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
            "content": [{"type": "output_text", "text": _TEXT, "annotations": []}],
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
            "message": {"role": "assistant", "content": _TEXT, "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52},
}


def _responses_events() -> list[dict[str, Any]]:
    empty = {**_RESPONSE, "status": "in_progress", "output": [], "usage": None}
    delta = {
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": " word",
        "logprobs": [],
    }
    deltas = [{**delta, "sequence_number": number + 1} for number in range(CHUNKS)]
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
    word = {"index": 0, "delta": {"content": " word"}, "finish_reason": None}
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return [
        *[{**head, "choices": [word], "usage": None} for _ in range(CHUNKS)],
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


async def _serve(pipe: Connection) -> None:
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
            if b'"stream":true' not in body.replace(b" ", b""):
                writer.write(plain[path])
                continue
            for chunk in streams[path]:
                if writer.is_closing():  # the stream was closed early
                    return
                writer.write(chunk)
                await asyncio.sleep(0)  # one write to the socket each

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def run_server(pipe: Connection) -> None:
    asyncio.run(_serve(pipe))


Work = Callable[[], Awaitable[int]]
"""Does one unit and returns how many chunks it saw (1 for a plain call)."""


def _works(base_url: str, api: Any) -> dict[str, tuple[Work, Work]]:
    """Return for each kind of call ours and the bare SDK's."""
    import openai

    provider = OpenAIProvider("key", base_url, api)
    sdk = openai.AsyncOpenAI(api_key="key", base_url=base_url, max_retries=0)
    request = LLMCallRequest(model="gpt-4o", messages=(Message.user("Say something."),))
    messages: Any = [{"role": "user", "content": "Say something."}]

    async def ours_plain() -> int:
        response = await provider.invoke(request)
        assert response.text == _TEXT
        assert response.rate_limits is not None
        return 1

    async def sdk_plain() -> int:
        if api == "responses":
            reply = await sdk.responses.create(model="gpt-4o", input=messages)
            assert reply.output_text == _TEXT
        else:
            completion = await sdk.chat.completions.create(model="gpt-4o", messages=messages)
            assert completion.choices[0].message.content == _TEXT
        return 1

    async def ours_stream() -> int:
        seen = 0
        async for event in provider.stream(request):
            if type(event) is TextDelta:
                seen += 1
        assert type(event) is StreamDone
        assert seen == CHUNKS
        return seen

    async def sdk_stream() -> int:
        seen = 0
        if api == "responses":
            async for event in await sdk.responses.create(
                model="gpt-4o", input=messages, stream=True
            ):
                seen += event.type == "response.output_text.delta"
        else:
            async for chunk in await sdk.chat.completions.create(
                model="gpt-4o",
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
            ):
                seen += bool(chunk.choices and chunk.choices[0].delta.content)
        assert seen == CHUNKS
        return seen

    return {"plain call": (ours_plain, sdk_plain), "chunk": (ours_stream, sdk_stream)}


async def _microseconds(work: Work, times: int) -> float:
    units = 0
    started = time.process_time()
    for _ in range(times):
        units += await work()
    return (time.process_time() - started) / units * 1e6


async def _compare(base_url: str, rounds: int) -> bool:
    print(f"{'':34}{'ours':>10}{'SDK':>10}{'ratio':>8}{'limit':>8}")
    good = True
    for api in ("responses", "chat_completions"):
        for kind, (ours, theirs) in _works(base_url, api).items():
            times, limit = (200, PLAIN_RATIO) if kind == "plain call" else (4, CHUNK_RATIO)
            for work in (ours, theirs):
                await _microseconds(work, max(times // 4, 1))
            pairs = [
                (await _microseconds(ours, times), await _microseconds(theirs, times))
                for _ in range(rounds)
            ]
            our, their = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratio = our / their
            good &= ratio <= limit if limit != CHUNK_RATIO else ratio < limit
            print(f"{api + ', us per ' + kind:34}{our:10.1f}{their:10.1f}{ratio:8.2f}{limit:8.2f}")
    return good


async def _memory(base_url: str, calls: int) -> bool:
    """Look at the memory over many plain calls, and over a fiftieth as many streams, half of them closed early."""
    provider = OpenAIProvider("key", base_url)
    request = LLMCallRequest(model="gpt-4o", messages=(Message.user("Say something."),))

    async def plain(_: int) -> None:
        await provider.invoke(request)

    async def stream(turn: int) -> None:
        async with aclosing(provider.stream(request)) as events:  # type: ignore[type-var]
            async for event in events:
                if turn % 2 and type(event) is TextDelta:
                    break

    good = await _is_flat("plain calls", plain, calls)
    good &= await _is_flat("streams", stream, calls // 50)
    await provider.aclose()
    return good


async def _is_flat(words: str, work: Callable[[int], Awaitable[None]], times: int) -> bool:
    """Do `work` many times and compare the resident memory after the first tenth with the end."""
    for turn in range(times // 10):
        await work(turn)
    gc.collect()
    before = _resident_megabytes()
    for turn in range(times - times // 10):
        await work(turn)
    gc.collect()
    growth = _resident_megabytes() - before
    print(f"resident memory over {times} {words}: {before:.1f} MB, then {growth:+.2f} MB")
    return growth <= MEMORY_GROWTH_MEGABYTES


def _resident_megabytes() -> float:
    try:
        with open("/proc/self/statm") as status:
            return int(status.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:  # not Linux: the peak has to do
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


async def _main(base_url: str, rounds: int, memory_calls: int) -> bool:
    good = await _compare(base_url, rounds)
    if memory_calls:
        good &= await _memory(base_url, memory_calls)
    return good


def main() -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-calls", type=int, default=100_000)
    arguments = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=run_server, args=(there,), daemon=True
    )
    server.start()
    try:
        base_url = f"http://127.0.0.1:{here.recv()}/v1"
        good = asyncio.run(_main(base_url, arguments.rounds, arguments.memory_calls))
    finally:
        server.terminate()
    print("every target met" if good else "a target was missed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
