"""Windows that turn by the calendar: at the full minute, hour, at midnight, on the first of the month."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from llm_core import Clock
from llm_gates.fixed_window import FixedWindow
from llm_gates.limits import NEVER, Metric

__all__ = ["CalendarWindow", "Period", "next_start"]


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


class CalendarWindow(FixedWindow):
    """A fixed window that turns by the calendar of `zone`, on the clock that it is bound to.

    The wall clock is read at every turn, so that its corrections count.
    """

    __slots__ = ("__weakref__", "_clock", "period", "zone")

    def __init__(
        self,
        capacity: Any,
        *,
        period: Period,
        zone: tzinfo,
        metric: Metric,
        name: str,
        guard_ns: int = 0,
    ) -> None:
        super().__init__(
            capacity,
            window_ns=period.shortest_ns or NEVER,
            metric=metric,
            name=name,
            guard_ns=guard_ns,
            next_turn=self._turn_after,
        )
        self.period = period
        self.zone = zone

    def bind(self, clock: Clock, put_off: Callable[[Callable[[], None]], object]) -> None:
        """Take the clock whose calendar counts."""
        self._clock = clock

    def _turn_after(self, now: int) -> int:
        if self.period is Period.TOTAL:
            return NEVER
        # `now` may lie behind or before the moment in which the wall clock is read.
        ahead = now - self._clock.monotonic_ns()
        local = (self._clock.now() + timedelta(microseconds=ahead / 1e3)).astimezone(self.zone)
        left = next_start(self.period, local) - local.astimezone(UTC)
        return now + max(round(left / timedelta(microseconds=1) * 1e3), 1)


def next_start(period: Period, local: datetime) -> datetime:
    """Return the first turn after `local`, which carries the zone that counts."""
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
