"""What measuring costs: marks, memory, telemetry backends on the calling thread, prices.

    hatch run bench metrics                # a minute
    hatch run bench metrics --dry-run      # the same, without writing

What is compared takes turns; times are processor time of the calling thread (of all threads for marks, whose sum is
the elapsed time under one lock of the interpreter). Exit code 1 if a target is missed.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from typing import Any

from benchmarks.harness import Headline, Measured, Page, Table, publish, read_options, take_turns
from benchmarks.harness.machine import resident_megabytes
from benchmarks.harness.plots import Panel, bars
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

THREADS = 8
MARK_MICROSECONDS = 2.0
JSON_LINES_MICROSECONDS = 15.0
OTEL_MICROSECONDS = 100.0
OTEL_RATIO = 1.5
MARKS = 10_000_000
GROWTH_MEGABYTES = 1.0

_LABELS = Labels("translate", "gpt-5-mini", "openai", "acme")
_REQUEST_ID = "llm_service.request.id"
BARE_MARK = "a lock and a deque of one minute"
JSON_LINES = "JSON lines"
OTEL = "OpenTelemetry, spans and metrics"
SPANS = "OpenTelemetry, spans only"
BARE_SPANS = "the same spans by hand with the SDK"
METHOD = f"""\
All take turns; figures are the median of the rounds, in brackets their middle half. Times are processor time of the calling
thread, for marks that of {THREADS} threads that mark at once, whose sum is the elapsed time under one lock of the interpreter.
A call is one streamed call with one attempt: five events, all on the calling thread; spans are exported in batches, to
nowhere. The spans by hand have the same attributes, set at the same moments.
Memory is the resident memory of a fresh process over {MARKS:,} marks."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    what: str
    measured: str
    target: str = ""
    kept: bool = True


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


def marks(rounds: int) -> list[Measured]:
    """Compare marks with a plain lock and deque."""
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


def mark_rows(measured: list[Measured]) -> list[Row]:
    return [
        Row(
            f"{one.name}, {THREADS} threads",
            spread(one, 2),
            f"≤ {MARK_MICROSECONDS:g} µs" if one.is_ours else "",
            not one.is_ours or one.median <= MARK_MICROSECONDS,
        )
        for one in measured
    ]


def spread(measured: Measured, digits: int, unit: str = " µs") -> str:
    """Return a median with the middle half of the rounds in brackets."""
    low, high = measured.quartiles
    return f"{measured.median:.{digits}f}{unit} ({low:.{digits}f} – {high:.{digits}f})"


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


def bare_call_microseconds(
    by_hand: Callable[[TracerProvider], Callable[[], None]], calls: int
) -> float:
    """Return what the same spans cost when they are made with the SDK by hand."""
    provider = batching()
    call = by_hand(provider)
    started = time.thread_time()
    for _ in range(calls):
        call()
    taken = (time.thread_time() - started) / calls * 1e6
    provider.shutdown()
    return taken


def otel_microseconds(events: list[TelemetryEvent], calls: int, *, metrics: bool) -> float:
    """Return what a call's events cost with OpenTelemetry, with or without its metrics."""
    spans = batching()
    meters = MeterProvider([InMemoryMetricReader()]) if metrics else None
    ours = OTelTelemetry(tracer_provider=spans, meter_provider=meters or NoOpMeterProvider())
    taken = call_microseconds(ours, events, calls)
    spans.shutdown()
    if meters is not None:
        meters.shutdown()
    return taken


def backends(rounds: int, calls: int) -> list[Measured]:
    """Time every backend, and bare spans beside OpenTelemetry's."""
    events = one_call()
    by_hand = bare_spans(events)
    number = count()

    def json_lines() -> float:
        lines = JsonLinesTelemetry(f"{folder}/{next(number)}.jsonl", capacity=calls * 5)
        taken = call_microseconds(lines, events, calls)
        lines.close()
        return taken

    def always() -> float:
        both = TelemetryFanOut([MetricsRecorder(), UsageStats(), NullTelemetry()])
        return call_microseconds(both, events, calls)

    works = {
        "null": lambda: call_microseconds(NullTelemetry(), events, calls),
        "metrics and usage of a service": always,
        JSON_LINES: json_lines,
        "Prometheus": lambda: call_microseconds(PrometheusTelemetry(), events, calls),
        OTEL: lambda: otel_microseconds(events, calls, metrics=True),
        SPANS: lambda: otel_microseconds(events, calls, metrics=False),
        BARE_SPANS: lambda: bare_call_microseconds(by_hand, calls),
    }
    with tempfile.TemporaryDirectory() as folder:
        return take_turns(works, rounds=rounds, ours=[name for name in works if name != BARE_SPANS])


