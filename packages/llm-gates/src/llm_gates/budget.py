"""Money per window: reserve the worst case, settle the real cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Any, Literal, Self
from weakref import WeakValueDictionary

from llm_core import BudgetDenied, Clock, ConfigurationError, InvalidValue, LLMError
from llm_gates.calendar import CalendarWindow, Period
from llm_gates.gates import GateSet
from llm_gates.limits import NEVER, Limit, Metric

__all__ = ["BudgetGate"]

_SWEEP_AT = 1_000
"""From how many keys on those are dropped that have spent nothing in their window."""


class BudgetLimit(Limit):
    """A window of money for each key; an entry is ``(its window, the window's own entry, its key)``."""

    __slots__ = ("_bound", "_per_key", "_period", "_resting", "_sweep_at", "_windows", "_zone")

    def __init__(
        self,
        capacity: Decimal,
        *,
        period: Period,
        zone: tzinfo,
        per_key: bool,
        name: str,
    ) -> None:
        super().__init__(
            capacity,
            metric=Metric.KEYED_COST if per_key else Metric.COST,
            name=name,
            window_ns=period.shortest_ns,
        )
        # What is used differs by key: see `usage`, and `plan` for whether a call fits.
        self.used = NEVER
        self._period = period
        self._zone = zone
        self._per_key = per_key
        self._windows: dict[str | None, CalendarWindow] = {}
        # Windows in which nothing is spent, as long as a call that may still settle there holds on to them.
        self._resting: WeakValueDictionary[str | None, CalendarWindow] = WeakValueDictionary()
        self._sweep_at = _SWEEP_AT

    def bind(self, clock: Clock, put_off: Callable[[Callable[[], None]], object]) -> None:
        """Take the clock whose calendar counts."""
        self._bound = (clock, put_off)
        for window in (*self._windows.values(), *self._resting.values()):
            window.bind(clock, put_off)

    def _window(self, cost: Any, now: int) -> CalendarWindow:
        key = cost.key if self._per_key else None
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= self._sweep_at:
                self._sweep(now)
            window = self._resting[key] if key in self._resting else self._new_window()
            self._windows[key] = window
        return window

    def _sweep(self, now: int) -> None:
        for key, window in list(self._windows.items()):
            if not window.usage(now):
                self._resting[key] = self._windows.pop(key)
        self._sweep_at = max(2 * len(self._windows), _SWEEP_AT)

    def _new_window(self) -> CalendarWindow:
        window = CalendarWindow(
            self.capacity,
            period=self._period,
            zone=self._zone,
            metric=Metric.COST,
            name=self.name,
        )
        window.bind(*self._bound)
        return window

    def plan(self, now: int, cost: Any) -> int:
        """Return the nanoseconds until the window turns, if the money is spent."""
        window = self._window(cost, now)
        # A spent budget stops calls of unknown cost as well.
        return window.plan(now, cost or Decimal("1e-18"))

    def earliest(self, now: int, amount: Any) -> int:
        """Return a lower bound of the wait until `amount` more can have been spent; 0 where keys have a window each."""
        if self._per_key:
            return 0
        return self._window(amount, now).earliest(now, amount)

    def take(self, cost: Any) -> Any:
        """Reserve money for a call that has not left yet."""
        self._window(cost, 0).take(cost)

    def drop(self, cost: Any, taken: Any = None) -> None:
        """Undo `take` before `stamp`."""
        self._window(cost, 0).drop(cost)

    def stamp(self, now: int, cost: Any, taken: Any = None) -> Any:
        """Put reserved money into the window of `now`."""
        window = self._window(cost, now)
        return (window, window.stamp(now, cost), cost.key if self._per_key else None)

    def settle(self, entry: Any, before: Any, after: Any, now: int) -> None:
        """Correct the cost of a call in its window."""
        window, own, key = entry
        window.settle(own, Decimal(before), Decimal(after), now)
        if key in self._resting:
            self._windows[key] = self._resting.pop(key)

    def set_capacity(self, capacity: Any) -> None:
        """Change the budget of every key."""
        self.capacity = capacity
        for window in (*self._windows.values(), *self._resting.values()):
            window.set_capacity(capacity)

    def usage(self, now: int) -> Any:
        """Return what is spent; with keys, by the one that has spent most."""
        return max((w.usage(now) for w in self._windows.values()), default=Decimal(0))

    def anew(self) -> Self:
        """Return a twin with what is spent, and what is reserved for calls that run."""
        twin = super().anew()
        twin._windows = {key: window.anew() for key, window in self._windows.items()}
        twin._resting = WeakValueDictionary()
        return twin


class DenyingBudget(BudgetLimit):
    """A budget that raises instead of making calls wait until its window turns."""

    __slots__ = ()

    refuses = True

    def refusal(self, now: int, cost: Any) -> LLMError | None:
        """Return BudgetDenied if the money is spent."""
        wait_ns = self.plan(now, cost)
        if not wait_ns:
            return None
        window = self._window(cost, now)
        spent = window.usage(now)
        whom = f" of {cost.key!r}" if self._per_key else ""
        return BudgetDenied(
            f"cost: got {cost!s}, but {spent} of {self.capacity} per {self._period.value}{whom} "
            "are spent or reserved",
            retry_after=None if wait_ns >= NEVER else wait_ns / 1e9,
            details={"budget": self.name, "limit": str(self.capacity), "spent": str(spent)},
        )


def _check_money(limit: Decimal | int) -> None:
    money = isinstance(limit, (Decimal, int)) and not isinstance(limit, bool)
    if not money or not Decimal(limit).is_finite() or limit <= 0:
        raise InvalidValue.of("limit", limit, "a Decimal above 0")


class BudgetGate(GateSet):
    """At most `limit` of money per minute, hour, day, month, or in total.

    ``admit(cost=worst_case)`` reserves, ``permit.settle(tokens=…, cost=real)`` corrects.
    The windows turn by the calendar of `zone`. With `per_key` every key has the whole limit for itself.
    `when_spent` says what happens to a call that does not fit: ``deny`` raises BudgetDenied at once, ``wait`` lets
    it wait until the window turns (and everything behind it in the same queue; keys of their own queues are made by
    `KeyedGates`).
    """

    def __init__(
        self,
        limit: Decimal | int,
        *,
        per: Period | str = Period.DAY,
        zone: tzinfo = UTC,
        per_key: bool = False,
        when_spent: Literal["deny", "wait"] = "deny",
        name: str = "budget",
        clock: Clock | None = None,
        max_queue: int | None = None,
    ) -> None:
        _check_money(limit)
        if per not in list(Period):
            raise InvalidValue.of("per", per, f"one of {', '.join(Period)}")
        if when_spent not in ("deny", "wait"):
            raise InvalidValue.of("when_spent", when_spent, "'deny' or 'wait'")
        if per_key and when_spent == "wait":
            raise ConfigurationError(
                "per_key: one key's empty budget would make all others wait in the same queue; "
                "use KeyedGates with a BudgetGate for each key"
            )
        kind = DenyingBudget if when_spent == "deny" else BudgetLimit
        budget = kind(
            Decimal(limit),
            period=Period(per),
            zone=zone,
            per_key=per_key,
            name=name,
        )
        self._build([budget], clock=clock, max_queue=max_queue)

    @property
    def limit(self) -> Decimal:
        """The limit in force."""
        return Decimal(self._limits[0].capacity)

    def set_limit(self, limit: Decimal | int) -> None:
        """Change the limit now, for waiters as well."""
        _check_money(limit)
        self._turnstile.set_capacity(self._limits[0], Decimal(limit))
