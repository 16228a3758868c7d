"""Concurrency that finds its own limit."""

from __future__ import annotations

from typing import Any

from llm_core import Clock, ErrorInfo, ErrorType, InvalidValue
from llm_gates.gates import GateSet
from llm_gates.limits import ConcurrencyLimit, Metric
from llm_gates.weights import check_limit

__all__ = ["AdaptiveConcurrencyGate"]

_TOO_MUCH = (ErrorType.RATE_LIMITED, ErrorType.OVERLOADED)


class AdaptiveLimit(ConcurrencyLimit):
    """Slots by slow start, additive increase and multiplicative decrease, as TCP does it (RFC 5681).

    An entry is the time at which the call left, so that the failures of one round decrease once.
    """

    __slots__ = (
        "_ceiling",
        "_decrease",
        "_decreased_at",
        "_exact",
        "_floor",
        "_full_at",
        "_slow_until",
    )

    def __init__(self, *, start: int, floor: int, ceiling: int, decrease: float, name: str) -> None:
        super().__init__(start, metric=Metric.REQUESTS, name=name)
        self._exact = float(start)
        self._floor = floor
        self._ceiling = ceiling
        self._decrease = decrease
        # Below it every good call adds a whole slot: the number doubles with every round of calls.
        self._slow_until = float(ceiling)
        self._decreased_at = -1
        self._full_at = -1

    def try_take(self, now: int, cost: Any) -> Any:
        """Take a slot if there is one, and note whether it was the last."""
        return None if super().try_take(now, cost) is None else self.stamp(now, cost)

    def stamp(self, now: int, cost: Any, taken: Any = None) -> Any:
        """Note when the call left, and whether it took the last slot."""
        if self.used >= self.capacity:
            self._full_at = now
        return now

    def finish(self, entry: Any, cost: Any, now: int, error: ErrorInfo | None) -> None:
        """Give the slot back and learn from how the call ended."""
        self.used -= cost
        if error is None:
            # More slots than were asked for while this call ran would only be a guess.
            if self._full_at >= entry:
                self._exact += 1 if self._exact < self._slow_until else 1 / self._exact
        elif error.type in _TOO_MUCH and entry > self._decreased_at:
            # Calls that left before the last decrease failed for the same reason.
            self._decreased_at = now
            self._exact *= self._decrease
            self._slow_until = self._exact
        self._exact = min(max(self._exact, self._floor), self._ceiling)
        self.capacity = int(self._exact)


class AdaptiveConcurrencyGate(GateSet):
    """At most as many calls at the same time as the provider bears, found by trying.

    It begins with `start` slots and doubles them with every round of good calls (slow start) until the provider says
    too much (rate limited, overloaded); then the slots are multiplied by `decrease`, and each further round adds one.
    It only grows while all slots are in use, and stays between `floor` and `ceiling`.
    """

    def __init__(
        self,
        *,
        start: int = 4,
        floor: int = 1,
        ceiling: int = 256,
        decrease: float = 0.7,
        name: str = "concurrency",
        clock: Clock | None = None,
        max_queue: int | None = None,
    ) -> None:
        for field, value in (("start", start), ("floor", floor), ("ceiling", ceiling)):
            check_limit(value, field)
        if not 1 <= floor <= start <= ceiling:
            raise InvalidValue.of(
                "start", (floor, start, ceiling), "1 <= floor <= start <= ceiling"
            )
        if not 0 < decrease < 1:
            raise InvalidValue.of("decrease", decrease, "a number between 0 and 1")
        limit = AdaptiveLimit(
            start=start, floor=floor, ceiling=ceiling, decrease=decrease, name=name
        )
        self._build([limit], clock=clock, max_queue=max_queue)

    @property
    def limit(self) -> int:
        """How many slots there are now."""
        return int(self._limits[0].capacity)
