"""An LLM provider you can run: simulated wire protocols with limits, latency and faults."""

from __future__ import annotations

from llm_sim.errors import ConfigurationError, PortInUseError, ScriptError, SimError
from llm_sim.latency import Constant, Distribution, Latency, LogNormal
from llm_sim.script import Draft, Rule, Script
from llm_sim.server import SimServer

__all__ = [
    "ConfigurationError",
    "Constant",
    "Distribution",
    "Draft",
    "Latency",
    "LogNormal",
    "PortInUseError",
    "Rule",
    "Script",
    "ScriptError",
    "SimError",
    "SimServer",
]
