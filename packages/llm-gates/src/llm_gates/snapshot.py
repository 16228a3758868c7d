"""The state of a gate at one moment, as plain values."""

from __future__ import annotations

from decimal import Decimal

from llm_core import Record, immutable
from llm_gates.limits import Limit

__all__ = ["GateSnapshot", "LimitSnapshot"]


@immutable
class LimitSnapshot(Record):
    """One limit."""

    name: str
    metric: str
    """``requests``, ``tokens``, ``input_tokens``, ``output_tokens`` or ``cost``."""
    limit: int | Decimal
    used: int | Decimal
    """What counts at this moment: reserved, settled, and what others were seen to use."""
    remaining: int | Decimal
    """What may go now; never below zero."""
    window_seconds: float | None = None
    """The length of the window; None for concurrency and for totals."""

    @classmethod
    def of(cls, limit: Limit, now: int) -> LimitSnapshot:
        """Describe `limit` at the monotonic time `now`."""
        used = limit.usage(now)
        return cls(
            name=limit.name,
            metric=limit.metric.name.lower(),
            limit=limit.capacity,
            used=used,
            remaining=max(limit.capacity - used, 0),
            window_seconds=None if limit.window_ns is None else limit.window_ns / 1e9,
        )


@immutable
class GateSnapshot(Record):
    """All limits of one gate and its queue."""

    limits: tuple[LimitSnapshot, ...]
    in_flight: int
    """Calls that have left the gate and have not ended."""
    queued: int
    held_seconds: float = 0.0
    """For how long nobody will be admitted because the provider asked for it."""

    def limit(self, name: str) -> LimitSnapshot:
        """Return the limit of that name; KeyError if there is none."""
        for limit in self.limits:
            if limit.name == name:
                return limit
        raise KeyError(name)