def backend_rows(measured: list[Measured]) -> list[Row]:
    by_name = {one.name: one for one in measured}
    ratio = by_name[SPANS].over(by_name[BARE_SPANS])
    limits = {JSON_LINES: JSON_LINES_MICROSECONDS, OTEL: OTEL_MICROSECONDS}
    rows = [
        Row(
            one.name,
            spread(one, 1),
            f"≤ {limits[one.name]:g} µs" if one.name in limits else "",
            one.name not in limits or one.median <= limits[one.name],
        )
        for one in measured
    ]
    kept = ratio.median <= OTEL_RATIO
    return [*rows, Row("ratio of the last two", spread(ratio, 2, ""), f"≤ {OTEL_RATIO:g}", kept)]


def price_rows(rounds: int) -> list[Row]:
    """Time the first and the later prices."""
    book, usage, at = PriceBook(), Usage(input_tokens=900, output_tokens=40), datetime.now(UTC)
    started = time.perf_counter()
    book.price(usage, provider="openai", model="gpt-5-mini", at=at)
    first = time.perf_counter() - started

    def later() -> float:
        started = time.thread_time()
        for number in range(1_000):
            changed = replace(usage, output_tokens=number)
            book.price(changed, provider="openai", model="gpt-5-mini", at=at)
        return (time.thread_time() - started) * 1e3

    (measured,) = take_turns({"price": later}, rounds=rounds)
    return [
        Row("the first price (imports genai-prices)", f"{first * 1e3:.0f} ms"),
        Row("every later one", spread(measured, 0)),
    ]


def table(title: str, rows: list[Row]) -> Table:
    cells = [
        (
            row.what,
            row.measured,
            row.target,
            ("yes" if row.kept else "**no**") if row.target else "",
        )
        for row in rows
    ]
    return Table(title, ("", "measured", "target", "met"), cells)


def main() -> int:
    """Measure everything, print it, and write the page."""
    options = read_options(__doc__, rounds=9, has_peers=False)
    marked = marks(options.rounds)
    memory = measure_memory()
    called = backends(options.rounds, 2_000)
    rows = {
        "A mark": mark_rows(marked),
        "Memory": [memory],
        "A call's events": backend_rows(called),
        "Prices": price_rows(options.rounds),
    }
    if not options.dry_run:
        bars("metrics", [Panel("The events of one call, CPU µs on its thread", called, 1)])
    by_name = {one.name: one for one in called}
    page = Page(
        name="metrics",
        title="What measuring costs",
        summary=[
            Headline(
                what="a call's spans with OpenTelemetry, on the calling thread",
                ours=f"{by_name[SPANS].median:.0f} µs",
                others=f"by hand with the SDK {by_name[BARE_SPANS].median:.0f} µs",
            )
        ],
        tables=[table(title, found) for title, found in rows.items()],
        better=[
            f"The same spans made by hand with the SDK take {by_name[BARE_SPANS].over(by_name[SPANS]).median:.2f} "
            "of ours.",
            f"A plain deque takes {marked[2].over(marked[1]).median:.2f} of `mark_received`, "
            "but grows with the rate and knows no percentiles.",
        ],
        method=METHOD,
        versions=f"opentelemetry-sdk {version('opentelemetry-sdk')}, prometheus-client {version('prometheus-client')}, "
        f"genai-prices {version('genai-prices')}",
        picture_says="What the events of one call cost with each telemetry backend",
        missed=[
            f"{row.what}: {row.measured}, target {row.target}"
            for found in rows.values()
            for row in found
            if not row.kept
        ],
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
