"""Calls and streamed chunks that llm-sim serves a second, beside a bare Starlette app, and its memory.

    hatch run bench sim                        # all of it, about a minute
    hatch run bench sim --memory-calls 0       # without the memory run; writes no page

Each server runs in a process of its own; one client process speaks raw HTTP over 16 kept-alive connections, so that
the server is what is measured; both take turns.
The bare app answers the same bytes as a constant, through Starlette on uvicorn with httptools.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version

from benchmarks.harness import (
    Headline,
    Measured,
    Page,
    Table,
    compared,
    publish,
    read_options,
    take_turns,
    where_peers_are_better,
)
from benchmarks.harness.machine import resident_megabytes
from benchmarks.harness.plots import Panel, bars

OURS = "llm-sim"
BARE = "bare Starlette"
CONNECTIONS = 16
PLAIN_CALLS = 4000
STREAMS = 64
STREAMED_TOKENS = 1000
CALLS_PER_SECOND = 2_000
CHUNKS_PER_SECOND = 50_000
MEMORY_GROWTH_MEGABYTES = 4.0

METHOD = """\
Each server runs in a process of its own on one core; one client process speaks raw HTTP over 16 kept-alive connections,
so that the server is what is measured. Both take turns; figures are the median of the rounds.
The bare app answers the same bytes as a constant, through Starlette on uvicorn with httptools: it parses no request, counts
no tokens and keeps no limits. Memory is the server's, before and after 60,000 calls."""

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


async def example(port: int, request: bytes) -> bytes:
    """Return the body of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    body = await call(reader)
    writer.close()
    return body


def turns(rounds: int, port: int, bare_port: int) -> tuple[Measured, Measured, Measured]:
    """Return ours and bare calls a second, and ours in streamed chunks a second."""
    plain, streamed = request_bytes(stream=False), request_bytes(stream=True)

    def rate(at: int, request: bytes, count: int) -> float:
        return asyncio.run(calls_per_second(at, request, count))

    works = {
        OURS: lambda: rate(port, plain, PLAIN_CALLS),
        BARE: lambda: rate(bare_port, plain, PLAIN_CALLS),
        "chunks": lambda: rate(port, streamed, STREAMS) * (STREAMED_TOKENS + 3),
    }
    ours, bare, chunks = take_turns(works, rounds=rounds, ours=[OURS, "chunks"])
    return ours, bare, chunks


def page(ours: Measured, bare: Measured, chunks: Measured, memory: tuple[float, float]) -> Page:
    before, growth = memory
    targets = {
        f"{ours.median:,.0f} plain calls a second, at least {CALLS_PER_SECOND:,}": ours.median
        >= CALLS_PER_SECOND,
        f"{chunks.median:,.0f} chunks a second, at least {CHUNKS_PER_SECOND:,}": chunks.median
        >= CHUNKS_PER_SECOND,
        f"{growth:+.2f} MB over many calls, at most {MEMORY_GROWTH_MEGABYTES:g}": growth
        <= MEMORY_GROWTH_MEGABYTES,
    }
    low, high = chunks.quartiles
    return Page(
        name="sim",
        title="How much the simulator serves",
        summary=[
            Headline(
                what="simulated calls a second",
                ours=f"{ours.median:,.0f}",
                others=f"{BARE}, a constant as its answer {bare.median:,.0f}",
            )
        ],
        tables=[
            compared("Plain calls a second", [ours, bare], BARE, unit="calls/s"),
            Table(
                "Streams and memory",
                ("", "measured"),
                [
                    (
                        "streamed chunks a second",
                        f"{chunks.median:,.0f} ({low:,.0f} – {high:,.0f})",
                    ),
                    ("resident memory", f"{before:.1f} MB"),
                    ("… and after many calls", f"{growth:+.2f} MB"),
                ],
            ),
        ],
        better=where_peers_are_better([ours, bare], OURS, at="calls a second", more_is_better=True),
        method=METHOD,
        versions=", ".join(
            f"{name} {version(name)}" for name in ("starlette", "uvicorn", "httptools")
        ),
        picture_says="Calls a second of the simulator and of a bare Starlette app",
        missed=[words for words, is_met in targets.items() if not is_met],
    )


def main() -> int:
    """Measure, print, and fail if a target is missed."""
    options = read_options(
        __doc__,
        rounds=7,
        has_peers=False,
        memory_calls={"type": int, "default": 60_000},
        port={"type": int, "default": 8471},
    )
    calls, port = options.given.memory_calls, options.given.port
    plain = request_bytes(stream=False)
    sim_command = [sys.executable, "-m", "llm_sim", "serve", "--port", str(port)]
    bare_command = [sys.executable, "-c", _BARE, str(port + 1)]
    with server(sim_command, port) as process:
        constant = asyncio.run(example(port, plain))
        with server(bare_command, port + 1, constant):
            ours, bare, chunks = turns(options.rounds, port, port + 1)
        before = resident_megabytes(process.pid)
        if calls:
            asyncio.run(calls_per_second(port, plain, calls))
        growth = resident_megabytes(process.pid) - before
    options = replace(options, dry_run=options.dry_run or not calls)
    if not options.dry_run:
        panel = Panel("Plain calls a second, one core", [ours, bare], more_is_better=True)
        bars("sim", [panel])
    return publish(page(ours, bare, chunks, (before, growth)), options)


if __name__ == "__main__":
    sys.exit(main())
