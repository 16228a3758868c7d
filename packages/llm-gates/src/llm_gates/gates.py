"""What users build: names, defaults and documentation over one `Turnstile`."""

from __future__ import annotations

import math
from decimal import Decimal

from llm_core import (
    Clock,
    ConfigurationError,
    InvalidValue,
    RateLimitFacts,
    begin_anew_in_children,
)
from llm_gates.estimates import LearnedEstimates
from llm_gates.limits import Limit
from llm_gates.permit import ENDED, Acquired, AsyncAdmission, GatePermit, SyncAdmission
from llm_gates.snapshot import GateSnapshot
from llm_gates.turnstile import Turnstile
from llm_gates.weights import check_estimate, check_weights

__all__ = ["GateSet"]


class GateSet:
    """Any number of limits, taken together or not at all, in one queue.

    Satisfies the `Gate` interface of llm-core.
    Tasks of any event loop and threads wait in the same queue, first come, first served.
    A gate that was put into a set admits through the set from then on, so that it cannot be passed by another way.
    Calls that it has in flight by then go on and give back to the set; if calls wait at it, ConfigurationError is
    raised.

    `max_queue` is the most that may wait; `aging_seconds` is how much longer than a call of the next higher priority
    one must have waited to go before it (30 where nothing is said); `learned` makes reservations learn from what
    calls really used, and is by default that of the first set among `gates` which has one.
    The set's own `max_queue` and `aging_seconds` count, not those of `gates`.

    A forked child goes on by itself, whatever the parent's threads were doing: what was sent counts there too, and
    nobody waits or runs. Permits that it has inherited belong to the parent, and give nothing back in the child.
    """

    _turnstile: Turnstile
    _members: tuple[GateSet, ...] = ()
    """The gates that the set was made of."""

    def __init__(
        self,
        *gates: GateSet,
        clock: Clock | None = None,
        max_queue: int | None = None,
        aging_seconds: float | None = None,
        learned: LearnedEstimates | None = None,
    ) -> None:
        if max_queue is not None and max_queue < 0:
            raise InvalidValue.of("max_queue", max_queue, "a number of at least 0, or None")
        if aging_seconds is not None and not 0 < aging_seconds < math.inf:
            raise InvalidValue.of("aging_seconds", aging_seconds, "a finite number above 0")
        limits = [limit for gate in gates for limit in gate._limits]
        if learned is None:
            learned = next((g._turnstile.learned for g in gates if g._turnstile.learned), None)
        clocks = [gate._clock for gate in gates if gate._clock is not None]
        self._build(
            limits,
            clock=clock or (clocks[0] if clocks else None),
            max_queue=max_queue,
            aging_seconds=aging_seconds,
            learned=learned,
        )
        self._members = gates
        for gate in gates:
            gate._enter(self._turnstile)

    def _build(
        self,
        limits: list[Limit],
        *,
        clock: Clock | None,
        max_queue: int | None = None,
        aging_seconds: float | None = None,
        learned: LearnedEstimates | None = None,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._in_set = False
        self._turnstile = Turnstile(
            limits,
            clock=clock,
            max_queue=max_queue,
            aging_seconds=aging_seconds,
            learned=learned,
        )
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Leave what waits and runs to the parent; runs in a forked child before anything else does."""
        left = self._turnstile
        # Gates with one queue each find the same twin, whichever of them comes first.
        self._turnstile = left.anew()
        twins = dict(zip(map(id, left.limits), self._turnstile.limits, strict=True))
        self._limits = [twins[id(limit)] for limit in self._limits]

    def _enter(self, turnstile: Turnstile) -> None:
        """Admit through another queue from now on."""
        if self._in_set:
            raise ConfigurationError(f"gates: {self!r} belongs to another set already")
        self._turnstile.give_way(turnstile)
        self._in_set = True
        self._turnstile = turnstile

    def __repr__(self) -> str:
        names = ", ".join(f"{limit.name} {limit.capacity}" for limit in self._limits)
        return f"<{type(self).__name__} {names}>"

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

        `tokens` is the estimate for input and output together and `output_tokens` its part for the output; without
        it all counts as input.
        `cost` is the worst case in money, `key` whom to count it for.
        `timeout` is the longest wait in seconds, None for ever; calls of a higher `priority` go first.

        Raises InvalidValue for a weight below 0, or more output than tokens.
        Entering raises CostExceedsLimit, QueueFull, GateTimeout, CircuitOpen or BudgetDenied, each as soon as it
        is known; nothing is kept of a call that was not admitted.
        """
        permit = AsyncAdmission()
        permit.turnstile = turnstile = self._turnstile
        if (
            tokens.__class__ is not int
            or tokens < 0
            or (
                output_tokens is not None
                and (output_tokens.__class__ is not int or not 0 <= output_tokens <= tokens)
            )
            or cost is not None
        ):
            check_estimate(tokens, output_tokens, cost)
        permit.tokens = tokens
        permit.output_tokens = output_tokens
        permit.cost = cost
        permit.key = key
        permit.timeout = timeout
        permit.priority = priority
        permit.outcome = permit.waited_for = None
        permit.state = permit.wait_ns = 0
        permit.entries = ()
        if turnstile.learned is not None:
            turnstile.estimate(permit)
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
        permit.turnstile = turnstile = self._turnstile
        if (
            tokens.__class__ is not int
            or tokens < 0
            or (
                output_tokens is not None
                and (output_tokens.__class__ is not int or not 0 <= output_tokens <= tokens)
            )
            or cost is not None
        ):
            check_estimate(tokens, output_tokens, cost)
        permit.tokens = tokens
        permit.output_tokens = output_tokens
        permit.cost = cost
        permit.key = key
        permit.timeout = timeout
        permit.priority = priority
        permit.outcome = permit.waited_for = None
        permit.state = permit.wait_ns = 0
        permit.entries = ()
        if turnstile.learned is not None:
            turnstile.estimate(permit)
        return permit

    async def acquire(self, tokens: int = 0) -> GatePermit:
        """Wait for the right to make one call, without a `with` statement; the shortest way for rate limits.

        A gate with concurrency slots gets its slot back by ``permit.release()``, which the caller must not forget.
        Without such slots the call is over for the gate at once; it can still be settled and cancelled.
        """
        if tokens and (tokens.__class__ is not int or tokens < 0):
            check_weights(tokens)
        turnstile = self._turnstile
        # One name for all kinds: every name in this frame costs each waiter eight bytes.
        permit: Acquired | AsyncAdmission | None
        if turnstile.alone is not None:
            # One rate limit and nothing else: the whole admission stands here, without a further call.
            turnstile.key.get()
            try:
                if turnstile.open is not None:
                    # The call of an attribute that is no method takes a slow way, the call of a name does not.
                    clock = turnstile.monotonic_ns
                    entry = turnstile.open.try_take(clock(), tokens if turnstile.weighs else 1)
                    if entry is not None:
                        permit = Acquired()
                        permit.turnstile = turnstile
                        permit.entry = entry
                        permit.state = ENDED
                        if tokens:
                            permit.tokens = tokens
                        return permit
            finally:
                turnstile.key.put(None)
                if turnstile.errands:
                    turnstile.door.tidy()
        elif turnstile.pair is not None:
            permit = turnstile.acquire_both(tokens)
            if permit is not None:
                return permit
        permit = self.admit(tokens=tokens)
        # The wait stands here because a coroutine of its own would cost each waiter a quarter more memory.
        future = turnstile.begin(permit)
        while future is not None:
            try:
                await future
            except BaseException:
                turnstile.door.do(turnstile.withdraw, permit)
                raise
            future = turnstile.leave(permit, over=True)
        return permit

    def acquire_sync(self, tokens: int = 0) -> GatePermit:
        """Do what `acquire` does from a thread, which blocks while it waits."""
        if tokens and (tokens.__class__ is not int or tokens < 0):
            check_weights(tokens)
        turnstile = self._turnstile
        with turnstile.door:
            limit = turnstile.open
            if limit is not None:
                entry = limit.try_take(turnstile.monotonic_ns(), tokens if turnstile.weighs else 1)
                if entry is not None:
                    permit = Acquired()
                    permit.turnstile = turnstile
                    permit.tokens = tokens
                    permit.entry = entry
                    permit.state = ENDED
                    return permit
        admission = self.admit_sync(tokens=tokens)
        admission.__enter__()
        if not turnstile.holds:
            admission.release()
        return admission

    def observe(self, facts: RateLimitFacts, *, permit: GatePermit | None = None) -> None:
        """Correct the limits by what the provider's headers said.

        What the provider has counted beyond our own calls was used by others: it is allowed for, and so is what they
        are expected to use until the next reply.
        `permit` is the one of the call whose reply carried the headers: it tells how old they are. Without it they
        are taken to be as old as calls last on average.
        """
        self._turnstile.observe(facts, permit)
        if facts.retry_after is not None:
            self.hold(facts.retry_after)

    def hold(self, seconds: float) -> None:
        """Admit nobody for `seconds` from now: the provider asked for it (Retry-After)."""
        self._turnstile.hold(seconds)

    def snapshot(self) -> GateSnapshot:
        """Return used and remaining of every limit, calls in flight and in the queue, as an immutable value."""
        return self._turnstile.snapshot()
