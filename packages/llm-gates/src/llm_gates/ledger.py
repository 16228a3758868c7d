"""What calls weigh on a set of limits, and how that is corrected while they run and afterwards.

The queue in front of the limits is the `Turnstile`'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from llm_core import Clock, ErrorInfo, ErrorType, InvalidValue, LLMError, SystemClock
from llm_gates.estimates import LearnedEstimates
from llm_gates.feedback import Feedback, LaneFeedback
from llm_gates.limits import Charge, Limit, Metric
from llm_gates.permit import CANCELLED, ENDED, ENTERED, Admission, GatePermit

if TYPE_CHECKING:
    from llm_gates.breaker import BreakerChange, BreakerLimit

__all__ = ["Ledger"]

_logger = logging.getLogger(__name__)

_NOT_SENT = ErrorInfo.of(ErrorType.CANCELLED, "the call was never sent")


def check_weights(tokens: int, output_tokens: int | None, cost: Decimal | None) -> None:
    """Raise InvalidValue for a weight that would make room in a limit, or spoil its sums."""
    if not tokens >= 0:
        raise InvalidValue.of("tokens", tokens, "a whole number of at least 0")
    if output_tokens is not None and not output_tokens >= 0:
        raise InvalidValue.of(
            "output_tokens", output_tokens, "a whole number of at least 0, or None"
        )
    if cost is None:
        return
    if not isinstance(cost, (Decimal, int)) or not Decimal(cost).is_finite() or cost < 0:
        raise InvalidValue.of("cost", cost, "a Decimal of at least 0, or None")


class Ledger:
    """The books of one set of limits, under one lock that is never held while somebody waits."""

    __slots__ = (
        "_busy",
        "_by_key",
        "_by_tokens",
        "_metrics",
        "_pair",
        "_pick",
        "_refusing",
        "alone",
        "clock",
        "feedback",
        "free_lock",
        "holds",
        "in_flight",
        "learned",
        "limits",
        "listeners",
        "lock",
        "monotonic_ns",
        "open",
        "short",
        "single",
        "take_lock",
        "unit_costs",
        "weighs",
    )

    def __init__(
        self, limits: Iterable[Limit], *, clock: Clock | None, learned: LearnedEstimates | None
    ) -> None:
        self.learned = learned
        self.limits = tuple(limits)
        self.clock = clock or SystemClock()
        self.lock = threading.Lock()
        # On the shortest path these two are half the price of `with lock`.
        self.take_lock = self.lock.acquire
        self.free_lock = self.lock.release
        self.in_flight = 0
        self.feedback: Feedback | LaneFeedback | None = None
        self.monotonic_ns = self.clock.monotonic_ns
        self._metrics = tuple(int(limit.metric) for limit in self.limits)
        self._pick = itemgetter(*self._metrics) if self._metrics else tuple
        self._by_tokens = len(self.limits) > 1 and max(self._metrics) <= Metric.TOKENS
        self.single = self.limits[0] if len(self.limits) == 1 else None
        self._pair = self.limits if len(self.limits) == 2 else None
        self._by_key = Metric.KEYED_COST in self._metrics
        self.unit_costs = (1,) * len(self.limits) if not any(self._metrics) else None
        self._refusing = tuple(
            (place, limit) for place, limit in enumerate(self.limits) if limit.refuses
        )
        self.holds = tuple((place, limit) for place, limit in enumerate(self.limits) if limit.holds)
        # Whether a newcomer may not pass at once: somebody waits already, or a hold is on.
        self._busy = False
        # The limit, if there is nothing else to look at.
        plain = len(self.limits) == 1 and learned is None
        plain = plain and not self.holds and not self._refusing
        plain = plain and self._metrics[0] <= Metric.INPUT_TOKENS
        self.alone = self.limits[0] if plain else None
        # The same while nobody waits, else None: what the shortest path looks at.
        self.open = self.alone
        # Whether the end of a call is nobody's business.
        self.short = not self.holds
        self.weighs = self.unit_costs is None
        self.listeners: list[tuple[BreakerLimit, Callable[[BreakerChange], None]]] = []
        for limit in self.limits:
            limit.bind(self.clock)

    def _after_change(self, now: int) -> None:
        """Let those go who fit now; the lock is held, and somebody waits."""

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

    def finish(self, permit: GatePermit) -> None:
        """End a call: what is held only while it runs goes back."""
        self.take_lock()
        try:
            if permit.state != ENTERED:
                return
            permit.state = ENDED
            self.in_flight -= 1
            if self.feedback is not None:
                self.feedback.ended(self.monotonic_ns(), permit)
            if self.holds and permit.entries:
                self._let_go(permit, self.monotonic_ns())
        finally:
            self.free_lock()
        if self.listeners:
            self.announce()

    def _let_go(self, permit: GatePermit, now: int) -> None:
        for place, limit in self.holds:
            limit.finish(permit.entries[place], permit.costs[place], now, permit.outcome)
        if self._busy:
            self._after_change(now)

    def cancel(self, permit: GatePermit) -> None:
        """Give back everything that a call which was never sent had reserved, its slot included."""
        with self.lock:
            state = permit.state
            if state not in (ENTERED, ENDED) or not permit.entries:
                return
            now = self.monotonic_ns()
            for limit, entry, cost in zip(self.limits, permit.entries, permit.costs, strict=True):
                limit.cancel(entry, cost, now)
            if self.feedback is not None:
                self.feedback.forget(permit)
            if state == ENTERED:
                self.in_flight -= 1
                permit.outcome = permit.outcome or _NOT_SENT
                self._let_go(permit, now)
            elif self._busy:
                self._after_change(now)
            permit.state = CANCELLED
            permit.entries = ()
        if self.listeners:
            self.announce()

    def settle(
        self, permit: GatePermit, tokens: int, output_tokens: int | None, cost: Decimal | None
    ) -> None:
        """Correct what a call weighs; InvalidValue leaves it as it was."""
        if not tokens >= 0 or output_tokens is not None or cost is not None:
            check_weights(tokens, output_tokens, cost)
        self.take_lock()
        try:
            entries = permit.entries
            if not entries or (len(self.limits) > 1 and permit.state < ENTERED):
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
            if self.unit_costs is not None:
                return
            after = permit.costs = self._costs_of(permit)
            if before != after:
                self._correct(entries, before, after)
        finally:
            self.free_lock()

    def _correct(
        self, entries: tuple[Any, ...], before: tuple[Any, ...], after: tuple[Any, ...]
    ) -> None:
        now = self.monotonic_ns()
        place = 0
        for limit in self.limits:
            old, new = before[place], after[place]
            if old != new:
                limit.settle(entries[place], old, new, now)
            place += 1  # noqa: SIM113 - enumerate makes a tuple for each
        if self._busy:
            self._after_change(now)

    def listen(self, breaker: BreakerLimit, listener: Callable[[BreakerChange], None]) -> None:
        """Call `listener` after each change of `breaker`."""
        self.listeners.append((breaker, listener))

    def announce(self) -> None:
        """Tell the listeners what has changed; the lock is not held."""
        for breaker, listener in self.listeners:
            while breaker.notices:
                change = breaker.notices.popleft()
                try:
                    listener(change)
                except Exception:
                    _logger.exception("the callback of %s failed at %r", breaker.name, change)
