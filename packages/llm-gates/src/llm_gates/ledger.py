"""What calls weigh on a set of limits, and how that is corrected while they run and afterwards.

The queue in front of the limits is the `Turnstile`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from operator import itemgetter
from typing import Any

from llm_core import Clock, ErrorInfo, ErrorType, LLMError, SystemClock
from llm_gates.door import Door
from llm_gates.estimates import LearnedEstimates
from llm_gates.feedback import Feedback, LaneFeedback
from llm_gates.limits import Charge, Limit, Metric
from llm_gates.permit import CANCELLED, ENDED, ENTERED, Admission, GatePermit

__all__ = ["Ledger"]

_NOT_SENT = ErrorInfo.of(ErrorType.CANCELLED, "the call was never sent")


class Ledger:
    """The books of one set of limits, under one lock that is never held while somebody waits."""

    __slots__ = (
        "_busy",
        "_by_key",
        "_by_tokens",
        "_by_weight",
        "_metrics",
        "_noted_at",
        "_pick",
        "_refusing",
        "alone",
        "clock",
        "door",
        "errands",
        "feedback",
        "holds",
        "in_flight",
        "key",
        "learned",
        "limits",
        "monotonic_ns",
        "open",
        "pair",
        "shared",
        "short",
        "single",
        "unit_costs",
        "weighs",
    )

    def __init__(
        self,
        limits: Iterable[Limit],
        *,
        clock: Clock | None,
        learned: LearnedEstimates | None,
        door: Door | None = None,
    ) -> None:
        self.learned = learned
        self.limits = tuple(limits)
        # Where what the books on the headers remember a call by stands, of calls that left since there are any.
        self._noted_at = len(self.limits)
        self.clock = clock or SystemClock()
        self.door = door or Door()
        # Where every nanosecond counts, these two stand for `with door`.
        self.key = self.door.key
        self.errands = self.door.errands
        self.in_flight = 0
        self.feedback: Feedback | LaneFeedback | None = None
        self.monotonic_ns = self.clock.monotonic_ns
        self._metrics = tuple(int(limit.metric) for limit in self.limits)
        self._pick = itemgetter(*self._metrics) if self._metrics else tuple
        self._by_tokens = len(self.limits) > 1 and max(self._metrics) <= Metric.TOKENS
        # The limit, if it is the only one and says no more than how long to wait.
        self.single = (
            self.limits[0] if len(self.limits) == 1 and not self.limits[0].refuses else None
        )
        self._by_key = Metric.KEYED_COST in self._metrics
        self.unit_costs = (1,) * len(self.limits) if not any(self._metrics) else None
        # What a call weighs there may be corrected; on requests it is 1 and stays so.
        self._by_weight = tuple(
            (place, limit) for place, limit in enumerate(self.limits) if self._metrics[place]
        )
        self._refusing = tuple(
            (place, limit) for place, limit in enumerate(self.limits) if limit.refuses
        )
        self.holds = tuple((place, limit) for place, limit in enumerate(self.limits) if limit.holds)
        # Whether a newcomer may not pass at once: somebody waits already, or a hold is on.
        self._busy = False
        plain = learned is None and not self.holds and not self._refusing
        # Whether others than those of this queue may wait for the same limits.
        self.shared = False
        # The limit, if there is nothing else to look at.
        alone = plain and len(self.limits) == 1 and self._metrics[0] <= Metric.INPUT_TOKENS
        self.alone = self.limits[0] if alone else None
        # Both limits, if there is nothing else to look at than requests and tokens.
        self.pair = self.limits if plain and self._by_tokens and len(self.limits) == 2 else None
        # The same while nobody waits, else None: what the shortest path looks at.
        self.open = self.alone
        # Whether the end of a call is nobody's business.
        self.short = not self.holds
        self.weighs = self.unit_costs is None
        for limit in self.limits:
            limit.bind(self.clock, self.door.announce)

    def _after_change(self, now: int) -> None:
        """Let those go who fit now; the lock is held."""

    def _costs_of(self, permit: GatePermit) -> tuple[Any, ...]:
        if self._by_tokens:
            return self._pick((1, permit.tokens))
        if not self.limits:
            return ()
        tokens, output = permit.tokens, permit.output_tokens or 0
        money = permit.cost or 0
        charge = Charge.of(permit.key, Decimal(money)) if self._by_key else money
        costs = self._pick((1, tokens, max(tokens - output, 0), output, money, charge))
        return costs if len(self.limits) > 1 else (costs,)

    def _refusal(self, costs: tuple[Any, ...], now: int) -> LLMError | None:
        for place, limit in self._refusing:
            if error := limit.refusal(now, costs[place]):
                return error
        return None

    def estimate(self, permit: Admission) -> None:
        """Reserve what was learned instead of what the caller estimated, but no more than can ever pass."""
        assert self.learned is not None
        permit.estimate = permit.tokens, permit.output_tokens
        permit.tokens, permit.output_tokens = self.learned.adjust(
            permit.key, permit.tokens, permit.output_tokens
        )
        for limit, cost in zip(self.limits, self._costs_of(permit), strict=True):
            if cost > limit.capacity:
                permit.tokens, permit.output_tokens = permit.estimate
                return

    def left_at(self, permit: GatePermit) -> int | None:
        """Return when a call left the gate; None of one that left before there were books, or has not."""
        if permit.state < ENTERED:
            return None
        entries = permit.entries
        left: int | None = entries[-1][1] if len(entries) > self._noted_at else None
        return left

    def finish(self, permit: GatePermit) -> None:
        """End a call: what is held only while it runs goes back; the lock is held."""
        if permit.state != ENTERED:
            return
        permit.state = ENDED
        self.in_flight -= 1
        clock = self.monotonic_ns
        now = clock()
        entries = permit.entries
        if self.feedback is not None and len(entries) > self._noted_at:
            self.feedback.ended(now, entries[-1])
        if self.holds and entries:
            costs, outcome = permit.costs, permit.outcome
            for place, limit in self.holds:
                limit.finish(entries[place], costs[place], now, outcome)
            if self._busy or self.shared:
                self._after_change(now)

    def cancel(self, permit: GatePermit) -> None:
        """Give back everything that a call which was never sent had reserved; the lock is held."""
        state = permit.state
        if state not in (ENTERED, ENDED) or not permit.entries:
            return
        now = self.monotonic_ns()
        entries, costs = permit.entries, permit.costs
        for limit, entry, cost in zip(self.limits, entries, costs, strict=False):
            limit.cancel(entry, cost, now)
        if self.feedback is not None and len(entries) > self._noted_at:
            self.feedback.forget(entries[-1], costs)
        if state == ENTERED:
            self.in_flight -= 1
            for place, limit in self.holds:
                outcome = permit.outcome or _NOT_SENT
                limit.finish(entries[place], costs[place], now, outcome)
        if self._busy or self.shared:
            self._after_change(now)
        permit.state = CANCELLED
        permit.entries = ()

    def settle(
        self, permit: GatePermit, tokens: int, output_tokens: int | None, cost: Decimal | None
    ) -> None:
        """Correct what a call weighs, by weights that are in order; the lock is held."""
        entries = permit.entries
        if not entries or permit.state < ENTERED:
            return
        before = permit.costs
        permit.tokens = tokens
        if output_tokens is not None:
            permit.output_tokens = output_tokens
        elif permit.output_tokens is not None and permit.output_tokens > tokens:
            permit.output_tokens = tokens
        if cost is not None:
            permit.cost = cost
        if self.learned is not None and permit.estimate is not None:
            self.learned.learn(
                permit.key, estimated=permit.estimate, actual=(tokens, output_tokens)
            )
            permit.estimate = None
        if not self._by_weight:
            return
        # The usual case without the call.
        after = self._pick((1, tokens)) if self._by_tokens else self._costs_of(permit)
        if before == after:
            return
        permit.costs = after
        clock = self.monotonic_ns
        now = clock()
        for place, limit in self._by_weight:
            reserved, weighs = before[place], after[place]
            if reserved != weighs:
                limit.settle(entries[place], reserved, weighs, now)
        if self.feedback is not None and len(entries) > self._noted_at:
            self.feedback.correct(entries[-1], before, after)
        if self._busy or self.shared:
            self._after_change(now)
