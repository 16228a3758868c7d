"""How many calls a second a program gets through, beside peers, and memory that must not grow with the number of lines.

    hatch run bench run                                  # a minute and a half
    hatch run bench run --lines 10000 1000000            # a million lines: ten minutes or more
    hatch run bench run --no-peers

Beside peers: many calls at once through the whole service, against the same local server.
Memory, ours alone and two ways, each size in a process of its own, against `llm_sim.SimProvider` in that process:
`many` is `generate_many` alone, `file` is all that `llm-service run` does: reading and checking the file,
the journal, the output in the order of the input.
Peak memory is the operating system's figure for the whole process (`ru_maxrss`).
Exit code 1 if memory grew with the number of lines.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import (
    OURS,
    SDK,
    Headline,
    Measured,
    Page,
    Table,
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
from benchmarks.harness.plots import Panel, bars

MOST_GROWTH_MB = 50.0
IN_FLIGHT = 16
CALLS = 200
METHOD = f"""\
Beside peers: each contender is a process of its own, with {IN_FLIGHT} calls under way at any time; a round is {CALLS} calls, and
all take turns. Each uses one core, the server the other, so that the client is what limits. Figures are elapsed time,
the median of the rounds. Ours is `generate_many` over the whole service (limits, breaker, retries, metrics, usage, cost);
langchain-openai is `abatch`, the others are tasks that share the calls, without limits or retries.
Memory: `many` is `generate_many` alone, `file` all that `llm-service run` does (reading and checking the file, journal,
output in the order of the input), against a simulated provider in the same process, which takes part of the time."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What one way and size took."""

    way: str
    lines: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> int:
    """Measure peers, then every way and size; returns 1 if memory grew with the number of lines."""
    options = read_options(
        __doc__,
        rounds=11,
        lines={"type": int, "nargs": "+", "default": [5_000, 50_000]},
        ways={"nargs": "+", "choices": list(WAYS), "default": list(WAYS)},
        measure={"choices": list(WAYS), "help": "what a process of its own is told"},
    )
    given = options.given
    if given.measure:
        print(json.dumps(measure(WAYS[given.measure], given.lines[0])))
        return 0
    with canned_server() as url, started(callers(url, peers=options.peers)) as running:
        taken = take_turns(
            {
                name: lambda one=one: one.measure("many", CALLS)["wall"]  # type: ignore[misc]
                for name, one in running.items()
            },
            rounds=options.rounds,
            ours=[OURS],
        )
    rates = [one.rate() for one in taken]
    ran = [run(way, lines) for way in given.ways for lines in given.lines]
    missed = []
    for way in given.ways:
        peaks = [one.peak_mb for one in ran if one.way == way]
        growth = max(peaks) - peaks[0]
        if growth > MOST_GROWTH_MB:
            missed.append(f"{way}: {growth:+.1f} MB with the lines, at most {MOST_GROWTH_MB:g}")
    if not options.dry_run:
        title = f"Calls a second, {IN_FLIGHT} under way, one core"
        bars("run", [Panel(title, rates, more_is_better=True, yardstick=OURS)])
    return publish(_page(rates, ran, missed, peers=options.peers), options)


def _page(rates: list[Measured], ran: list[Ran], missed: list[str], *, peers: bool) -> Page:
    ours = next(one for one in rates if one.is_ours)
    shares = [f"{one.name} {one.median:,.0f}" for one in rates if not one.is_ours]
    rows = [
        (
            one.way,
            f"{one.lines:,}",
            f"{one.seconds:.1f}",
            f"{one.lines / one.seconds:,.0f}",
            f"{one.cpu_seconds / one.lines * 1e6:.0f}",
            f"{one.peak_mb:.1f}",
        )
        for one in ran
    ]
    head = ("way", "lines", "seconds", "calls/s", "CPU µs/call", "peak MB")
    return Page(
        name="run",
        title="Many calls, and files of prompts",
        summary=[
            Headline(
                what=f"calls a second of one core, {IN_FLIGHT} under way",
                ours=f"{ours.median:,.0f}",
                others="; ".join(shares),
            )
        ],
        tables=[
            compared("Calls a second against the same server", rates, SDK, unit="calls/s"),
            Table("Ours over many lines", head, rows),
        ],
        better=where_peers_are_better(rates, OURS, at="calls a second", more_is_better=True),
        method=METHOD,
        versions=caller_versions() if peers else "",
        picture_says="Calls a second, ours and peers",
        missed=missed,
    )


def run(way: str, lines: int) -> Ran:
    """Measure one way and size in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.run", "--measure", way, "--lines", str(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Ran(way, lines, **json.loads(done.stdout.splitlines()[-1]))


def measure(way: Callable[[int], None], lines: int) -> dict[str, float]:
    """Return what one way and size took, with the memory of everything that was imported."""
    began, cpu = time.monotonic(), time.process_time()
    way(lines)
    # Kilobytes on Linux, bytes on macOS.
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
    }


def many(lines: int) -> None:
    """Take all results of `generate_many` and keep none."""
    from llm_service import BaseLLMService
    from llm_sim import SimProvider

    async def take() -> int:
        texts = (f"question {number}" for number in range(lines))
        async with BaseLLMService(
            model="gpt-5-mini", provider=SimProvider(), telemetry="none"
        ) as service:
            results = service.generate_many(texts, in_flight=IN_FLIGHT)
            succeeded = 0
            async for _, result in results:
                succeeded += result.success
            return succeeded

    if asyncio.run(take()) != lines:
        raise SystemExit("not every call succeeded")


def file(lines: int) -> None:
    """Do as `llm-service run` does, with the provider in this process."""
    from llm_service import BaseLLMService
    from llm_service.cli.answering import Answering
    from llm_service.cli.journal import Journal
    from llm_service.cli.request_file import RequestFile
    from llm_sim import SimProvider

    with tempfile.TemporaryDirectory() as folder:
        source = RequestFile(Path(folder, "in.jsonl"))
        with source.path.open("w", encoding="utf-8") as stream:
            stream.writelines(_questions(lines))
        with Journal.resume(Path(folder, "out.jsonl")) as journal:
            total = sum(not journal.index.answers(item) for item in source)
            journal.open()
            answering = Answering(
                BaseLLMService(model="gpt-5-mini", provider=SimProvider(), telemetry="none"),
                source,
                journal,
                in_flight=IN_FLIGHT,
                drain_seconds=0.0,
                on_result=lambda: None,
                say=print,
            )
            asyncio.run(answering.run())
            journal.publish(in_input_order=True)
            if journal.index.tally.succeeded != total:
                raise SystemExit("not every line was answered")


def _questions(lines: int) -> Iterator[str]:
    return (json.dumps({"user": f"question {number}"}) + "\n" for number in range(lines))


WAYS = {"many": many, "file": file}


if __name__ == "__main__":
    sys.exit(main())
