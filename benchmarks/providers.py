"""CPU of a plain call and of a streamed chunk, beside the bare SDK and what is built on it, and memory over many calls.

    hatch run bench providers                     # all of it, a minute and a half
    hatch run bench providers --memory-calls 0    # without the long memory run; writes no page
    hatch run bench providers --no-peers          # ours and the bare SDK

Every contender is a process of its own and calls the same server, which sends canned bytes.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from benchmarks.harness import (
    OURS,
    SDK,
    Contender,
    Headline,
    Measured,
    Page,
    Table,
    against,
    caller_versions,
    callers,
    canned_server,
    compared,
    publish,
    read_options,
    started,
    take_turns,
    where_peers_are_better,
)
from benchmarks.harness.machine import resident_megabytes
from benchmarks.harness.plots import Panel, bars

from llm_core import LLMCallRequest, Message, TextDelta
from llm_providers import OpenAIProvider

PLAIN_RATIO = 1.10
"""A plain call may cost this much of the SDK's."""
CHUNK_RATIO = 1.0
"""A streamed chunk must cost less than the SDK's."""
MEMORY_GROWTH_MEGABYTES = 2.0
PLAIN, STREAMS = 50, 2
MEMORY_CALLS = 20_000
KINDS = {
    "plain call": (PLAIN, "A plain call, Chat Completions"),
    "stream": (STREAMS, "A streamed chunk, Chat Completions"),
    "plain call, Responses": (PLAIN, "A plain call, Responses"),
    "stream, Responses": (STREAMS, "A streamed chunk, Responses"),
}
"""How often a work is done in a round, and the title of its table."""
METHOD = f"""\
Each contender is a process of its own and makes one call after the other; a round is {PLAIN} plain calls or {STREAMS} streams of
400 chunks, and all contenders take turns. Figures are CPU time of the client's process, the median of the rounds.
The server is a process that sends canned bytes with rate-limit headers, one write to the socket for each chunk.
Each contender reads its whole answer: text, usage and, for ours, the rate-limit headers and the timestamps.
The contenders do not do the same: langchain-openai, litellm and pydantic-ai bring callbacks, cost or agents with every
call; instructor passes a plain call through to the SDK that it wraps.
Memory is this process's, after the first tenth of the calls and at their end; half of the streams are closed early."""


def turns(running: dict[str, Contender], rounds: int) -> dict[str, list[Measured]]:
    """Measure every kind of call by those who make it."""
    found = {}
    for kind, (times, _) in KINDS.items():
        able = {
            name: contender.cpu(kind, times)
            for name, contender in running.items()
            if name in (OURS, SDK) or "Responses" not in kind
        }
        found[kind] = take_turns(able, rounds=rounds, ours=[OURS])
    return found


async def memory(base_url: str, calls: int) -> list[tuple[str, float, float]]:
    """Return (what, MB at first, MB more at the end) for plain calls and a fiftieth as many streams."""
    provider = OpenAIProvider("key", base_url)
    request = LLMCallRequest(model="gpt-4o", messages=(Message.user("Say something."),))

    async def plain(_: int) -> None:
        await provider.invoke(request)

    async def stream(turn: int) -> None:
        async with aclosing(provider.stream(request)) as events:  # type: ignore[type-var]
            async for event in events:
                if turn % 2 and type(event) is TextDelta:
                    break

    found = [
        (f"{calls:,} plain calls", *await growth(plain, calls)),
        (f"{calls // 50:,} streams", *await growth(stream, calls // 50)),
    ]
    await provider.aclose()
    return found


async def growth(work: Callable[[int], Awaitable[None]], times: int) -> tuple[float, float]:
    """Do `work` many times; return the resident memory after the first tenth, and what it grew by until the end."""
    for turn in range(times // 10):
        await work(turn)
    gc.collect()
    before = resident_megabytes()
    for turn in range(times - times // 10):
        await work(turn)
    gc.collect()
    return before, resident_megabytes() - before


def missed(found: dict[str, list[Measured]], grown: list[tuple[str, float, float]]) -> list[str]:
    """Return the targets that were not met."""
    words = []
    for kind, measured in found.items():
        ours, sdk = measured[:2]
        ratio = ours.over(sdk).median
        most = CHUNK_RATIO if "stream" in kind else PLAIN_RATIO
        if ratio > most:
            words.append(f"{kind}: {ratio:.2f} of the SDK's CPU time, at most {most:.2f}")
    words += [
        f"memory over {what}: {more:+.2f} MB, at most {MEMORY_GROWTH_MEGABYTES:g}"
        for what, _, more in grown
        if more > MEMORY_GROWTH_MEGABYTES
    ]
    return words


def tables(found: dict[str, list[Measured]], grown: list[tuple[str, float, float]]) -> list[Table]:
    shown = [
        compared(title, found[kind], SDK, unit="CPU µs", digits=1 if "stream" in kind else 0)
        for kind, (_, title) in KINDS.items()
    ]
    if grown:
        rows = [(what, f"{first:.1f}", f"{more:+.2f}") for what, first, more in grown]
        shown.append(Table("Resident memory of our provider", ("over", "MB", "then"), rows))
    return shown


def main() -> int:
    """Run everything; returns the exit code."""
    options = read_options(
        __doc__, rounds=15, memory_calls={"type": int, "default": MEMORY_CALLS, "metavar": "N"}
    )
    calls = options.given.memory_calls
    with canned_server() as base_url:
        with started(callers(base_url, peers=options.peers)) as running:
            found = turns(running, options.rounds)
        grown = asyncio.run(memory(base_url, calls)) if calls else []
    options = replace(options, dry_run=options.dry_run or not calls)
    if not options.dry_run:
        plain, stream = found["plain call"], found["stream"]
        bars(
            "providers",
            [
                Panel("A plain call, CPU µs of the client", plain, yardstick=OURS),
                Panel("A streamed chunk, CPU µs of the client", stream, 1, yardstick=OURS),
            ],
        )
    page = Page(
        name="providers",
        title="A provider's call and stream",
        summary=[
            Headline(
                what=f"{words}, client's CPU",
                ours=f"{found[kind][0].median:,.0f} µs",
                others=against(found[kind], OURS),
            )
            for kind, words in (("plain call", "a plain call"), ("stream", "a streamed chunk"))
        ],
        tables=tables(found, grown),
        better=[
            sentence
            for kind, measured in found.items()
            for sentence in where_peers_are_better(measured, OURS, at=f"a {kind}")
        ],
        method=METHOD,
        versions=caller_versions() if options.peers else "",
        picture_says="CPU time of a plain call and of a streamed chunk, ours and peers",
        missed=missed(found, grown),
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
