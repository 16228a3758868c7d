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
    queue = f"with {queued} call{'s' * (queued != 1)} in the queue"
    given = "None" if timeout is None else _shown(timeout)
    if wait_seconds:
        said = f"got {given}, but {name} needs at least {_shown(wait_seconds)} s more {queue}"
    elif timeout is not None and timeout <= 0:
        said = f"got {given}, which leaves no time to wait, {queue}"
    else:
        said = f"{name} had no room within {given} s, {queue}"
    return GateTimeout(
        f"timeout: {said}",
        retry_after=wait_seconds or None,
        details={"limit": name, "timeout": timeout, "queued": queued},
    )


def _shown(seconds: float) -> str:
    """Write seconds in milliseconds, or, where these are too coarse, to one digit."""
    return f"{seconds:.3f}" if seconds == 0 or abs(seconds) >= 0.001 else f"{seconds:.1g}"


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
