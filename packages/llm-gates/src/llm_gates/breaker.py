"""A circuit breaker that is one more limit in the queue: it refuses instead of making calls wait."""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any, Self

from llm_core import CircuitOpen, Clock, ErrorInfo, InvalidValue, LLMError, Value, immutable
from llm_gates.gates import GateSet
from llm_gates.limits import NEVER, UNLIMITED, Limit, Metric

__all__ = ["BreakerChange", "BreakerPolicy", "BreakerState", "CircuitBreaker"]

_logger = logging.getLogger(__name__)

_SLICES = 10
"""Into how many slices the rolling window is divided; the oldest one is forgotten as a whole."""


class BreakerState(StrEnum):
    """What a circuit breaker does with calls."""

    CLOSED = "closed"
    """They pass, and their outcomes are counted."""
    OPEN = "open"
    """They are refused until the open time is over."""
    HALF_OPEN = "half_open"
    """A few probes pass, whose outcomes decide."""


@immutable
class BreakerChange(Value):
    """One change of state, for callbacks."""

    name: str
    before: BreakerState
    after: BreakerState
    reason: str
    open_seconds: float | None = None
    """How long the breaker stays open; None in other states and when it was forced open."""


@immutable
class BreakerPolicy(Value):
    """When a breaker opens, and for how long."""

    failure_rate: float = 0.5
    """The share of failures, from 0 to 1, at which it opens."""
    least_calls: int = 10
    """How many calls must have ended in the window before any rate means something."""
    window_seconds: float = 30.0
    slow_seconds: float | None = None
    """From which duration on a call is slow; None if duration does not matter."""
    slow_rate: float = 0.8
    """The share of slow calls at which it opens."""
    open_seconds: float = 5.0
    """How long it is open the first time; each time that the probes fail it is twice as long."""
    most_open_seconds: float = 300.0
    jitter: float = 0.2
    """The open time is multiplied by a random number between 1 - jitter and 1 + jitter."""
    probes: int = 1
    """How many calls may run when half open, and how many must succeed to close it."""

    def __post_init__(self) -> None:
        for field in ("failure_rate", "slow_rate"):
            if not 0 < getattr(self, field) <= 1:
                raise InvalidValue.of(field, getattr(self, field), "a share above 0, at most 1")
        for field in ("least_calls", "probes"):
            if getattr(self, field) < 1:
                raise InvalidValue.of(field, getattr(self, field), "a whole number of at least 1")
        for field in ("window_seconds", "open_seconds", "most_open_seconds"):
            if not getattr(self, field) > 0:
                raise InvalidValue.of(field, getattr(self, field), "a number above 0")
        if not 0 <= self.jitter < 1:
            raise InvalidValue.of("jitter", self.jitter, "a share of at least 0, below 1")


