"""Windows that turn by the calendar: at the full minute, hour, at midnight, on the first of the month."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from llm_core import Clock
from llm_gates.limits import NEVER

__all__ = ["Period", "calendar_turns"]


class Period(StrEnum):
    """How long a calendar window lasts."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"
    """It never turns."""

    @property
    def shortest_ns(self) -> int | None:
        """The least time between two turns, in nanoseconds; None for a total."""
        hours = {"minute": 1 / 60, "hour": 1, "day": 23, "month": 28 * 24 - 1}.get(self.value)
        return None if hours is None else round(hours * 3_600e9)


def calendar_turns(period: Period, *, clock: Clock, zone: tzinfo = UTC) -> Callable[[int], int]:
    """Return the function from a monotonic time to the end of its calendar window in `zone`.

    The wall clock is read at every turn, so that its corrections count.
    """
    if period is Period.TOTAL:
        return lambda now: NEVER

    def next_turn(now: int) -> int:
        # Only the offset matters here, and it must not depend on the microseconds that datetime has.
        ahead = now - clock.monotonic_ns()
        local = (clock.now() + timedelta(microseconds=ahead / 1e3)).astimezone(zone)
        left = (_next_start(period, local) - local.astimezone(UTC)) / timedelta(microseconds=1)
        return now + max(round(left * 1e3), 1)

    return next_turn


def _next_start(period: Period, local: datetime) -> datetime:
    start = local.replace(second=0, microsecond=0)
    if period is Period.MINUTE:
        return (start.astimezone(UTC)) + timedelta(minutes=1)
    start = start.replace(minute=0)
    if period is Period.HOUR:
        return (start.astimezone(UTC)) + timedelta(hours=1)
    start = start.replace(hour=0, fold=0)
    if period is Period.DAY:
        return (start + timedelta(days=1)).astimezone(UTC)
    return (start.replace(day=1) + timedelta(days=32)).replace(day=1).astimezone(UTC)
