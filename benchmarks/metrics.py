"""What measuring costs: marks, memory, telemetry backends on the calling thread, prices.

    python -m benchmarks.metrics                # a minute; writes docs/benchmarks/metrics.md
    python -m benchmarks.metrics --dry-run      # the same, without writing

Rounds of ours and of what it is compared with alternate, and the best of each are compared; times are processor time
of the calling thread (of all threads for marks, whose sum is the elapsed time under one lock of the interpreter), because
other programs on the machine only ever add to the rest. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, set_span_in_context

from llm_core import (
    BackoffStats,
    GenerationStarted,
    TelemetryClient,
    TelemetryEvent,
    Usage,
)
from llm_core.conventions import request_attributes
from llm_core.example_call import events_of, example_result
from llm_metrics import (
    JsonLinesTelemetry,
    Labels,
    MetricsRecorder,
    NullTelemetry,
    PriceBook,
    TelemetryFanOut,
    UsageStats,
)
from llm_telemetry_otel import OTelTelemetry
from llm_telemetry_prometheus import PrometheusTelemetry

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "metrics.md"

THREADS = 8
MARK_MICROSECONDS = 2.0
JSON_LINES_MICROSECONDS = 15.0
OTEL_MICROSECONDS = 100.0
OTEL_RATIO = 1.5
MARKS = 10_000_000
GROWTH_MEGABYTES = 1.0

_LABELS = Labels("translate", "gpt-5-mini", "openai", "acme")
_MS = 1_000_000
_REQUEST_ID = "llm_service.request.id"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page."""

    what: str
    measured: str
    target: str
    kept: bool


def one_call() -> list[TelemetryEvent]:
    """Return the events of a streamed call with one attempt that waited for nothing."""
    made = example_result()
    answer = replace(made.attempts[1], number=1)
    events = events_of(replace(made, attempts=(answer,), steps=(), backoff=BackoffStats()))
    started = events[0]
    assert isinstance(started, GenerationStarted)
    return [replace(started, trace=None), *events[1:]]


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


def measure_marks(rounds: int) -> list[Row]:
    """Compare marks with a plain lock and deque."""
    recorder = MetricsRecorder()
    marks: dict[str, Callable[[], object]] = {
        "sent": lambda: recorder.mark_sent(_LABELS),
        "received": lambda: recorder.mark_received(
            _LABELS, input_tokens=900, output_tokens=40, latency_seconds=0.8
        ),
    }
    best = dict.fromkeys([*marks, "plain"], float("inf"))
    for _ in range(rounds):
        for name, mark in {**marks, "plain": plain_mark()}.items():
            best[name] = min(best[name], contended_microseconds(mark, 20_000))
    rows = [
        Row(
            f"`mark_{name}`, {THREADS} threads",
            f"{best[name]:.2f} µs",
            f"≤ {MARK_MICROSECONDS:g} µs",
            best[name] <= MARK_MICROSECONDS,
        )
        for name in marks
    ]
    words = "a lock and a deque of one minute, which grows with the rate"
    return [*rows, Row(words, f"{best['plain']:.2f} µs", "", True)]


def resident_megabytes() -> float:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_memory() -> Row:
    """Return how memory changes over ten million marks, in a fresh process."""
    code = "from benchmarks.metrics import grow; print(grow())"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    growth = float(ran.stdout)
    return Row(
        f"memory over {MARKS:,} marks",
        f"{growth:+.2f} MB",
        f"± {GROWTH_MEGABYTES:g} MB",
        abs(growth) <= GROWTH_MEGABYTES,
    )


def grow() -> float:
    """Mark ten million times; return the growth in megabytes after the first hundred thousand."""
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


class Nowhere(SpanExporter):
    """An exporter that is always done at once."""

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def call_microseconds(backend: TelemetryClient, events: list[TelemetryEvent], calls: int) -> float:
    """Return what a call's events cost on the calling thread."""
    emit = backend.emit
    started = time.thread_time()
    for _ in range(calls):
        for event in events:
            emit(event)
    return (time.thread_time() - started) / calls * 1e6


