"""The state of a service at one moment, as plain values."""

from __future__ import annotations

from collections.abc import Mapping

from llm_core import Cost, Record, immutable
from llm_gates import GateSnapshot
from llm_metrics import StatsSnapshot

__all__ = ["CacheStats", "ServiceSnapshot"]


@immutable
class CacheStats(Record):
    """What the response cache has done so far in this process: each call that asked it counts once.

    That is under one of `hits`, `misses` and `shared`, a miss as soon as the call has ended.
    """

    hits: int = 0
    """Calls answered from the cache."""
    misses: int = 0
    """Calls that asked a provider themselves, or that ended before they could."""
    shared: int = 0
    """Calls that took the answer, or the failure, of an identical call that was under way."""
    saved: Cost = Cost()
    """What the answers that were reused had cost, without helper calls of pipelines: these are made again."""


@immutable
class ServiceSnapshot(Record):
    """Traffic, limits and cache of a service."""

    stats: StatsSnapshot
    """Rates, times and failures over the last minute, in all and by operation, model, provider and tenant."""
    gates: Mapping[str, GateSnapshot]
    """Use of every limit: by ``provider/model``, by ``operation:NAME`` for those of an operation,
    and under ``*`` for a gate of the caller's own."""
    cache: CacheStats
    in_flight: int
    """Calls under way, those that wait at the gates included."""
