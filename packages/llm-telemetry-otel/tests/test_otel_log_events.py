"""The events of the conventions (v1.41.1) that are log records."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llm_core import ErrorInfo, OutputError, TelemetryEvent
from llm_core.example_call import events_of, example_result
from llm_telemetry_otel import OTelTelemetry, environment, from_environment


class Logged:
    """What a backend writes to a logger, and its spans."""

    def __init__(self, events: list[TelemetryEvent], *, details: bool = False) -> None:
        spans = InMemorySpanExporter()
        logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        tracers, loggers = TracerProvider(), LoggerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(spans))
        loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
        telemetry = OTelTelemetry(
            tracer_provider=tracers,
            meter_provider=MeterProvider(),
            logger_provider=loggers,
            details=details,
        )
        for event in events:
            telemetry.emit(event)
        telemetry.close()
        self.call = spans.get_finished_spans()[-1]
        self.records = [data.log_record for data in logs.get_finished_logs()]
        loggers.shutdown()


def test_a_failure_is_a_log_record_of_the_calls_span() -> None:
    error = ErrorInfo.from_exception(OutputError("no city in 'the raw answer'"))
    logged = Logged(events_of(example_result(success=False, error=error)))
    [record] = logged.records
    assert record.event_name == "gen_ai.client.operation.exception"
    assert record.severity_number is SeverityNumber.WARN
    assert dict(record.attributes or {}) == {"exception.type": "OutputError"}
    assert logged.call.context is not None
    assert record.span_id == logged.call.context.span_id
    assert record.event_name not in {event.name for event in logged.call.events}


def test_nothing_is_written_of_a_call_that_went_well(events: list[TelemetryEvent]) -> None:
    assert Logged(events).records == []


def test_details_are_the_spans_attributes_and_what_was_said(events: list[TelemetryEvent]) -> None:
    logged = Logged(events, details=True)
    [record] = logged.records
    assert record.event_name == "gen_ai.client.inference.operation.details"
    written: dict[str, Any] = dict(record.attributes or {})
    of_span: dict[str, Any] = dict(logged.call.attributes or {})
    del of_span["llm_service.request.id"]
    assert of_span.items() <= written.items()
    [message] = written["gen_ai.output.messages"]
    assert message["role"] == "assistant"
    assert written["gen_ai.input.messages"]


@pytest.mark.parametrize(
    ("said", "on_spans", "on_events"),
    [("", 0, 0), ("true", 1, 0), ("event_only", 0, 1), ("SPAN_AND_EVENT", 1, 1)],
)
def test_the_environment_says_where_contents_go(
    said: str, on_spans: int, on_events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(environment, "OTelTelemetry", lambda **options: asked.append(options))
    from_environment(
        {
            "OTEL_SDK_DISABLED": "true",
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": said,
        }
    )
    assert (asked[0]["capture_content"], asked[0]["details"]) == (on_spans, on_events)
    assert asked[0]["logger_provider"] is None
