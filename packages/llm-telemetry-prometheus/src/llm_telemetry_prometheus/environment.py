"""`from_environment`: the backend as OpenTelemetry's variables for Prometheus describe it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from llm_core import ConfigurationError
from llm_telemetry_prometheus.telemetry import PrometheusTelemetry

__all__ = ["from_environment"]


def from_environment(environ: Mapping[str, str] | None = None) -> PrometheusTelemetry:
    """Build the backend and serve it; this is what the entry point names.

    At ``OTEL_EXPORTER_PROMETHEUS_HOST`` (default 127.0.0.1) and ``OTEL_EXPORTER_PROMETHEUS_PORT``
    (default 9464; 0 takes a free one), where backends of one process share a server and are summed.
    Raises ConfigurationError for a port that is no number, or that cannot be had, as when another
    program serves there.
    """
    environ = os.environ if environ is None else environ
    given = environ.get("OTEL_EXPORTER_PROMETHEUS_PORT") or "9464"
    if not given.isdecimal() or int(given) > 65_535:
        raise ConfigurationError(
            f"OTEL_EXPORTER_PROMETHEUS_PORT: got {given!r}, expected a port from 0 to 65535"
        )
    host = environ.get("OTEL_EXPORTER_PROMETHEUS_HOST") or "127.0.0.1"
    try:
        return PrometheusTelemetry.shared(int(given), host)
    except OSError as error:
        raise ConfigurationError(
            f"OTEL_EXPORTER_PROMETHEUS_PORT: {given} of {host} cannot be served: {error}; give each program a port "
            "of its own (0: any free one)"
        ) from error
