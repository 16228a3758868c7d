"""Over the wire to a collector, from the environment, and without the SDK."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from llm_core import ConfigurationError, TelemetryEvent
from llm_telemetry_otel import from_environment


class Collector:
    """An OTLP/HTTP receiver that keeps what it is sent."""

    def __init__(self) -> None:
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    collector.traces.append(ExportTraceServiceRequest.FromString(body))
                else:
                    assert self.path == "/v1/metrics"
                    collector.metrics.append(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def value_of(attribute: Any) -> Any:
    kind = attribute.value.WhichOneof("value")
    return getattr(attribute.value, kind)


def test_spans_and_metrics_arrive_at_a_collector(
    collector: Collector, events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "translator")
    telemetry = from_environment()
    for event in events:
        telemetry.emit(event)
    telemetry.close(20)
    [request] = collector.traces
    [resource] = request.resource_spans
    assert {a.key: value_of(a) for a in resource.resource.attributes}["service.name"] == (
        "translator"
    )
    [scope] = resource.scope_spans
    assert scope.scope.name == "llm_telemetry_otel"
    spans = {span.name: span for span in scope.spans}
    assert set(spans) == {"attempt 1", "attempt 2", "chat gpt-5-mini"}
    call = spans["chat gpt-5-mini"]
    assert call.kind == call.SPAN_KIND_CLIENT
    with_usage = [s for s in scope.spans if any("usage" in a.key for a in s.attributes)]
    assert with_usage == [call]
    names = {
        metric.name
        for export in collector.metrics
        for found in export.resource_metrics
        for inner in found.scope_metrics
        for metric in inner.metrics
    }
    assert {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"} <= names


def test_a_collector_that_is_not_there_harms_nobody(
    events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    telemetry = from_environment()
    for event in events:
        telemetry.emit(event)
    telemetry.close(0.1)
    for thread in threading.enumerate():
        if thread.name == "llm-telemetry-otel-close":
            thread.join(20)


def test_the_providers_of_the_application_are_used_and_left_alone(
    events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, theirs = InMemorySpanExporter(), TracerProvider()
    theirs.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: theirs)
    monkeypatch.setattr(metrics, "get_meter_provider", MeterProvider)
    telemetry = from_environment({})
    for event in events:
        telemetry.emit(event)
    telemetry.close(10)
    assert len(exporter.get_finished_spans()) == 3
    theirs.get_tracer("app").start_span("after").end()
    assert len(exporter.get_finished_spans()) == 4


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_SDK_DISABLED": "True"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_exporting_can_be_turned_off(environ: dict[str, str], events: list[TelemetryEvent]) -> None:
    telemetry = from_environment(environ)
    for event in events:
        telemetry.emit(event)
    assert telemetry.trace_context("call-1") is None
    telemetry.close()


@pytest.mark.parametrize("variable", ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"])
def test_an_exporter_that_is_not_here_is_an_error(variable: str) -> None:
    environ = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
    with pytest.raises(ConfigurationError, match=f"{variable}: got 'zipkin'"):
        from_environment(environ | {variable: "zipkin"})


@pytest.mark.parametrize(("value", "captured"), [("true", True), ("false", False), ("", False)])
def test_contents_are_captured_only_by_opting_in(value: str, captured: bool) -> None:
    environ = {
        "OTEL_SDK_DISABLED": "true",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": value,
    }
    assert from_environment(environ)._capture_content is captured


def test_it_is_found_by_its_entry_point() -> None:
    [point] = [p for p in entry_points(group="llm_metrics.telemetry") if p.name == "otel"]
    assert point.load() is from_environment


def test_with_only_the_api_installed_nothing_is_recorded_and_nothing_breaks() -> None:
    code = """
    import sys

    class NoSdk:
        def find_spec(self, name, path=None, target=None):
            if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, NoSdk())
    from llm_core import AttemptStarted, GenerationRequest, GenerationStarted
    from llm_telemetry_otel import from_environment

    telemetry = from_environment()
    request = GenerationRequest(user="hi")
    telemetry.emit(GenerationStarted(request_id="r", at_ns=0, request=request))
    telemetry.emit(AttemptStarted(request_id="r", at_ns=0, number=1, provider="p", model="m"))
    with telemetry.activate("r", attempt=1):
        assert telemetry.trace_context("r") is None
    telemetry.close()
    assert not any(name.startswith("opentelemetry.sdk") for name in sys.modules)
    print("fine")
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.stdout == "fine\n", ran.stderr
