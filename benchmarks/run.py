"""What a long run costs: time for each call, and memory that must not grow with the number of lines.

    hatch run bench run                                  # 10,000 and 1,000,000 lines: ten minutes or more
    hatch run bench run --lines 10000 100000             # shorter

Two ways, each size in a process of its own, against `llm_sim.SimProvider` in that process:
`many` is `generate_many` alone, `file` is all that `llm-service run` does: reading and checking the file,
the journal, the output in the order of the input.
Peak memory is the operating system's figure for the whole process (`ru_maxrss`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MOST_GROWTH_MB = 50.0
IN_FLIGHT = 16


def main() -> int:
    """Measure every way and size; returns 1 if memory grew with the number of lines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--measure", choices=list(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(WAYS[given.measure], given.lines[0])))
        return 0
    print(f"{'way':6}{'lines':>11}{'seconds':>10}{'calls/s':>10}{'CPU µs/call':>13}{'peak MB':>10}")
    has_grown = False
    for way in given.ways:
        peaks = [report(way, lines) for lines in given.lines]
        growth = max(peaks) - peaks[0]
        has_grown |= growth > MOST_GROWTH_MB
        print(f"{way}: {growth:+.1f} MB from {given.lines[0]:,} lines; at most {MOST_GROWTH_MB:g}")
    return int(has_grown)


def report(way: str, lines: int) -> float:
    """Measure in a process of its own and print a row; returns the peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.run", "--measure", way, "--lines", str(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{way:6}{lines:>11,}{found['seconds']:>10.1f}{lines / found['seconds']:>10,.0f}"
        f"{found['cpu_seconds'] / lines * 1e6:>13.0f}{found['peak_mb']:>10.1f}",
        flush=True,
    )
    peak_mb: float = found["peak_mb"]
    return peak_mb


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
