"""Limits as pure state machines: no clock, no lock, no asyncio.

Time is an integer number of nanoseconds that the caller passes in and that never goes back.
A limit counts a call in two steps, because a call that is granted does not leave the gate at once:

- `take(cost)` counts it without a time, so that it cannot expire before it has left;
- `stamp(now, cost)` puts the time on it when it really leaves, and returns the entry that
  `settle` and `cancel` correct later.

`try_take(now, cost)` is both at once, for the call that does not have to wait.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from decimal import Decimal
from enum import IntEnum
from typing import Any, Self

from llm_core import Clock, ConfigurationError, ErrorInfo, LLMError

__all__ = [
    "NEVER",
    "UNLIMITED",
    "Charge",
    "ConcurrencyLimit",
    "Left",
    "Limit",
    "Metric",
]

NEVER = 1 << 62
"""A wait that time alone does not end: somebody must leave, settle or give back first."""


UNLIMITED = 1 << 62
"""A capacity that no traffic reaches, for a limit that is to know what was sent before it gets a real one.

Nobody waits for it, headers of a provider do not change it, and snapshots leave it out.
"""


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
    """Whether the limit may answer with an error (`refusal`) instead of a wait; it is full by `used` as long as it may."""

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

    def anew(self) -> Self:
        """Return its twin for a forked child: there what was sent counts too, but not what waits or runs.

        Whatever thread of the parent was inside, the twin is in order, give or take the call of that thread.
        """
        return copy(self)

    def charge_foreign(self, now: int, amount: Any) -> Any:
        """Count what somebody else used of the same quota; return its entry, which `settle` corrects."""
        return self.stamp(now, amount, self.take(amount))


class ConcurrencyLimit(Limit):
    """At most `capacity` calls between leaving the gate and ending."""

    __slots__ = ()

    holds = True

    def try_take(self, now: int, cost: Any) -> Any:
        """Take a slot if there is one."""
        used = self.used + cost
        if used > self.capacity:
            return None
        self.used = used
        return ()

    def finish(self, entry: Any, cost: Any, now: int, error: ErrorInfo | None) -> None:
        """Give the slot back."""
        self.used -= cost

    def anew(self) -> Self:
        """Return a twin with all slots free."""
        twin = super().anew()
        twin.used = 0
        return twin


class Left(Limit):
    """Refuses those who enter a queue that a forked child has left to its parent."""

    __slots__ = ()

    refuses = True

    def __init__(self) -> None:
        super().__init__(0, metric=Metric.REQUESTS, name="fork")

    def refusal(self, now: int, cost: Any) -> LLMError:
        """Return what to do instead."""
        return ConfigurationError(
            "permit: it was asked for before the process forked; ask the gate for a new one"
        )
