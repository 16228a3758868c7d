"""What every benchmark shares: contenders that take turns, their environments, one server, tables, pages and plots.

rounds.py         contenders in turns; medians, quartiles, ratios
environments.py   a peer's own virtual environment, made by uv and kept
contenders.py     a contender in a process of its own
callers.py        the contenders that call a model, and their server
canned_server.py  that server
options.py        the options that every benchmark has
machine.py        what a page says about where and when
pages.py          tables in the terminal, pages in docs/benchmarks/, their index
findings.py       figures beside their targets
plots.py          pictures beside the pages
"""

from __future__ import annotations

from benchmarks.harness.callers import OURS, SDK, caller_versions, callers, canned_server
from benchmarks.harness.contenders import Contender, ContenderError, started
from benchmarks.harness.environments import Environment
from benchmarks.harness.findings import Finding, findings_table, missed_targets, spread
from benchmarks.harness.options import Options, read_options
from benchmarks.harness.pages import (
    Headline,
    Page,
    Table,
    against,
    compared,
    publish,
    where_peers_are_better,
)
from benchmarks.harness.rounds import Measured, ratios, take_turns

__all__ = [
    "OURS",
    "SDK",
    "Contender",
    "ContenderError",
    "Environment",
    "Finding",
    "Headline",
    "Measured",
    "Options",
    "Page",
    "Table",
    "against",
    "caller_versions",
    "callers",
    "canned_server",
    "compared",
    "findings_table",
    "missed_targets",
    "publish",
    "ratios",
    "read_options",
    "spread",
    "started",
    "take_turns",
    "where_peers_are_better",
]
