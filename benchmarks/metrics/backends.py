"""What the events of one call cost with each telemetry backend, on the thread that makes the call."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from benchmarks.harness import Finding, Measured, spread, take_turns
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

from llm_core import BackoffStats, GenerationStarted, TelemetryClient, TelemetryEvent
from llm_core.conventions import request_attributes
from llm_core.example_call import events_of, example_result
from llm_metrics import (
    JsonLinesTelemetry,
    MetricsRecorder,
    NullTelemetry,
    TelemetryFanOut,
    UsageStats,
)
from llm_telemetry_otel import OTelTelemetry
from llm_telemetry_prometheus import PrometheusTelemetry

JSON_LINES = "JSON lines"
OTEL = "OpenTelemetry, spans and metrics"
SPANS = "OpenTelemetry, spans only"
BARE_SPANS = "the same spans by hand with the SDK"
MICROSECONDS = {JSON_LINES: 15.0, OTEL: 100.0}
"""What a call's events may cost."""
OTEL_RATIO = 1.5
"""What spans may cost in multiples of the same by hand."""
_REQUEST_ID = "llm_service.request.id"


def backends(rounds: int, calls: int) -> list[Measured]:
    """Return what each backend costs, and bare spans beside OpenTelemetry's."""
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


def backend_findings(measured: list[Measured]) -> list[Finding]:
    by_name = {one.name: one for one in measured}
    ratio = by_name[SPANS].over(by_name[BARE_SPANS])
    found = [
        Finding(
            what=one.name,
            found=spread(one, 1, " µs"),
            target=f"≤ {MICROSECONDS[one.name]:g} µs" if one.name in MICROSECONDS else "",
            met=one.median <= MICROSECONDS.get(one.name, one.median),
        )
        for one in measured
    ]
    kept = ratio.median <= OTEL_RATIO
    last = Finding(
        what="ratio of the last two", found=spread(ratio, 2), target=f"≤ {OTEL_RATIO:g}", met=kept
    )
    return [*found, last]


def one_call() -> list[TelemetryEvent]:
    """Return the events of a streamed call with one attempt that waited for nothing."""
    made = example_result()
    answer = replace(made.attempts[1], number=1)
    events = events_of(replace(made, attempts=(answer,), steps=(), backoff=BackoffStats()))
    started = events[0]
    assert isinstance(started, GenerationStarted)
    return [replace(started, trace=None), *events[1:]]


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
