"""The contender's side: does a work so many times when it is asked to, and answers what it took.

Needs the standard library alone, as it runs in every peer's environment.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Batch = Callable[[int], Awaitable[int]]
"""Does a work so many times; returns how many units that were (a streamed call is as many as it has chunks)."""
Answer = Callable[[Any], Any]


def repeated(call: Callable[[], Awaitable[Any]]) -> Batch:
    """Return a batch of one call after the other, a unit each."""

    async def run(times: int) -> int:
        for _ in range(times):
            await call()
        return times

    return run


def streamed(stream: Callable[[], Awaitable[int]]) -> Batch:
    """Return a batch of streams, one after the other, that return how many chunks they had."""

    async def run(times: int) -> int:
        chunks = 0
        for _ in range(times):
            chunks += await stream()
        return chunks

    return run


def at_once(call: Callable[[], Awaitable[Any]], in_flight: int = 16) -> Batch:
    """Return a batch of calls of which `in_flight` are under way at any time."""

    async def run(times: int) -> int:
        left = iter(range(times))

        async def work() -> None:
            for _ in left:
                await call()

        await asyncio.gather(*(work() for _ in range(in_flight)))
        return times

    return run


async def _timed(batch: Batch, times: int) -> dict[str, float]:
    await batch(max(times // 10, 1))
    gc.collect()
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    units = await batch(times)
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e6 if sys.platform == "darwin" else 1e3
    )
    return {"cpu": cpu / units / 1e3, "wall": wall / units / 1e3, "peak_mb": peak}


def serve(
    works: Mapping[str, Callable[[], Batch]], answers: Mapping[str, Answer] | None = None
) -> None:
    """Answer the lines of stdin until it ends.

    A work is prepared by its function the first time it is asked for; an answer is given by its function at once.
    What else is printed goes to stderr.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(**fields: Any) -> None:
        out.write(json.dumps(fields) + "\n")
        out.flush()

    prepared: dict[str, Batch] = {}
    reply(found="ready")
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                if "work" not in asked:
                    reply(found=(answers or {})[asked["answer"]](asked["given"]))
                    continue
                name = asked["work"]
                if asked["fresh"] or name not in prepared:
                    prepared[name] = works[name]()
                reply(found=runner.run(_timed(prepared[name], asked["times"])))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
                reply(error=f"{type(error).__name__}: {error}"[:500])
