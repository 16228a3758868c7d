"""Tells what LLM calls did, where their time went and what they cost.

To telemetry backends that are swapped by installing.
"""

from typing import TYPE_CHECKING

from llm_metrics.delivery import NullTelemetry, QueuedTelemetry, TelemetryFanOut
from llm_metrics.recorder import MetricsRecorder
from llm_metrics.selection import (
    ENTRY_POINT_GROUP,
    choose_telemetry,
    installed_telemetry,
    telemetry_names,
)
from llm_metrics.snapshot import OTHER, Labels, Quantiles, StatsSnapshot, TrafficStats
from llm_metrics.tracing import TraceIdFilter, active_trace, current_trace, use_trace
from llm_metrics.usage_stats import UsageRow, UsageStats

if TYPE_CHECKING:
    from llm_metrics.json_lines import JsonLinesTelemetry, json_lines_schema
    from llm_metrics.price_book import PriceBook
    from llm_metrics.price_catalogue import Quantities
    from llm_metrics.price_file import default_prices_path
    from llm_metrics.price_overrides import Override, PriceOverrides
    from llm_metrics.price_updates import (
        PRICES_URL,
        PriceUpdate,
        PriceUpdater,
        UpdateOutcome,
        update_prices,
    )
    from llm_metrics.redaction import redact, redact_text
else:
    # Prices and files are for some programs, and each start of all others would pay for their import.
    _LATER = {
        "JsonLinesTelemetry": "json_lines",
        "Override": "price_overrides",
        "PRICES_URL": "price_updates",
        "PriceBook": "price_book",
        "PriceOverrides": "price_overrides",
        "PriceUpdate": "price_updates",
        "PriceUpdater": "price_updates",
        "Quantities": "price_catalogue",
        "UpdateOutcome": "price_updates",
        "default_prices_path": "price_file",
        "json_lines_schema": "json_lines",
        "redact": "redaction",
        "redact_text": "redaction",
        "update_prices": "price_updates",
    }

    def __getattr__(name: str) -> object:
        """Import what stands in `_LATER` when it is first asked for."""
        if name in _LATER:
            from importlib import import_module

            return getattr(import_module(f"llm_metrics.{_LATER[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ENTRY_POINT_GROUP",
    "OTHER",
    "PRICES_URL",
    "JsonLinesTelemetry",
    "Labels",
    "MetricsRecorder",
    "NullTelemetry",
    "Override",
    "PriceBook",
    "PriceOverrides",
    "PriceUpdate",
    "PriceUpdater",
    "Quantiles",
    "Quantities",
    "QueuedTelemetry",
    "StatsSnapshot",
    "TelemetryFanOut",
    "TraceIdFilter",
    "TrafficStats",
    "UpdateOutcome",
    "UsageRow",
    "UsageStats",
    "active_trace",
    "choose_telemetry",
    "current_trace",
    "default_prices_path",
    "installed_telemetry",
    "json_lines_schema",
    "redact",
    "redact_text",
    "telemetry_names",
    "update_prices",
    "use_trace",
]
