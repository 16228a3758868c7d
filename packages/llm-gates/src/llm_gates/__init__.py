"""Decides when a call to a language model may go: request, token, concurrency and money limits in one queue."""

from typing import TYPE_CHECKING

from llm_gates import presets
from llm_gates.adaptive import AdaptiveConcurrencyGate
from llm_gates.breaker import BreakerChange, BreakerPolicy, BreakerState, CircuitBreaker
from llm_gates.budget import BudgetGate
from llm_gates.calendar import Period
from llm_gates.estimates import LearnedEstimates
from llm_gates.gates import GateSet
from llm_gates.keyed import KeyedGates
from llm_gates.limits import UNLIMITED, Metric
from llm_gates.permit import GatePermit
from llm_gates.rates import (
    Algorithm,
    ConcurrencyGate,
    ItpmGate,
    OtpmGate,
    RateGate,
    RpdGate,
    RpmGate,
    TpdGate,
    TpmGate,
)
from llm_gates.snapshot import GateSnapshot, LimitSnapshot

if TYPE_CHECKING:
    from llm_gates.redis import RedisGateSet, RedisUnavailable
else:
    # Most programs count in memory, and each of their starts would pay for this import.
    def __getattr__(name: str) -> object:
        """Import the gates in Redis when they are first asked for."""
        if name in ("RedisGateSet", "RedisUnavailable"):
            from llm_gates import redis

            return getattr(redis, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "UNLIMITED",
    "AdaptiveConcurrencyGate",
    "Algorithm",
    "BreakerChange",
    "BreakerPolicy",
    "BreakerState",
    "BudgetGate",
    "CircuitBreaker",
    "ConcurrencyGate",
    "GatePermit",
    "GateSet",
    "GateSnapshot",
    "ItpmGate",
    "KeyedGates",
    "LearnedEstimates",
    "LimitSnapshot",
    "Metric",
    "OtpmGate",
    "Period",
    "RateGate",
    "RedisGateSet",
    "RedisUnavailable",
    "RpdGate",
    "RpmGate",
    "TpdGate",
    "TpmGate",
    "presets",
]
