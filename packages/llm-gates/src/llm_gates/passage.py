"""The way of a call in whose way nothing stands: the part of a queue in which every nanosecond counts."""

from __future__ import annotations

from typing import Any

from llm_gates.ledger import Ledger
from llm_gates.limits import Limit
from llm_gates.permit import ENDED, ENTERED, Acquired, Admission

__all__ = ["Passage"]


class Passage(Ledger):
    """Admits those who need not wait; the `Turnstile` sees to the others."""

    __slots__ = ()

    @property
    def busy(self) -> bool:
        """Whether a newcomer may not pass at once."""
        return self._busy

    @busy.setter
    def busy(self, busy: bool) -> None:
        self._busy = busy
        self.open = None if busy else self.alone

    def pass_through(self, permit: Admission) -> bool:
        """Admit `permit` at once if nothing stands in its way; the lock is held."""
        if permit.state or (self._busy and not self._clear_hold()):
            return False
        clock = self.monotonic_ns
        now = clock()
        # The usual weights without the call.
        costs = self.unit_costs or (
            self._pick((1, permit.tokens)) if self._by_tokens else self._costs_of(permit)
        )
        feedback = self.feedback
        if self.single is not None and feedback is None:
            entry = self.single.try_take(now, costs[0])
            if entry is None:
                return False
            permit.entries = (entry,)
        elif self.pair is not None:
            both = self._pass_both(now, costs)
            if both is None:
                return False
            permit.entries = both
        else:
            limits = self.limits
            for limit, cost in zip(limits, costs):  # noqa: B905 - strict costs a third of it
                if limit.used + cost > limit.capacity and _stands_in_the_way(limit, cost, now):
                    return False
            entries = []
            for limit, cost in zip(limits, costs):  # noqa: B905
                entries.append(limit.try_take(now, cost))
            if feedback is not None:
                entries.append(feedback.note(now, costs))
            permit.entries = entries
        permit.costs = costs
        permit.state = ENTERED
        self.in_flight += 1
        return True

    def _pass_both(self, now: int, costs: tuple[Any, ...]) -> tuple[Any, Any] | None:
        """Take requests and tokens, the usual set: a loop would cost as much as all the rest."""
        assert self.pair is not None
        first, second = self.pair
        one, other = costs
        if first.used + one > first.capacity and first.plan(now, one):
            return None
        if second.used + other > second.capacity and second.plan(now, other):
            return None
        return first.try_take(now, one), second.try_take(now, other)

    def acquire_both(self, tokens: int) -> Acquired | None:
        """Admit a call that has ended for the gate at once, by requests and tokens; None if it must wait."""
        self.key.get()
        try:
            if self._busy:
                return None
            costs = self._pick((1, tokens))
            clock = self.monotonic_ns
            entries = self._pass_both(clock(), costs)
        finally:
            self.key.put(None)
            if self.errands:
                self.door.tidy()
        if entries is None:
            return None
        permit = Acquired()
        permit.turnstile = self  # type: ignore[assignment]
        permit.tokens = tokens
        permit.output_tokens = None
        permit.costs = costs
        permit.entries = entries
        permit.state = ENDED
        return permit

    def _clear_hold(self) -> bool:
        """Return whether what stood in a newcomer's way has ended by itself."""
        return False


def _stands_in_the_way(limit: Limit, cost: Any, now: int) -> bool:
    """Return whether a limit that seems to be full makes the call wait; raise what it refuses the call with."""
    if limit.refuses and (error := limit.refusal(now, cost)):
        raise error
    return limit.plan(now, cost) > 0
