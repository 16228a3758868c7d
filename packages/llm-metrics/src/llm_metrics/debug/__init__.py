"""Tools for looking closely at a few calls; nothing in the production path uses them."""

from llm_metrics.debug.explanation import explain
from llm_metrics.debug.response_log import ResponseLog
from llm_metrics.debug.timed import timed

__all__ = ["ResponseLog", "explain", "timed"]