def batching() -> TracerProvider:
    """Return a provider that exports in batches, to nowhere."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=100_000))
    return provider


def bare_spans(events: list[TelemetryEvent]) -> Callable[[TracerProvider], Callable[[], None]]:
    """Return the same spans as ours by hand: the same attributes, each set when it is first known."""
    exporter, recording = InMemorySpanExporter(), TracerProvider()
    recording.add_span_processor(SimpleSpanProcessor(exporter))
    ours = OTelTelemetry(tracer_provider=recording, meter_provider=NoOpMeterProvider())
    for event in events:
        ours.emit(event)
    inner, outer = (dict(span.attributes or {}) for span in exporter.get_finished_spans())
    started = events[0]
    assert isinstance(started, GenerationStarted)
    asked = {name: outer[name] for name in (*request_attributes(started.request), _REQUEST_ID)}
    answered = {name: value for name, value in outer.items() if name not in asked}

    def by(provider: TracerProvider) -> Callable[[], None]:
        tracer = provider.get_tracer("bare")

        def call() -> None:
            span = tracer.start_span("chat gpt-5-mini", kind=SpanKind.CLIENT, attributes=asked)
            attempt = tracer.start_span("attempt 1", set_span_in_context(span))
            attempt.set_attributes(inner)
            attempt.end()
            span.set_attributes(answered)
            span.end()

        return call

    return by


def measure_backends(rounds: int, calls: int) -> list[Row]:
    """Time every backend, and bare spans beside OpenTelemetry's."""
    events = one_call()
    best: dict[str, float] = {}

    def note(name: str, microseconds: float) -> None:
        best[name] = min(best.get(name, float("inf")), microseconds)

    by_hand = bare_spans(events)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            note("null", call_microseconds(NullTelemetry(), events, calls))
            always = TelemetryFanOut([MetricsRecorder(), UsageStats(), NullTelemetry()])
            note("always", call_microseconds(always, events, calls))
            lines = JsonLinesTelemetry(f"{folder}/{number}.jsonl", capacity=calls * 5)
            note("lines", call_microseconds(lines, events, calls))
            lines.close()
            note("prometheus", call_microseconds(PrometheusTelemetry(), events, calls))
            measure_otel(note, events, by_hand, calls)
    ratio = best["otel spans"] / best["bare spans"]
    return [
        Row("null", f"{best['null']:.2f} µs", "not measurable in a call of 0.1 s and more", True),
        Row("metrics and usage of a service, no backend", f"{best['always']:.1f} µs", "", True),
        Row(
            "JSON lines",
            f"{best['lines']:.1f} µs",
            f"≤ {JSON_LINES_MICROSECONDS:g} µs",
            best["lines"] <= JSON_LINES_MICROSECONDS,
        ),
        Row("Prometheus", f"{best['prometheus']:.1f} µs", "", True),
        Row(
            "OpenTelemetry, spans and metrics, batch exporter",
            f"{best['otel all']:.1f} µs",
            f"≤ {OTEL_MICROSECONDS:g} µs",
            best["otel all"] <= OTEL_MICROSECONDS,
        ),
        Row("OpenTelemetry, spans only", f"{best['otel spans']:.1f} µs", "", True),
        Row(
            "bare SDK spans, the same attributes set at the same moments",
            f"{best['bare spans']:.1f} µs",
            "",
            True,
        ),
        Row("ratio of the last two", f"{ratio:.2f}", f"≤ {OTEL_RATIO:g}", ratio <= OTEL_RATIO),
    ]


def measure_otel(
    note: Callable[[str, float], None],
    events: list[TelemetryEvent],
    by_hand: Callable[[TracerProvider], Callable[[], None]],
    calls: int,
) -> None:
    """Time one round of OpenTelemetry: ours with and without metrics, and the bare SDK."""
    spans, bare = batching(), batching()
    ours = OTelTelemetry(tracer_provider=spans, meter_provider=NoOpMeterProvider())
    note("otel spans", call_microseconds(ours, events, calls))
    call = by_hand(bare)
    started = time.thread_time()
    for _ in range(calls):
        call()
    note("bare spans", (time.thread_time() - started) / calls * 1e6)
    everything, meters = batching(), MeterProvider([InMemoryMetricReader()])
    ours = OTelTelemetry(tracer_provider=everything, meter_provider=meters)
    note("otel all", call_microseconds(ours, events, calls))
    for provider in (spans, bare, everything, meters):
        provider.shutdown()


def measure_prices(rounds: int) -> list[Row]:
    """Time the first and the later prices."""
    book, usage, at = PriceBook(), Usage(input_tokens=900, output_tokens=40), datetime.now(UTC)
    started = time.perf_counter()
    book.price(usage, provider="openai", model="gpt-5-mini", at=at)
    first = time.perf_counter() - started
    best = float("inf")
    for _ in range(rounds):
        started = time.thread_time()
        for number in range(1_000):
            changed = replace(usage, output_tokens=number)
            book.price(changed, provider="openai", model="gpt-5-mini", at=at)
        best = min(best, (time.thread_time() - started) / 1_000)
    return [
        Row("the first price (imports genai-prices)", f"{first * 1e3:.0f} ms", "", True),
        Row("every later one", f"{best * 1e6:.0f} µs", "", True),
    ]


def page(rows: dict[str, list[Row]]) -> str:
    """Return the measured rows as Markdown."""
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"
    parts = [
        "# What measuring costs",
        "",
        f"Written by `hatch run bench metrics` on {datetime.now(UTC).date()}: {machine}.",
        "Times are processor time, the best of several rounds.",
        "A call is one streamed call with one attempt: five events, all on the calling thread.",
    ]
    for title, found in rows.items():
        parts += ["", f"## {title}", "", "| what | measured | target | |", "|---|---|---|---|"]
        for row in found:
            verdict = ("kept" if row.kept else "**missed**") if row.target else ""
            parts.append(f"| {row.what} | {row.measured} | {row.target} | {verdict} |")
    return "\n".join(parts) + "\n"


def main() -> None:
    """Measure everything, print it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--dry-run", action="store_true", help="do not write the page")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows = {
        "A mark": measure_marks(options.rounds),
        "Memory": [measure_memory()],
        "A call's events": measure_backends(options.rounds, 2_000),
        "Prices": measure_prices(options.rounds),
    }
    text = page(rows)
    print(text)
    if not options.dry_run:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
    sys.exit(any(not row.kept for found in rows.values() for row in found))


if __name__ == "__main__":
    main()
