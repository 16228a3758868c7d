"""What a mark costs when threads mark at once, and the memory of many marks."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from benchmarks.harness import Finding, Measured, spread, take_turns
from benchmarks.harness.machine import resident_megabytes

from llm_metrics import Labels, MetricsRecorder

THREADS = 8
MARKS = 10_000_000
"""Over which memory must not grow."""
MARK_MICROSECONDS = 2.0
GROWTH_MEGABYTES = 1.0
BARE_MARK = "a lock and a deque of one minute"
_LABELS = Labels("translate", "gpt-5-mini", "openai", "acme")


def marks(rounds: int) -> list[Measured]:
    """Return what a mark costs, and what a plain lock and deque."""
    recorder = MetricsRecorder()
    works: dict[str, Callable[[], Callable[[], object]]] = {
        "mark_sent": lambda: lambda: recorder.mark_sent(_LABELS),
        "mark_received": lambda: (
            lambda: recorder.mark_received(
                _LABELS, input_tokens=900, output_tokens=40, latency_seconds=0.8
            )
        ),
        BARE_MARK: plain_mark,
    }
    return take_turns(
        {
            name: lambda make=make: contended_microseconds(make(), 20_000)  # type: ignore[misc]
            for name, make in works.items()
        },
        rounds=rounds,
        ours=["mark_sent", "mark_received"],
    )


def mark_findings(measured: list[Measured]) -> list[Finding]:
    return [
        Finding(
            what=f"{one.name}, {THREADS} threads",
            found=spread(one, 2, " µs"),
            target=f"≤ {MARK_MICROSECONDS:g} µs" if one.is_ours else "",
            met=not one.is_ours or one.median <= MARK_MICROSECONDS,
        )
        for one in measured
    ]


def contended_microseconds(mark: Callable[[], object], marks: int) -> float:
    """Return the time per mark when `THREADS` threads mark at once."""
    barrier = threading.Barrier(THREADS + 1)

    def work() -> None:
        barrier.wait()
        for _ in range(marks):
            mark()
        barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    started = time.process_time()
    barrier.wait()
    elapsed = time.process_time() - started
    for thread in threads:
        thread.join()
    return elapsed / (marks * THREADS) * 1e6


def plain_mark() -> Callable[[], None]:
    """Return the usual way: a lock around a deque of the last minute's events, with their tokens."""
    lock, events = threading.Lock(), deque[tuple[int, int, int, float]]()

    def mark() -> None:
        with lock:
            now = time.monotonic_ns()
            events.append((now, 900, 40, 0.8))
            while events[0][0] < now - 60_000_000_000:
                events.popleft()

    return mark


def memory_of_marks() -> Finding:
    """Return how memory changes over many marks, in a fresh process."""
    code = f"from {__name__} import grow; print(grow())"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    growth = float(ran.stdout)
    return Finding(
        what=f"memory over {MARKS:,} marks",
        found=f"{growth:+.2f} MB",
        target=f"± {GROWTH_MEGABYTES:g} MB",
        met=abs(growth) <= GROWTH_MEGABYTES,
    )


def grow() -> float:
    """Mark so many times; return the growth in megabytes after the first hundred thousand."""
    recorder = MetricsRecorder()

    def mark(times: int) -> None:
        for number in range(times):
            seconds = 0.2 + number % 1000 / 500
            recorder.mark_received(_LABELS, input_tokens=900, latency_seconds=seconds)

    mark(100_000)
    recorder.snapshot()
    gc.collect()
    before = resident_megabytes()
    mark(MARKS)
    recorder.snapshot()
    gc.collect()
    return resident_megabytes() - before
