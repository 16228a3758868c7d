"""Calls and streamed chunks that llm-sim serves a second, beside a bare Starlette app, and its memory.

    python benchmarks/sim.py                        # all of it, about a minute
    python benchmarks/sim.py --memory-calls 0       # without the memory run

Each server runs in a process of its own; one client process speaks raw HTTP over 16 kept-alive connections, so that
the server is what is measured. Rounds of both alternate and the medians are compared, because other programs disturb
both alike. The bare app answers the same bytes as a constant, through Starlette on uvicorn with httptools.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONNECTIONS = 16
PLAIN_CALLS = 4000
STREAMS = 64
STREAMED_TOKENS = 1000
CALLS_PER_SECOND = 2_000
CHUNKS_PER_SECOND = 50_000
MEMORY_GROWTH_MEGABYTES = 4.0

_BARE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
body = sys.stdin.buffer.read()
async def answer(request):
    await request.body()
    return Response(body, media_type="application/json")
app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, http="httptools", loop="asyncio")
"""


def request_bytes(*, stream: bool) -> bytes:
    """Return a chat completion's request, with about what a real client sends as headers."""
    text = "word " * (STREAMED_TOKENS if stream else 20)
    message = {"role": "user", "content": text.strip()}
    body = json.dumps({"model": "gpt-4o", "messages": [message], "stream": stream}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer sk-benchmark\r\n"
        "content-type: application/json\r\naccept: application/json\r\nuser-agent: benchmark\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def call(reader: asyncio.StreamReader) -> bytes:
    """Read one whole answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        tail = b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            tail = tail[-8:] + await reader.read(1 << 20)
        return b""
    start = head.index(b"content-length: ") + 16
    return await reader.readexactly(int(head[start : head.index(b"\r", start)]))


async def calls_per_second(port: int, request: bytes, count: int) -> float:
    """Send `count` requests over all connections, each waiting for its answer."""

    async def work(each: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(each):
            writer.write(request)
            await call(reader)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(work(count // CONNECTIONS) for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - began)


@contextmanager
def server(command: list[str], port: int, given: bytes = b"") -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block is left."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet) as process:
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        try:
            asyncio.run(reachable(port))
            yield process
        finally:
            process.terminate()


async def reachable(port: int) -> None:
    """Wait until somebody listens, at most ten seconds."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def resident_megabytes(process_id: int) -> float:
    """Return the memory that a process holds (Linux)."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def example(port: int, request: bytes) -> bytes:
    """Return the body of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    body = await call(reader)
    writer.close()
    return body


def main() -> None:
    """Measure, print, and fail if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-calls", type=int, default=60_000)
    parser.add_argument("--port", type=int, default=8471)
    options = parser.parse_args()
    port, bare_port = options.port, options.port + 1
    plain, streamed = request_bytes(stream=False), request_bytes(stream=True)
    sim_command = [sys.executable, "-m", "llm_sim", "serve", "--port", str(port)]
    bare_command = [sys.executable, "-c", _BARE, str(bare_port)]
    ours, bare, chunks = [], [], []
    with server(sim_command, port) as process:
        constant = asyncio.run(example(port, plain))
        with server(bare_command, bare_port, constant):
            for _ in range(options.rounds):
                ours.append(asyncio.run(calls_per_second(port, plain, PLAIN_CALLS)))
                bare.append(asyncio.run(calls_per_second(bare_port, plain, PLAIN_CALLS)))
                streams = asyncio.run(calls_per_second(port, streamed, STREAMS))
                chunks.append(streams * (STREAMED_TOKENS + 3))
        before = resident_megabytes(process.pid)
        if options.memory_calls:
            asyncio.run(calls_per_second(port, plain, options.memory_calls))
        growth = resident_megabytes(process.pid) - before
    plain_rate, bare_rate = statistics.median(ours), statistics.median(bare)
    chunk_rate = statistics.median(chunks)
    print(f"plain calls     {plain_rate:>10,.0f} /s   target {CALLS_PER_SECOND:,}")
    print(f"bare Starlette  {bare_rate:>10,.0f} /s   ratio {plain_rate / bare_rate:.2f}")
    print(f"streamed chunks {chunk_rate:>10,.0f} /s   target {CHUNKS_PER_SECOND:,}")
    if options.memory_calls:
        print(
            f"memory          {before:>10.1f} MB, {growth:+.2f} over {options.memory_calls:,} calls"
        )
    missed = (
        plain_rate < CALLS_PER_SECOND
        or chunk_rate < CHUNKS_PER_SECOND
        or growth > MEMORY_GROWTH_MEGABYTES
    )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
