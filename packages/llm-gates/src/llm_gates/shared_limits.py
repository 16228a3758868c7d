"""What the script in Redis must know of a limit, and a limit's local stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_core import ConfigurationError
from llm_gates.bucket import TokenBucket
from llm_gates.limits import (
    FINE_ENTRIES,
    GRAINS,
    ConcurrencyLimit,
    FixedWindow,
    Limit,
    Metric,
    SlidingLog,
)

__all__ = ["SharedLimit", "local_share", "shared_limit"]


@dataclass(slots=True, kw_only=True)
class SharedLimit:
    """One limit as the script reads it; times in microseconds."""

    name: str
    metric: Metric
    kind: str
    """``log``, ``bucket``, ``fixed`` or ``slots``, as in admit.lua."""
    capacity: int
    window: int = 0
    life: int = 0
    """The window and the guard."""

    @property
    def words(self) -> list[Any]:
        """What the script gets of it."""
        # A call may be heavy, so that only a limit on requests says how many entries there can be.
        coarse = self.kind == "log" and self.metric == Metric.REQUESTS
        grain = self.life // GRAINS if coarse and self.capacity > FINE_ENTRIES else 0
        return [self.kind, self.capacity, self.window, self.life, grain]

    def cost(self, tokens: int, output_tokens: int | None) -> int:
        """Return what a call weighs on this limit."""
        output = output_tokens or 0
        return (1, tokens, max(tokens - output, 0), output)[self.metric]


def shared_limit(limit: Limit) -> SharedLimit:
    """Describe `limit` for the script; ConfigurationError if it has no twin there."""
    kinds: dict[type[Limit], str] = {
        SlidingLog: "log",
        TokenBucket: "bucket",
        FixedWindow: "fixed",
        ConcurrencyLimit: "slots",
    }
    kind = kinds.get(type(limit))
    if kind is None:
        raise ConfigurationError(
            f"gates: {limit.name!r} cannot be shared through Redis; request, token and concurrency "
            "limits can (calendar windows, breakers, budgets and adaptive limits are local)"
        )
    window = (limit.window_ns or 0) // 1_000
    return SharedLimit(
        name=limit.name,
        metric=limit.metric,
        kind=kind,
        capacity=limit.capacity,
        window=window,
        life=window + limit.guard_ns // 1_000,
    )


def local_share(limits: list[SharedLimit], share: float) -> list[Limit]:
    """Return limits for this process alone, each `share` of the common one and at least 1."""
    alone: list[Limit] = []
    for limit in limits:
        capacity = max(int(limit.capacity * share), 1)
        if limit.kind == "slots":
            alone.append(ConcurrencyLimit(capacity, metric=limit.metric, name=limit.name))
            continue
        # A sliding log keeps the promise of all the others.
        alone.append(
            SlidingLog(
                capacity,
                window_ns=limit.window * 1_000,
                guard_ns=(limit.life - limit.window) * 1_000,
                metric=limit.metric,
                name=limit.name,
            )
        )
    return alone
