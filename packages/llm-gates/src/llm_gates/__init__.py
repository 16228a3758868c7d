"""Decides when a call to a language model may go: request, token, concurrency and money limits in one queue."""

from llm_gates.estimates import LearnedEstimates
from llm_gates.gates import GateSet
from llm_gates.limits import Metric
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

__all__ = [
    "Algorithm",
    "ConcurrencyGate",
    "GatePermit",
    "GateSet",
    "GateSnapshot",
    "ItpmGate",
    "LearnedEstimates",
    "LimitSnapshot",
    "Metric",
    "OtpmGate",
    "RateGate",
    "RpdGate",
    "RpmGate",
    "TpdGate",
    "TpmGate",
]
