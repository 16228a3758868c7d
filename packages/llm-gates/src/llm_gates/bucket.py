"""The token bucket, as the generic cell rate algorithm (GCRA) counts it, with corrections after the fact."""

from __future__ import annotations

from collections import deque
from typing import Any, Self

from llm_gates.limits import NEVER, Limit, Metric

__all__ = ["TokenBucket"]

_MOST_LOWS = 512
"""How many minima are kept to judge late corrections; older calls get nothing back."""


class TokenBucket(Limit):
    """A debt of at most `capacity` that is paid back at `rate` per window.

    Right where the provider runs the same bucket: after an idle time up to `capacity` passes at once, so that in
    the window that follows up to `capacity + rate` pass in all. A strict sliding window would refuse that.
    `guard_ns` keeps free what the provider's bucket may lag behind, because a call arrives later than it left.

    Amounts are scaled by the window, so that the debt (in amount x nanoseconds) shrinks by `rate` in each
    nanosecond and everything is a whole number.
    """

    __slots__ = (
        "_at",
        "_debt",
        "_idle",
        "_idle_at_stamp",
        "_lows",
        "_lows_since",
        "_pending",
        "_rate",
        "_window",
        "margin",
    )

    def __init__(
        self,
        capacity: int,
        *,
        window_ns: int,
        metric: Metric,
        name: str,
        rate: int | None = None,
        guard_ns: int = 0,
    ) -> None:
        super().__init__(capacity, metric=metric, name=name, window_ns=window_ns, guard_ns=guard_ns)
        # What is used changes by itself, so that nobody may rely on this number: see `usage`.
        self.used = NEVER
        self._rate = rate or capacity
        self._window = window_ns
        self.margin = 0
        """What stays free for others who use the same quota."""
        self._pending = 0
        self._debt = 0
        self._at: int | None = None
        # What could have been paid back while there was no debt, in all and when a call last left.
        self._idle = self._rate * guard_ns
        self._idle_at_stamp = 0
        # (time, debt just before it grew): the running minima, read from the right, since each time.
        self._lows: deque[tuple[int, int]] = deque()
        self._lows_since = -1

    def _leak(self, now: int) -> None:
        if self._at is None:
            self._at = now
        elapsed = now - self._at
        if elapsed > 0:
            self._at = now
            self._debt -= elapsed * self._rate
            if self._debt < 0:
                self._idle -= self._debt
                self._debt = 0

    def plan(self, now: int, cost: Any) -> int:
        """Return the nanoseconds until the debt is small enough."""
        self._leak(now)
        lag = self._rate * self.guard_ns + self.margin * self._window
        weight = (self._pending + cost) * self._window
        over: int = self._debt + weight + lag - self.capacity * self._window
        if over <= 0:
            return 0
        if over - self._debt <= 0:
            return -(-over // self._rate)
        # It fits into no bucket that lags: it may go into one that has surely been empty for long enough.
        if self._pending or cost > self.capacity:
            return NEVER
        rested = self._idle - self._idle_at_stamp
        return max(-(-(self._debt + lag - rested) // self._rate), 0)

    def earliest(self, now: int, amount: Any) -> int:
        """Return a lower bound of the wait until `amount` more can have gone."""
        self._leak(now)
        over: int = self._debt + (self._pending + amount - self.capacity) * self._window
        return max(-(-over // self._rate), 0)

    def take(self, cost: Any) -> Any:
        """Count a call that has not left yet: nothing of it is paid back before it has."""
        self._pending += cost

    def drop(self, cost: Any, taken: Any = None) -> None:
        """Undo `take` before `stamp`."""
        self._pending -= cost

    def stamp(self, now: int, cost: Any, taken: Any = None) -> Any:
        """Add a call that was taken to the debt; its entry is the time and the idleness so far."""
        self._leak(now)
        self._pending -= cost
        lows = self._lows
        while lows and lows[-1][1] >= self._debt:
            lows.pop()
        lows.append((now, self._debt))
        if len(lows) > _MOST_LOWS:
            self._lows_since = lows.popleft()[0]
        self._idle_at_stamp = self._idle
        self._debt += cost * self._window
        return (now, self._idle)

    def settle(self, entry: Any, before: Any, after: Any, now: int) -> None:
        """Set the debt to what it would be if the call had weighed `after` when it left.

        Downwards, of a difference d the debt keeps min(d, lowest debt since then): when the lighter bucket was
        empty, both paid back the same amount but the heavier one had something to pay.
        Upwards, what could have been paid back while there was no debt is paid. Both are exact for one correction
        and on the safe side for several that overlap.
        """
        self._leak(now)
        stamped, idle = entry
        change = (after - before) * self._window
        if change >= 0:
            paid = min(max(self._idle - idle, 0), change)
            self._idle -= paid
            self._debt += change - paid
            return
        lowest = self._debt
        if stamped <= self._lows_since:
            lowest = 0
        for time, low in self._lows:
            if time > stamped:
                lowest = min(lowest, low)
                break
        self._lows = deque(
            (time, max(low + change, 0) if time > stamped else low) for time, low in self._lows
        )
        self._debt -= min(-change, lowest)

    def set_capacity(self, capacity: Any) -> None:
        """Change the size of the bucket, and the rate in proportion."""
        self._rate = max(round(self._rate * capacity / self.capacity), 1)
        self.capacity = capacity

    def usage(self, now: int) -> Any:
        """Return the debt at `now`, rounded up."""
        self._leak(now)
        return self._pending - (-self._debt // self._window)

    def anew(self) -> Self:
        """Return a twin with the same debt."""
        twin = super().anew()
        twin._pending = 0
        # They tell of times before any call that the twin may have to correct.
        twin._lows = deque()
        return twin

    def level(self, now: int) -> tuple[int, int]:
        """Return the scaled debt and the idleness at `now`, for the books of the feedback."""
        self._leak(now)
        return self._debt, self._idle

    def leaked(self, debt: int, idle: int, elapsed: int) -> tuple[float, int]:
        """Return what becomes of a level after `elapsed` without calls: the debt in units, and the idleness."""
        left = debt - elapsed * self._rate
        return max(left, 0) / self._window, idle + max(-left, 0)
