"""The gates that users build: names, defaults and documentation over one `Turnstile`."""

from __future__ import annotations

from decimal import Decimal

from llm_core import Clock, InvalidValue, RateLimitFacts
from llm_gates.limits import ConcurrencyLimit, Limit, Metric
from llm_gates.permit import NEW, AsyncAdmission, GatePermit, SyncAdmission
from llm_gates.turnstile import Turnstile, needs_of

__all__ = ["ConcurrencyGate", "GateSet"]


class GateSet:
    """Any number of limits, taken together or not at all, in one queue.

    Satisfies the `Gate` interface of llm-core.
    Tasks of any event loop and threads wait in the same queue, first come, first served.
    """

    def __init__(
        self,
        *gates: GateSet,
        clock: Clock | None = None,
        max_queue: int | None = None,
        aging_seconds: float = 30.0,
    ) -> None:
        self._limits: tuple[Limit, ...] = tuple(limit for gate in gates for limit in gate._limits)
        self._turnstile = Turnstile(
            self._limits, clock=clock, max_queue=max_queue, aging_seconds=aging_seconds
        )

    def admit(
        self,
        *,
        tokens: int = 0,
        output_tokens: int | None = None,
        cost: Decimal | None = None,
        key: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> AsyncAdmission:
        """Wait for the right to make one call: ``async with gates.admit(tokens=1200) as permit:``.

        `tokens` is the estimate for input and output together and `output_tokens` its part for the output.
        `cost` is the worst case in money, `key` whom to count it for.
        `timeout` is the longest wait in seconds, None for ever; calls of a higher `priority` go first.

        Entering raises CostExceedsLimit, QueueFull, GateTimeout, CircuitOpen or BudgetDenied, each as soon as it
        is known; nothing is kept of a call that was not admitted.
        """
        permit = AsyncAdmission()
        self._fill(permit, tokens, output_tokens, cost, key, timeout, priority)
        return permit

    def admit_sync(
        self,
        *,
        tokens: int = 0,
        output_tokens: int | None = None,
        cost: Decimal | None = None,
        key: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> SyncAdmission:
        """Do the same from a thread, which blocks while it waits: ``with gates.admit_sync() as permit:``."""
        permit = SyncAdmission()
        self._fill(permit, tokens, output_tokens, cost, key, timeout, priority)
        return permit

    def _fill(
        self,
        permit: GatePermit,
        tokens: int,
        output_tokens: int | None,
        cost: Decimal | None,
        key: str | None,
        timeout: float | None,
        priority: int,
    ) -> None:
        permit.turnstile = self._turnstile
        permit.needs = needs_of(tokens, output_tokens, cost)
        permit.key = key
        permit.timeout = timeout
        permit.priority = priority
        permit.state = NEW
        permit.cancelled = False
        permit.outcome = permit.waited_for = permit.future = permit.signal = permit.deadline = None
        permit.wait_ns = 0

    def observe(self, facts: RateLimitFacts) -> None:
        """Correct the limits by what the provider's headers said."""
        if facts.retry_after is not None:
            self.hold(facts.retry_after)

    def hold(self, seconds: float) -> None:
        """Admit nobody for `seconds` from now: the provider asked for it (Retry-After)."""
        self._turnstile.hold(seconds)


class ConcurrencyGate(GateSet):
    """At most `limit` calls at the same time."""

    def __init__(
        self,
        limit: int,
        *,
        name: str = "concurrency",
        clock: Clock | None = None,
        max_queue: int | None = None,
    ) -> None:
        if not isinstance(limit, int) or limit < 1:
            raise InvalidValue.of("limit", limit, "a whole number of at least 1")
        self._limits = (ConcurrencyLimit(limit, metric=Metric.REQUESTS, name=name),)
        self._turnstile = Turnstile(self._limits, clock=clock, max_queue=max_queue)
