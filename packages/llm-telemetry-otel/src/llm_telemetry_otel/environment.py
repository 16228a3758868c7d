"""`from_environment`: the backend as OpenTelemetry's own variables describe it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import (  # noqa: PLC2701 - OpenTelemetry's log API has no other name yet
    LoggerProvider,
    get_logger_provider,
)

from llm_core import ConfigurationError
from llm_telemetry_otel.telemetry import OTelTelemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["from_environment"]

_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON_SPANS: Final = frozenset({"1", "true", "span_only", "span_and_event"})
_ON_EVENTS: Final = frozenset({"event_only", "span_and_event"})


def from_environment(environ: Mapping[str, str] | None = None) -> OTelTelemetry:
    """Build the backend; this is what the entry point names.

    Where the application has set OpenTelemetry's global providers, these are used, and they stay the
    application's to shut down. Otherwise the backend makes its own, which export by OTLP over HTTP
    as ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER`` and their kin
    say; ``OTEL_TRACES_EXPORTER=none``, ``OTEL_METRICS_EXPORTER=none`` and ``OTEL_SDK_DISABLED=true``
    are honoured. Without `opentelemetry-sdk` nothing is recorded.
    Contents are written with ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``: ``true`` or
    ``span_only`` to spans, ``event_only`` to log records, ``span_and_event`` to both. Log records
    go to the application's global logger provider; without one there are none.

    Raises ConfigurationError for an exporter that it does not have.
    """
    environ = os.environ if environ is None else environ
    closers: list[Callable[[], object]] = []
    tracer_provider: trace.TracerProvider | None = None
    meter_provider: metrics.MeterProvider | None = None
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
        tracer_provider = _tracer_provider(environ, closers)
        meter_provider = _meter_provider(environ, closers)
    logger_provider: LoggerProvider | None = get_logger_provider()
    if not hasattr(logger_provider, "force_flush"):  # the API's placeholder, as of meters below
        logger_provider = None
    capture = environ.get(_CAPTURE, "").strip().lower()
    return OTelTelemetry(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        capture_content=capture in _ON_SPANS,
        details=capture in _ON_EVENTS,
        on_close=lambda: [close() for close in closers],
    )


def _tracer_provider(
    environ: Mapping[str, str], closers: list[Callable[[], object]]
) -> trace.TracerProvider | None:
    """Return a provider of ours, or None to use the global one."""
    current = trace.get_tracer_provider()
    if not isinstance(current, trace.ProxyTracerProvider):
        _flush_later(current, closers)
        return None
    if not _exports(environ, "OTEL_TRACES_EXPORTER"):
        return None
    try:
        provider = _new_tracer_provider()
    except ImportError:  # only the API is installed
        return None
    closers.append(provider.shutdown)
    return provider


def _meter_provider(
    environ: Mapping[str, str], closers: list[Callable[[], object]]
) -> metrics.MeterProvider | None:
    current = metrics.get_meter_provider()
    # The API keeps the class of its placeholder to itself; what the SDK or a vendor sets can flush.
    if hasattr(current, "force_flush"):
        _flush_later(current, closers)
        return None
    if not _exports(environ, "OTEL_METRICS_EXPORTER"):
        return None
    try:
        provider = _new_meter_provider()
    except ImportError:
        return None
    closers.append(provider.shutdown)
    return provider


def _new_tracer_provider() -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from llm_telemetry_otel.inner_spans import OneSpanPerCall

    provider = TracerProvider()
    provider.sampler = OneSpanPerCall(provider.sampler)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _new_meter_provider() -> MeterProvider:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])


def _flush_later(provider: Any, closers: list[Callable[[], object]]) -> None:
    flush = getattr(provider, "force_flush", None)
    if callable(flush):
        closers.append(flush)


def _exports(environ: Mapping[str, str], variable: str) -> bool:
    chosen = environ.get(variable, "").strip() or "otlp"
    if chosen not in ("otlp", "none"):
        raise ConfigurationError(
            f"{variable}: got {chosen!r}, expected 'otlp' or 'none'; "
            "for another exporter set OpenTelemetry's global provider before the service is made"
        )
    return chosen == "otlp"
