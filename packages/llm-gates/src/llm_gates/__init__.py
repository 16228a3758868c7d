"""Decides when a call to a language model may go: request, token, concurrency and money limits in one queue."""

from llm_gates.gates import ConcurrencyGate, GateSet
from llm_gates.permit import GatePermit

__all__ = ["ConcurrencyGate", "GatePermit", "GateSet"]