class BreakerLimit(Limit):
    """The state machine; an entry is ``(number of the state it was let in by, time it left)``."""

    __slots__ = (
        "_calm_until",
        "_forced",
        "_last_bad",
        "_on_change",
        "_open_until",
        "_openings",
        "_policy",
        "_probing",
        "_put_off",
        "_random",
        "_remembered_ns",
        "_slice_ns",
        "_slices",
        "_slow_ns",
        "_state_number",
        "_succeeded",
        "state",
    )

    holds = True
    refuses = True

    def __init__(
        self,
        policy: BreakerPolicy,
        *,
        name: str,
        random: Callable[[], float],
        on_change: Callable[[BreakerChange], None] | None = None,
    ) -> None:
        super().__init__(UNLIMITED, metric=Metric.REQUESTS, name=name)
        self._policy = policy
        self._random = random
        self.state = BreakerState.CLOSED
        self._on_change = on_change
        self._forced = False
        self._open_until = 0
        self._openings = 0
        # Results of calls that left in an earlier state say nothing about this one.
        self._state_number = 0
        self._probing = 0
        self._succeeded = 0
        # (end of the slice, calls, failures, slow calls)
        self._slices: deque[list[int]] = deque()
        self._slice_ns = round(policy.window_seconds * 1e9 / _SLICES)
        self._remembered_ns = self._slice_ns * (_SLICES - 1)
        self._last_bad = -NEVER
        # Until when a good call is only counted: nothing bad is in the window, and its newest slice lasts.
        self._calm_until = 0
        slow_seconds = policy.slow_seconds
        self._slow_ns = None if slow_seconds is None else round(slow_seconds * 1e9)

    def bind(self, clock: Clock, put_off: Callable[[Callable[[], None]], object]) -> None:
        """Take what puts callbacks off until the queue's lock is free."""
        self._put_off = put_off

    def refusal(self, now: int, cost: Any) -> LLMError | None:
        """Return CircuitOpen if the call may not go."""
        if self.state is BreakerState.CLOSED:
            return None
        if self._forced:
            return CircuitOpen(f"{self.name}: the circuit breaker was opened by hand")
        if self.state is BreakerState.OPEN and now >= self._open_until:
            self._change(BreakerState.HALF_OPEN, "the open time is over")
        if self.state is BreakerState.OPEN:
            seconds = (self._open_until - now) / 1e9
            return CircuitOpen(
                f"{self.name}: the provider is failing; the next try is in {seconds:.3f} s",
                retry_after=seconds,
                details={"breaker": self.name, "openings": self._openings},
            )
        if self._probing >= self._policy.probes:
            return CircuitOpen(
                f"{self.name}: {self._probing} probes find out whether the provider is back",
                details={"breaker": self.name, "probes": self._probing},
            )
        return None

    def plan(self, now: int, cost: Any) -> int:
        """Return 0: who is not refused need not wait."""
        return 0

    def try_take(self, now: int, cost: Any) -> Any:
        """Do as `take` and `stamp`: whoever is let in need not wait."""
        if self.used:
            self.take(cost)
        return (self._state_number, now)

    def take(self, cost: Any) -> Any:
        """Count a probe, if probes are what passes; return the number of the state."""
        if self.state is BreakerState.HALF_OPEN:
            self._probing += 1
        return self._state_number

    def drop(self, cost: Any, taken: Any = None) -> None:
        """Free the place, if it was a probe's."""
        if taken == self._state_number and self.state is BreakerState.HALF_OPEN:
            self._probing -= 1

    def stamp(self, now: int, cost: Any, taken: Any = None) -> Any:
        """Note in which state the call was let in, and when it left."""
        return (taken, now)

    def usage(self, now: int) -> Any:
        """Return the number of probes under way."""
        return self._probing

    def at_rest(self, now: int) -> bool:
        """Return whether it is closed by itself and has no recent outcomes to remember."""
        recent = self._slices and self._slices[-1][0] + self._policy.window_seconds * 1e9 > now
        return self.state is BreakerState.CLOSED and not self._forced and not recent

    def finish(self, entry: Any, cost: Any, now: int, error: ErrorInfo | None) -> None:
        """Count the outcome and draw the consequence."""
        number, left = entry
        if number != self._state_number:
            return
        slow = self._slow_ns is not None and now - left >= self._slow_ns
        if error is None and now < self._calm_until and not slow:
            self._slices[-1][1] += 1
        elif error is None:
            self._judge(now, failed=False, slow=slow)
        elif error.type.traits.trips_breaker:
            self._judge(now, failed=True, slow=slow)
        elif self.state is BreakerState.HALF_OPEN:
            # Neither good nor bad (a rate limit, a cancelled call): the next call is the probe.
            self._probing -= 1

    def _judge(self, now: int, *, failed: bool, slow: bool) -> None:
        if self.state is BreakerState.HALF_OPEN:
            self._probing -= 1
            if failed or slow:
                self._open(now, "a probe was too slow" if not failed else "a probe failed")
                return
            self._succeeded += 1
            if self._succeeded >= self._policy.probes:
                self._openings = 0
                self._change(BreakerState.CLOSED, "the probes succeeded")
        elif self.state is BreakerState.CLOSED:
            reason = self._count(now, failed, slow)
            if reason is not None and not self._forced:
                self._open(now, reason)

    def _count(self, now: int, failed: bool, slow: bool) -> str | None:
        """Count a call into the rolling window; return why the breaker must open, if it must."""
        slices = self._slices
        while slices and slices[0][0] <= now - self._remembered_ns:
            slices.popleft()
        if not slices or slices[-1][0] <= now:
            slices.append([now + self._slice_ns, 0, 0, 0])
        last = slices[-1]
        last[1] += 1
        if failed or slow:
            last[2] += failed
            last[3] += slow
            self._last_bad = now
            self._calm_until = 0
        elif now - self._last_bad > self._remembered_ns + self._slice_ns:
            self._calm_until = last[0]
            return None
        policy = self._policy
        calls = failures = slow_calls = 0
        for _, ended, bad, late in slices:
            calls += ended
            failures += bad
            slow_calls += late
        if calls < policy.least_calls:
            return None
        if failures >= calls * policy.failure_rate and failures:
            return f"{failures} of {calls} calls failed"
        if slow_calls >= calls * policy.slow_rate and slow_calls:
            return f"{slow_calls} of {calls} calls were slow"
        return None

    def _open(self, now: int, reason: str) -> None:
        policy = self._policy
        # A float has no number for the doublings of a very long outage.
        grown = policy.open_seconds * math.exp2(min(self._openings, 64))
        seconds = min(grown, policy.most_open_seconds)
        seconds *= 1 + policy.jitter * (2 * self._random() - 1)
        self._openings += 1
        self._open_until = now + round(seconds * 1e9)
        self._change(BreakerState.OPEN, reason, open_seconds=seconds)

    def _change(
        self, state: BreakerState, reason: str, *, open_seconds: float | None = None
    ) -> None:
        self._state_number += 1
        self._probing = self._succeeded = 0
        self._slices.clear()
        self._calm_until = 0
        # Whoever comes finds it full unless it is closed, and has to ask for the `refusal`.
        self.used = 0 if state is BreakerState.CLOSED else UNLIMITED
        before, self.state = self.state, state
        if before is not state and self._on_change is not None:
            change = BreakerChange(
                name=self.name,
                before=before,
                after=state,
                reason=reason,
                open_seconds=open_seconds,
            )
            self._put_off(partial(_tell, self._on_change, change))

    def anew(self) -> Self:
        """Return a twin in the same state, which sends probes of its own."""
        twin = super().anew()
        twin._probing = 0
        twin._slices = deque(part.copy() for part in self._slices)
        return twin

    def force(self, state: BreakerState | None) -> None:
        """Hold a state by hand, or return to judging (None), from closed."""
        self._forced = state is not None
        self._openings = 0
        self._change(state or BreakerState.CLOSED, "by hand")


