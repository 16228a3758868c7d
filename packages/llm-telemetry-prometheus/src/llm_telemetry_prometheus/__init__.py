"""Prometheus metrics of LLM calls, by the GenAI conventions.

A telemetry backend that is used by installing it.
"""

from llm_telemetry_prometheus.environment import from_environment
from llm_telemetry_prometheus.names import prometheus_name
from llm_telemetry_prometheus.telemetry import PrometheusTelemetry

__all__ = ["PrometheusTelemetry", "from_environment", "prometheus_name"]
