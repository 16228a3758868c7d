"""Windows that turn at known times."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

from llm_gates.limits import NEVER, Limit, Metric

__all__ = ["FixedWindow", "aligned"]


def aligned(window_ns: int, phase_ns: int = 0) -> Callable[[int], int]:
    """Return the function from a time to the end of its window, for windows that begin at `phase_ns`."""

    def next_turn(now: int) -> int:
        return now + window_ns - (now - phase_ns) % window_ns

    return next_turn


class FixedWindow(Limit):
    """Never more than `capacity` between two turns, which `next_turn` knows.

    Right where the provider's windows are known; up to twice the limit passes in a window across a turn.
    What leaves within `guard_ns` before a turn may arrive after it, and is counted on both sides.

    Entries are lists ``[number of the window, weight, whether counted on both sides]``.
    """

    __slots__ = ("_ends", "_late", "_next_turn", "_number", "_pending")

    def __init__(
        self,
        capacity: Any,
        *,
        window_ns: int,
        metric: Metric,
        name: str,
        next_turn: Callable[[int], int] | None = None,
        guard_ns: int = 0,
    ) -> None:
        super().__init__(capacity, metric=metric, name=name, window_ns=window_ns, guard_ns=guard_ns)
        self._next_turn = next_turn or aligned(window_ns)
        self._ends: int | None = None
        self._number = 0
        self._pending: Any = 0
        self._late: Any = 0

    def _turn(self, now: int) -> int:
        """Begin a new window if the old one is over; return the time at which this one ends."""
        if self._ends is None:
            self._ends = self._next_turn(now)
        elif now >= self._ends:
            following = self._next_turn(self._ends)
            if now < following:
                self._number += 1
                self.used = self._pending + self._late
            else:
                self._number += 2
                self.used = self._pending
                following = self._next_turn(now)
            self._late = 0
            self._ends = following
        return self._ends

    def turn_at(self, now: int, seconds_left: float) -> None:
        """Learn from the provider that its window ends in `seconds_left`."""
        assert self.window_ns is not None
        end = now + round(seconds_left * 1e9)
        self._turn(now)
        self._next_turn = aligned(self.window_ns, end % self.window_ns)
        self._ends = end

    def began_at(self, now: int) -> int:
        """Return when the window of `now` began."""
        assert self.window_ns is not None
        return self._turn(now) - self.window_ns

    def plan(self, now: int, cost: Any) -> int:
        """Return the nanoseconds until the turn, if this window has no room."""
        ends = self._turn(now)
        if self.used + cost <= self.capacity:
            return 0
        if self._late + self._pending + cost > self.capacity and ends < NEVER:
            ends = self._next_turn(ends)
        return NEVER if ends >= NEVER else ends - now

    def earliest(self, now: int, amount: Any) -> int:
        """Return a lower bound of the wait until `amount` more can have gone."""
        ends = self._turn(now)
        missing = amount - max(self.capacity - self.used, 0)
        if missing <= 0:
            return 0
        assert self.window_ns is not None
        windows: int = math.ceil(missing / self.capacity)
        return ends - now + (windows - 1) * self.window_ns

    def take(self, cost: Any) -> Any:
        """Count a call that has not left yet: it will count in whichever window it leaves."""
        self.used += cost
        self._pending += cost

    def drop(self, cost: Any, taken: Any = None) -> None:
        """Undo `take` before `stamp`."""
        self.used -= cost
        self._pending -= cost

    def stamp(self, now: int, cost: Any, taken: Any = None) -> Any:
        """Put a call that was taken into the window of `now`."""
        ends = self._turn(now)
        self._pending -= cost
        late = now >= ends - self.guard_ns
        if late:
            self._late += cost
        return [self._number, cost, late]

    def settle(self, entry: Any, before: Any, after: Any, now: int) -> None:
        """Correct the weight of a call of this window, or of one counted on both sides of the turn."""
        self._turn(now)
        change = after - before
        if entry[0] == self._number:
            self.used += change
            if entry[2]:
                self._late += change
        elif entry[2] and entry[0] == self._number - 1:
            self.used += change

    def usage(self, now: int) -> Any:
        """Return what is counted at `now`."""
        self._turn(now)
        return self.used

    def anew(self) -> Self:
        """Return a twin in the same window."""
        twin = super().anew()
        twin.used -= twin._pending
        twin._pending = 0
        return twin