def _tell(listener: Callable[[BreakerChange], None], change: BreakerChange) -> None:
    try:
        listener(change)
    except Exception:
        _logger.exception("the callback of %s failed at %r", change.name, change)


class CircuitBreaker(GateSet):
    """Refuses calls with CircuitOpen while the provider is failing.

    Alone it is a gate like the others; in a `GateSet` it refuses before a call is put into the queue and again when
    the call would leave it.
    What is a failure says the error table of llm-core (`trips_breaker`): rate limits and mistakes of the caller do
    not count, nor do cancelled calls. A body of the `with` statement that ends without an exception and without
    ``permit.fail`` is a success.

    `on_change` is called after each change of state, never while a lock is held.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        name: str = "breaker",
        on_change: Callable[[BreakerChange], None] | None = None,
        random: Callable[[], float] = random.random,
        clock: Clock | None = None,
    ) -> None:
        breaker = BreakerLimit(
            policy or BreakerPolicy(), name=name, random=random, on_change=on_change
        )
        self._build([breaker], clock=clock)

    @property
    def _breaker(self) -> BreakerLimit:
        breaker = self._limits[0]
        assert isinstance(breaker, BreakerLimit)
        return breaker

    @property
    def state(self) -> BreakerState:
        """What it does now; an open breaker whose time is over says open until the next call asks."""
        return self._breaker.state

    def force_open(self) -> None:
        """Refuse every call until told otherwise."""
        self._force(BreakerState.OPEN)

    def force_closed(self) -> None:
        """Let every call pass until told otherwise, whatever happens to it."""
        self._force(BreakerState.CLOSED)

    def reset(self) -> None:
        """Forget everything and judge anew, from closed."""
        self._force(None)

    def _force(self, state: BreakerState | None) -> None:
        turnstile = self._turnstile
        with turnstile.door:
            self._breaker.force(state)
        turnstile.pump()
