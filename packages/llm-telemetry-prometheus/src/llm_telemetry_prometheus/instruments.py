"""`Instruments`: the conventions' client metrics in a registry of Prometheus."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llm_core import GenerationResult
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

__all__ = ["Instruments"]

_SHARED: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "llm_service.operation",
)
_OWN: Final = {TOKEN_USAGE.name: "gen_ai.token.type", OPERATION_DURATION.name: "error.type"}
"""The one label that a histogram has beside the shared ones."""


class Instruments:
    """The metrics of calls; a label has at most `max_label_values` values, what comes later counts as ``(other)``."""

    def __init__(self, registry: CollectorRegistry, max_label_values: int) -> None:
        self._max_label_values = max_label_values
        self._make(registry)

    def begin_anew(self) -> None:
        """Count from zero in a registry of its own, in a child: the parent's is served by the parent, and may be locked."""
        self._make(CollectorRegistry())

    def _make(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._values = BoundedValues(self._max_label_values)
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
        self.in_flight = Gauge("llm_service_in_flight", "Calls under way.", registry=registry)

    def record(self, result: GenerationResult[Any]) -> None:
        """Record one finished call."""
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
            registry=self.registry,
            buckets=metric.boundaries,
        )

    def _counter(self, name: str, description: str, *more: str, unit: str = "") -> Counter:
        return Counter(
            prometheus_name(name, unit), description, _labels(*more), registry=self.registry
        )


def _labels(*more: str) -> list[str]:
    return [prometheus_name(name) for name in (*_SHARED, *more)]
