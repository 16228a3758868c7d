"""An LLM provider you can run: simulated wire protocols with limits, latency and faults."""

from __future__ import annotations

from llm_sim.errors import ConfigurationError, PortInUseError, ScriptError, SimError
from llm_sim.exchange import Ask, Call, Usage
from llm_sim.faults import Faults
from llm_sim.latency import Constant, Distribution, Latency, LogNormal
from llm_sim.limits import Limits
from llm_sim.provider import SimProvider
from llm_sim.referee import LimitReport, Report
from llm_sim.script import Draft, Rule, Script
from llm_sim.server import SimServer

__all__ = [
    "Ask",
    "Call",
    "ConfigurationError",
    "Constant",
    "Distribution",
    "Draft",
    "Faults",
    "Latency",
    "LimitReport",
    "Limits",
    "LogNormal",
    "PortInUseError",
    "Report",
    "Rule",
    "Script",
    "ScriptError",
    "SimError",
    "SimProvider",
    "SimServer",
    "Usage",
]
