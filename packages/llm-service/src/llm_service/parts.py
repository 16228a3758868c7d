"""What an engine works with: interfaces, chosen by the service that owns the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from llm_core import (
    Clock,
    Gate,
    PriceBook,
    Provider,
    ResponseCache,
    TelemetryClient,
    TelemetryEvent,
)
from llm_service.retry import RetryPolicy

__all__ = ["EngineParts"]

_log = logging.getLogger("llm_service")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """The collaborators of an engine; None for those that are not wanted."""

    resolve: Callable[[str | None], tuple[Provider, str]]
    """Model name, or None for the default → provider and the vendor's own model name."""
    gate: Gate
    retry: RetryPolicy
    clock: Clock
    telemetry: TelemetryClient | None = None
    price_book: PriceBook | None = None
    cache: ResponseCache | None = None

    def tell(self, make_event: Callable[[], TelemetryEvent]) -> None:
        """Give telemetry an event, which is only made if there is somebody to take it."""
        if self.telemetry is None:
            return
        try:
            self.telemetry.emit(make_event())
        except Exception:  # noqa: BLE001 - a broken backend must not break a call
            _log.exception("the telemetry backend %r raised", self.telemetry)
