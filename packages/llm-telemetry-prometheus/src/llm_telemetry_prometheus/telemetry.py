"""`PrometheusTelemetry`: finished calls as histograms and counters to be fetched."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)

from llm_core import (
    GenerationFinished,
    GenerationResult,
    GenerationStarted,
    InvalidValue,
    TelemetryEvent,
)
from llm_core.conventions import (
    CALL_METRICS,
    OPERATION_DURATION,
    TOKEN_USAGE,
    Metric,
    measurements,
    operation_of,
    result_attributes,
)
from llm_telemetry_prometheus.names import BoundedValues, prometheus_name

__all__ = ["PrometheusTelemetry"]

_SHARED: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "llm_service.operation",
)
_OWN: Final = {TOKEN_USAGE.name: "gen_ai.token.type", OPERATION_DURATION.name: "error.type"}
"""The one label that a histogram has beside the shared ones."""


class PrometheusTelemetry:
    """Records calls in a registry, which Prometheus fetches by HTTP or the program writes itself.

    The conventions' metrics and attributes have their names in Prometheus form
    (``gen_ai_client_operation_duration_seconds``, ``gen_ai_request_model``); the business operation
    is the label ``llm_service_operation``. A label has at most `max_label_values` values, what comes
    later counts as ``(other)``. Tenants and request ids are no labels: there is no end to them.
    Tokens are counted as far as providers reported them.

    `registry` is one of its own unless given; two of these cannot share a registry.
    """

    def __init__(
        self, *, registry: CollectorRegistry | None = None, max_label_values: int = 100
    ) -> None:
        if max_label_values < 1:
            raise InvalidValue.of(
                "PrometheusTelemetry.max_label_values", max_label_values, "1 or more"
            )
        self._registry = registry or CollectorRegistry()
        self._values = BoundedValues(max_label_values)
        self._server: Any = None
        self._histograms = {metric.name: self._histogram(metric) for metric in CALL_METRICS}
        self._attempts = self._counter("llm_service.attempts", "Requests sent to providers.")
        self._wait = self._counter(
            "llm_service.wait",
            "Waiting at our own gates and pauses between attempts.",
            "llm_service.wait.kind",
            unit="s",
        )
        self._cost = self._counter(
            "llm_service.cost", "Money spent, as known.", "llm_service.cost.currency"
        )
        self._in_flight = Gauge(
            "llm_service_in_flight", "Calls under way.", registry=self._registry
        )

    @property
    def registry(self) -> CollectorRegistry:
        """Where the metrics are."""
        return self._registry

    @property
    def port(self) -> int | None:
        """The port that is served; None while nothing is."""
        return self._server.server_port if self._server else None

    def serve(self, port: int = 9464, host: str = "127.0.0.1") -> None:
        """Answer Prometheus at ``http://host:port/metrics``, on a thread of its own.

        Port 0 takes a free one (see `port`). Raises OSError for a port that is taken, and does
        nothing if it is serving already.
        """
        if self._server is None:
            self._server, _ = start_http_server(port, host, self._registry)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def emit(self, event: TelemetryEvent) -> None:
        """Count a call that begins, and record one that is over."""
        if isinstance(event, GenerationStarted):
            self._in_flight.inc()
        elif isinstance(event, GenerationFinished):
            self._in_flight.dec()
            self._record(event.result)

    def close(self, timeout: float | None = None) -> None:
        """Stop serving; what was recorded stays in the registry."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _record(self, result: GenerationResult[Any]) -> None:
        facts = result_attributes(result)
        shared = self._shared(result, facts)
        for metric, value, own in measurements(result, facts):
            labels = [own.get(_OWN[metric.name], "")] if metric.name in _OWN else []
            self._histograms[metric.name].labels(*shared, *labels).observe(value)
        self._attempts.labels(*shared).inc(len(result.attempts))
        waits, cost = result.backoff, result.cost
        if waits.gate_wait_seconds:
            self._wait.labels(*shared, "queue").inc(waits.gate_wait_seconds)
        if waits.backoff_seconds:
            self._wait.labels(*shared, "backoff").inc(waits.backoff_seconds)
        if cost.amount is not None and cost.amount > 0:
            currency = self._values.of("llm_service.cost.currency", cost.currency)
            self._cost.labels(*shared, currency).inc(float(cost.amount))

    def _shared(self, result: GenerationResult[Any], facts: dict[str, Any]) -> list[str]:
        facts["gen_ai.operation.name"] = operation_of(result.request)
        facts["llm_service.operation"] = result.operation_name or ""
        return [self._values.of(name, str(facts.get(name, ""))) for name in _SHARED]

    def _histogram(self, metric: Metric) -> Histogram:
        own = [_OWN[metric.name]] if metric.name in _OWN else []
        return Histogram(
            prometheus_name(metric.name, metric.unit),
            metric.description,
            _labels(*own),
            registry=self._registry,
            buckets=metric.boundaries,
        )

    def _counter(self, name: str, description: str, *more: str, unit: str = "") -> Counter:
        return Counter(
            prometheus_name(name, unit), description, _labels(*more), registry=self._registry
        )


def _labels(*more: str) -> list[str]:
    return [prometheus_name(name) for name in (*_SHARED, *more)]
