"""The default algorithm: every call of the window is remembered."""

from __future__ import annotations

import math
from collections import deque
from itertools import repeat
from typing import Any, Self

from llm_gates.limits import NEVER, Limit, Metric

__all__ = ["FINE_ENTRIES", "GRAINS", "SlidingLog"]

FINE_ENTRIES = 20_000
"""Calls in a window up to which a `SlidingLog` keeps each of them apart."""
GRAINS = 256
"""Into how many pieces a `SlidingLog` divides its window beyond that; it then uses 1 - 1/GRAINS of the limit."""
_WALK = 64
"""How far `plan` looks into the log: the wait is exact within it, and beyond it there is a second look later."""
_LONG_WALK = 1_024
"""How far `earliest` looks."""


class SlidingLog(Limit):
    """Never more than `capacity` in *any* window, by remembering every call in it.

    One entry per call, whatever it weighs; it expires `window_ns + guard_ns` after it left.
    `guard_ns` covers how much later one call may reach the provider than another.
    Above `fine_entries` calls in a window, calls that leave within a 256th of it share an entry that lives as long
    as its last one: constant memory, still never too much, at 99.6 % of the limit.

    Stamps and weights stand in two rows of plain numbers, which cost the garbage collector nothing; an entry is the
    number of its place, counted from the first call ever.
    The stamps rise because a call is stamped when it leaves.
    """

    __slots__ = (
        "_expired",
        "_fine_entries",
        "_grain",
        "_last_until",
        "_life",
        "_next",
        "_plain_until",
        "_stamps",
        "_weights",
    )

    def __init__(
        self,
        capacity: Any,
        *,
        window_ns: int,
        metric: Metric,
        name: str,
        guard_ns: int = 0,
        fine_entries: int = FINE_ENTRIES,
    ) -> None:
        super().__init__(capacity, metric=metric, name=name, window_ns=window_ns, guard_ns=guard_ns)
        self._life = window_ns + guard_ns
        self._fine_entries = fine_entries
        self._stamps: deque[int] = deque()
        # A limit on requests has none as long as each of them weighs 1.
        self._weights: deque[Any] | None = None if metric == Metric.REQUESTS else deque()
        self._expired = 0
        self._next = 0
        # The number of the entry from which on something else is to do than to write it down.
        self._plain_until = fine_entries
        # How long one entry is shared, and until when the last one is; zero and the past in a fine log.
        self._grain = 0
        self._last_until = -1

    def __len__(self) -> int:
        """Return the number of entries kept."""
        return len(self._stamps)

    def plan(self, now: int, cost: Any) -> int:
        """Return the nanoseconds until enough has expired; exact for up to 64 entries, else too early."""
        if self.used + cost <= self.capacity:
            return 0
        self._expire(now)
        missing = self.used + cost - self.capacity
        if missing <= 0:
            return 0
        return self._until_freed(now, missing, _WALK)

    def earliest(self, now: int, amount: Any) -> int:
        """Return a lower bound of the wait until `amount` more can have gone."""
        self._expire(now)
        # Whoever comes a whole limit later leaves at least a whole life later.
        lives: int = max(math.ceil(amount / self.capacity) - 1, 0)
        missing = self.used + amount - (lives + 1) * self.capacity
        if missing <= 0:
            return lives * self._life
        wait = self._until_freed(now, missing, _LONG_WALK)
        return lives * self._life + (wait if wait < NEVER else self._life)

    def _until_freed(self, now: int, missing: Any, most: int) -> int:
        """Return the wait until `missing` has expired; NEVER if some of it has not even left."""
        weights = repeat(1) if self._weights is None else self._weights
        for stamp, weight in zip(self._stamps, weights, strict=False):
            missing -= weight
            most -= 1
            if missing <= 0 or not most:
                return max(stamp + self._life - now, 1)
        return NEVER

    def _expire(self, now: int) -> None:
        stamps, weights = self._stamps, self._weights
        horizon = now - self._life
        while stamps and stamps[0] <= horizon:
            stamps.popleft()
            self.used -= 1 if weights is None else weights.popleft()
            self._expired += 1
        if not stamps:
            self._grain = 0
            self._last_until = -1
        if not self._grain:
            self._plain_until = self._expired + self._fine_entries

    def stamp(self, now: int, cost: Any, taken: Any = None) -> Any:
        """Start the life of a call that was taken."""
        if not self._grain and self._next >= self._plain_until:
            self._expire(now)
            if self._next >= self._plain_until:
                self._grain = self._life // GRAINS
                self._plain_until = -1
        weights = self._weigh() if self._grain or cost != 1 else self._weights
        if weights is not None and now < self._last_until:
            self._stamps[-1] = now
            weights[-1] += cost
            return self._next - 1
        if self._grain:
            self._last_until = now + self._grain
        self._stamps.append(now)
        if weights is not None:
            weights.append(cost)
        self._next += 1
        return self._next - 1

    def _weigh(self) -> deque[Any]:
        """Return the weights, written down from now on."""
        if self._weights is None:
            self._weights = deque([1] * len(self._stamps))
        return self._weights

    def try_take(self, now: int, cost: Any) -> Any:
        """Take and stamp if it may go now; the one method in which every nanosecond counts."""
        entry = self._next
        used = self.used + cost
        if entry >= self._plain_until or used > self.capacity:
            return self._try_take_slowly(now, cost)
        self.used = used
        self._next = entry + 1
        self._stamps.append(now)
        if self._weights is not None:
            self._weights.append(cost)
        elif cost != 1:
            self._weigh()[-1] = cost
        return entry

    def _try_take_slowly(self, now: int, cost: Any) -> Any:
        if self.used + cost > self.capacity:
            self._expire(now)
            if self.used + cost > self.capacity:
                return None
        self.used += cost
        return self.stamp(now, cost)

    def settle(self, entry: Any, before: Any, after: Any, now: int) -> None:
        """Correct the weight of a call that has not expired."""
        place = entry - self._expired
        if place >= 0:
            weights = self._weights if self._weights is not None else self._weigh()
            change = after - before
            weights[place] += change
            self.used += change

    def usage(self, now: int) -> Any:
        """Return what is counted at `now`."""
        self._expire(now)
        return self.used

    def anew(self) -> Self:
        """Return a twin that knows of all calls that have left."""
        twin = super().anew()
        twin._stamps = stamps = self._stamps.copy()
        weights = self._weights
        if weights is not None:
            twin._weights = weights = weights.copy()
            # A thread that was inside may have come no further than to one of the two rows.
            while len(stamps) > len(weights):
                stamps.pop()
            while len(weights) > len(stamps):
                weights.popleft()
        twin.used = len(stamps) if weights is None else sum(weights)
        twin._expired = 0
        twin._next = len(stamps)
        twin._plain_until = -1 if twin._grain else twin._fine_entries
        return twin
