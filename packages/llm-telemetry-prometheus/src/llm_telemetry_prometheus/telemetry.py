"""`PrometheusTelemetry`: finished calls as histograms and counters to be fetched."""

from __future__ import annotations

from typing import Self

from prometheus_client import CollectorRegistry, generate_latest

from llm_core import GenerationFinished, GenerationStarted, InvalidValue, TelemetryEvent
from llm_telemetry_prometheus.endpoint import OF_THIS_PROCESS, Endpoint, Endpoints
from llm_telemetry_prometheus.instruments import Instruments

__all__ = ["PrometheusTelemetry"]

_MAX_LABEL_VALUES = 100


class PrometheusTelemetry:
    """Records calls in a registry, which Prometheus fetches by HTTP or the program writes itself.

    The conventions' metrics and attributes have their names in Prometheus form
    (``gen_ai_client_operation_duration_seconds``, ``gen_ai_request_model``); the business operation
    is the label ``llm_service_operation``. A label has at most `max_label_values` values, what comes
    later counts as ``(other)``. Tenants and request ids are no labels: there is no end to them.
    Tokens are counted as far as providers reported them.

    `registry` is one of its own unless given; two of these cannot share a registry, but see `shared`.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry | None = None,
        max_label_values: int = _MAX_LABEL_VALUES,
    ) -> None:
        if max_label_values < 1:
            raise InvalidValue.of(
                "PrometheusTelemetry.max_label_values", max_label_values, "1 or more"
            )
        self._instruments = Instruments(registry or CollectorRegistry(), max_label_values)
        self._endpoint: Endpoint | None = None
        self._shared_in: Endpoints | None = None

    @classmethod
    def shared(cls, port: int = 9464, host: str = "127.0.0.1") -> Self:
        """Return one that serves at ``http://host:port/metrics``, with all of this process that are shared there.

        Prometheus fetches the sum of them, until the last one is closed. Port 0 takes a free one (see `port`), which
        others can share by its number. Raises OSError for a port that something else has.
        """
        telemetry = cls()
        telemetry._shared_in = OF_THIS_PROCESS
        endpoint = telemetry._shared_in.join(host, port, max_label_values=_MAX_LABEL_VALUES)
        telemetry._endpoint, telemetry._instruments = endpoint, endpoint.instruments
        return telemetry

    @property
    def registry(self) -> CollectorRegistry:
        """Where the metrics are."""
        return self._instruments.registry

    @property
    def port(self) -> int | None:
        """The port that is served; None while nothing is, as in a forked child, which serves nothing by itself."""
        return self._endpoint.port if self._endpoint else None

    def serve(self, port: int = 9464, host: str = "127.0.0.1") -> None:
        """Answer Prometheus at ``http://host:port/metrics``, on a thread of its own.

        Port 0 takes a free one (see `port`). Raises OSError for a port that is taken, and does
        nothing if it is serving already.
        """
        if self.port is None:
            self.close()
            self._endpoint = Endpoint(self._instruments, port, host)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def emit(self, event: TelemetryEvent) -> None:
        """Count a call that begins, and record one that is over."""
        if isinstance(event, GenerationStarted):
            self._instruments.in_flight.inc()
        elif isinstance(event, GenerationFinished):
            self._instruments.in_flight.dec()
            self._instruments.record(event.result)

    def close(self, timeout: float | None = None) -> None:
        """Stop serving, unless others share it; what was recorded stays in the registry."""
        endpoint, self._endpoint = self._endpoint, None
        shared_in, self._shared_in = self._shared_in, None
        if endpoint is not None:
            if shared_in is not None:
                shared_in.leave(endpoint)
            else:
                endpoint.close()
