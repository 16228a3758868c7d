"""What a call is told that is not admitted, the same words by every queue."""

from __future__ import annotations

from typing import Any

from llm_core import CostExceedsLimit, GateTimeout, QueueFull
from llm_gates.limits import Limit

__all__ = ["HOLD", "check_room", "timed_out", "too_heavy"]

HOLD = "hold"
"""The name under which waits for a provider's Retry-After are reported."""


def timed_out(timeout: float | None, name: str, wait_seconds: float, queued: int) -> GateTimeout:
    """Return the error for a call that would have to wait `wait_seconds` more for `name`; 0 if that is unknown."""
    wait = f"at least {wait_seconds:.3f} s more" if wait_seconds else "an unknown time"
    return GateTimeout(
        f"timeout: got {timeout!r}, but {name} needs {wait} with {queued} calls in the queue",
        retry_after=wait_seconds or None,
        details={"limit": name, "timeout": timeout, "queued": queued},
    )


def check_room(queued: int, max_queue: int | None) -> None:
    """Raise QueueFull if nobody more may wait."""
    if max_queue is not None and queued >= max_queue:
        raise QueueFull(
            f"the queue is full: {queued} calls wait already (max_queue={max_queue})",
            details={"queued": queued, "max_queue": max_queue},
        )


def too_heavy(limit: Limit, cost: Any) -> CostExceedsLimit:
    """Return the error for a call that weighs more than a whole limit."""
    return CostExceedsLimit(
        f"{limit.metric.name.lower()}: got {cost!r}, but {limit.name} never admits more than "
        f"{limit.capacity!r} at once",
        details={"limit": limit.name, "cost": str(cost), "capacity": str(limit.capacity)},
    )
