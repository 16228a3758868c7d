"""What an engine works with: interfaces, chosen by the service that owns the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llm_core import (
    Clock,
    Gate,
    PriceBook,
    Provider,
    ResponseCache,
)
from llm_metrics import MetricsRecorder, TelemetryFanOut, UsageStats
from llm_service.hedging import Hedger
from llm_service.in_flight import InFlight
from llm_service.ladder import Fallback
from llm_service.retry import RetryPolicy
from llm_service.retry_budget import RetryBudget

__all__ = ["EngineParts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """The collaborators of an engine; None for those that are not wanted."""

    resolve: Callable[[str | None], tuple[Provider, str]]
    """Model name, or None for the default → provider and the vendor's own model name."""
    gate_of: Callable[[str, str, str | None], Gate]
    """Provider's name, model and operation → the gate that such calls pass."""
    retry: RetryPolicy
    clock: Clock
    telemetry: TelemetryFanOut
    """The backends that were chosen; contains what any of them raises."""
    usage: UsageStats
    """Told of every result; it adds up numbers, and raises nothing."""
    in_flight: InFlight
    """Knows every call from its beginning to its end."""
    metrics: MetricsRecorder
    """Told of every attempt, and asked for the rates that results tell."""
    fallbacks: tuple[Fallback, ...] = ()
    hedger: Hedger | None = None
    price_book: PriceBook | None = None
    cache: ResponseCache | None = None
    restart_streams: bool = False
    """Whether a stream that fails after its first token begins anew, instead of failing with what had arrived."""
    counts_money: bool = False
    """Whether a gate may limit money, so that reservations are worth being priced."""
    budgets: dict[str, RetryBudget] = field(default_factory=dict)
    """The retry budget of each provider, made when it is first needed."""

    def budget_of(self, provider: str) -> RetryBudget:
        """Return the provider's retry budget."""
        budget = self.budgets.get(provider)
        if budget is None:
            budget = self.budgets.setdefault(provider, self.retry.new_budget())
        return budget
