"""Limits as pure state machines: no clock, no lock, no asyncio.

Time is an integer number of nanoseconds that the caller passes in and that never goes back.
A limit counts a call in two steps, because a call that is granted does not leave the gate at once:

- `take(cost)` counts it without a time, so that it cannot expire before it has left;
- `stamp(now, cost)` puts the time on it when it really leaves, and returns the entry that
  `settle` and `cancel` correct later.

`try_take(now, cost)` is both at once, for the call that does not have to wait.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from itertools import repeat
from typing import Any

from llm_core import Clock, ErrorInfo, LLMError

__all__ = [
    "NEVER",
    "Charge",
    "ConcurrencyLimit",
    "FixedWindow",
    "Limit",
    "Metric",
    "SlidingLog",
    "aligned",
]

NEVER = 1 << 62
"""A wait that time alone does not end: somebody must leave, settle or give back first."""

FINE_ENTRIES = 20_000
"""Calls in a window up to which a `SlidingLog` keeps each of them apart."""
GRAINS = 256
"""Into how many pieces a `SlidingLog` divides its window beyond that; it then uses 1 - 1/GRAINS of the limit."""
_WALK = 64
"""How far `plan` looks into the log: the wait is exact within it, and beyond it there is a second look later."""
_LONG_WALK = 1_024
"""How far `earliest` looks."""


class Metric(IntEnum):
    """What a limit counts; the number is the place in the tuple of a call's weights."""

    REQUESTS = 0
    TOKENS = 1
    """Input and output together."""
    INPUT_TOKENS = 2
    OUTPUT_TOKENS = 3
    COST = 4
    """Money, as a `Decimal`."""
    KEYED_COST = 5
    """Money, with the key that it is counted for."""


class Charge(Decimal):
    """An amount of money that knows whom it is counted for."""

    key: str | None

    @classmethod
    def of(cls, key: str | None, amount: Decimal) -> Charge:
        """Return `amount` for `key`."""
        charge = cls(amount)
        charge.key = key
        return charge


class Limit:
    """One limit on one metric; the base of all of them, admitting everything."""

    __slots__ = ("capacity", "guard_ns", "metric", "name", "used", "window_ns")

    holds = False
    """Whether a call counts until it ends, so that `finish` must be told."""
    refuses = False
    """Whether the limit may answer with an error (`refusal`) instead of a wait."""

    def __init__(
        self,
        capacity: Any,
        *,
        metric: Metric,
        name: str,
        window_ns: int | None = None,
        guard_ns: int = 0,
    ) -> None:
        self.capacity = capacity
        self.metric = metric
        self.name = name
        self.window_ns = window_ns
        """The length of the window that the limit speaks of; None if it speaks of none."""
        self.guard_ns = guard_ns
        """How much later one call may reach the provider than another."""
        self.used: Any = 0
        """What is counted now, with what was taken and not yet stamped; may be out of date upwards."""

    def bind(self, clock: Clock, put_off: Callable[[Callable[[], None]], object]) -> None:
        """Take the clock of the queue, and what puts off a call until its lock is free."""

    def plan(self, now: int, cost: Any) -> int:
        """Return the nanoseconds after which to ask again: 0 may go now, NEVER if time does not help.

        The answer is exact or too early, never too late.
        """
        return 0 if self.used + cost <= self.capacity else NEVER

    def earliest(self, now: int, amount: Any) -> int:
        """Return a lower bound of the nanoseconds until `amount` more can have gone, in any number of calls."""
        return 0

    def take(self, cost: Any) -> Any:
        """Count a call that has not left yet; what it returns is given back to `stamp` or `drop` as `taken`."""
        self.used += cost

    def drop(self, cost: Any, taken: Any = None) -> None:
        """Undo `take` before `stamp`."""
        self.used -= cost

    def stamp(self, now: int, cost: Any, taken: Any = None) -> Any:
        """Note that a call which was taken leaves now; return its entry, never None."""
        return ()

    def try_take(self, now: int, cost: Any) -> Any:
        """Take and stamp if it may go now; return the entry, or None if it has to wait."""
        if self.plan(now, cost):
            return None
        return self.stamp(now, cost, self.take(cost))

    def settle(self, entry: Any, before: Any, after: Any, now: int) -> None:
        """Correct a stamped call's weight from `before` to `after`; the past that has expired stays."""

    def cancel(self, entry: Any, cost: Any, now: int) -> None:
        """Take a stamped call back: it was never sent."""
        self.settle(entry, cost, 0, now)

    def finish(self, entry: Any, cost: Any, now: int, error: ErrorInfo | None) -> None:
        """Note the end of a stamped call; only limits that `holds` are told."""

    def refusal(self, now: int, cost: Any) -> LLMError | None:
        """Return the error to raise instead of waiting; only limits that `refuses` are asked."""
        return None

    def set_capacity(self, capacity: Any) -> None:
        """Change the limit from now on; what is counted stays counted."""
        self.capacity = capacity

    def usage(self, now: int) -> Any:
        """Return what is counted at `now`."""
        return self.used

    def at_rest(self, now: int) -> bool:
        """Return whether a new limit in the place of this one would do the same."""
        return not self.usage(now)

    def charge_foreign(self, now: int, amount: Any) -> Any:
        """Count what somebody else used of the same quota; return its entry, which `settle` corrects."""
        return self.stamp(now, amount, self.take(amount))


class ConcurrencyLimit(Limit):
    """At most `capacity` calls between leaving the gate and ending."""

    __slots__ = ()

    holds = True

    def finish(self, entry: Any, cost: Any, now: int, error: ErrorInfo | None) -> None:
        """Give the slot back."""
        self.used -= cost


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
            self._weigh()[place] += after - before
            self.used += after - before

    def usage(self, now: int) -> Any:
        """Return what is counted at `now`."""
        self._expire(now)
        return self.used


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
