"""OpenTelemetry traces and metrics of LLM calls, by the GenAI conventions.

A telemetry backend that is used by installing it.
"""

from llm_telemetry_otel.environment import from_environment
from llm_telemetry_otel.telemetry import OTelTelemetry

__all__ = ["OTelTelemetry", "from_environment"]
