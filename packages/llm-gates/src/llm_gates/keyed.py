"""Gates per tenant, API key or model, made on demand, with fair shares of a common limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from decimal import Decimal

from llm_core import Clock, InvalidValue, RateLimitFacts, SystemClock, begin_anew_in_children
from llm_gates.fair import CommonLane, FairQueue, Lane
from llm_gates.gates import GateSet
from llm_gates.permit import AsyncAdmission, GatePermit, SyncAdmission
from llm_gates.snapshot import GateSnapshot
from llm_gates.weights import check_limit, check_seconds

__all__ = ["KeyedGates"]

_REST_NS = 60_000_000_000
"""How long a key must not have been asked for before it may be forgotten, besides being idle."""


class KeyedGates:
    """A gate for every key, made by `factory` when the key is first seen; satisfies the `Gate` interface.

    Each key has its own queue. With a `parent` the calls of all keys also count against its limits, and where these
    are scarce the keys are served in turn by their `weights` (1 where nothing is said), so that one tenant's flood
    does not starve another; a weight of 2 gets twice the share of a weight of 1. The parent's `max_queue` is the most
    that may wait of all keys together, and its `aging_seconds` holds for keys whose own gate says nothing.

    From `most_keys` on, keys are forgotten that have nobody waiting, nothing in flight and nothing left in any
    window. A key that still counts is never forgotten, so there can be more of them than `most_keys`.

    A forked child goes on by itself, as with a `GateSet`.
    """

    def __init__(
        self,
        factory: Callable[[str], GateSet],
        *,
        parent: GateSet | None = None,
        weights: Mapping[str, float] | Callable[[str], float] | None = None,
        most_keys: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        check_limit(most_keys, "most_keys")
        self._factory = factory
        self._weights = weights
        self._most_keys = most_keys
        self._sweep_at = most_keys
        self._clock = clock or (parent._clock if parent else None) or SystemClock()
        self._lock = threading.Lock()
        self._gates: dict[str, GateSet] = {}
        self._asked: dict[str, int] = {}
        self._queue: FairQueue | None = None
        self._parent = parent
        self._held_until = 0
        self._aging_seconds: float | None = None
        self._learned = parent._turnstile.learned if parent is not None else None
        if parent is not None:
            turnstile = parent._turnstile
            self._queue = FairQueue(
                parent._limits, clock=self._clock, max_queue=turnstile.max_queue
            )
            self._aging_seconds = turnstile.aging_seconds
            parent._enter(CommonLane((), self._queue))
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Wait for no other thread, and serve the keys in a round of this process; their gates begin by themselves."""
        self._lock = threading.Lock()
        self._asked = {name: asked for name, asked in self._asked.items() if name in self._gates}
        if self._queue is not None:
            self._queue = self._queue.anew()

    def __len__(self) -> int:
        """Return the number of keys kept."""
        return len(self._gates)

    def gate(self, key: str | None) -> GateSet:
        """Return the gate of `key`, made now if it is new; None is the key ``""``.

        Ask again for each call: an idle gate may be forgotten a minute after it was last asked for.
        """
        name = key or ""
        with self._lock:
            self._asked[name] = self._clock.monotonic_ns()
            gate = self._gates.get(name)
            if gate is None:
                if len(self._gates) >= self._sweep_at:
                    self._sweep()
                gate = self._gates[name] = self._make(name)
            return gate

    def _make(self, name: str) -> GateSet:
        gate = self._factory(name)
        held_ns = self._held_until - self._clock.monotonic_ns()
        if held_ns > 0:
            gate.hold(held_ns / 1e9)
        if self._queue is not None:
            turnstile = gate._turnstile
            gate._enter(
                Lane(
                    gate._limits,
                    self._queue,
                    weight=self._weight(name),
                    max_queue=turnstile.max_queue,
                    aging_seconds=turnstile.aging_seconds or self._aging_seconds,
                    learned=turnstile.learned or self._learned,
                )
            )
        return gate

    def _weight(self, name: str) -> float:
        weights = self._weights
        if weights is None:
            return 1.0
        weight = weights(name) if callable(weights) else weights.get(name, 1.0)
        if not weight > 0:
            raise InvalidValue.of(f"weights[{name!r}]", weight, "a number above 0")
        return weight

    def _sweep(self) -> None:
        """Forget idle keys; amortised, because the next time is when as many again have come."""
        rested = self._clock.monotonic_ns() - _REST_NS
        for name in [name for name, asked in self._asked.items() if asked <= rested]:
            if self._is_idle(self._gates[name]):
                del self._gates[name], self._asked[name]
        self._sweep_at = max(self._most_keys, 2 * len(self._gates))

    def _is_idle(self, gate: GateSet) -> bool:
        turnstile = gate._turnstile
        return turnstile.lane_idle if isinstance(turnstile, Lane) else turnstile.idle

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
        """Wait for the right to make one call for `key`; see `GateSet.admit`."""
        return self.gate(key).admit(
            tokens=tokens,
            output_tokens=output_tokens,
            cost=cost,
            key=key,
            timeout=timeout,
            priority=priority,
        )

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
        """Do the same from a thread, which blocks while it waits."""
        return self.gate(key).admit_sync(
            tokens=tokens,
            output_tokens=output_tokens,
            cost=cost,
            key=key,
            timeout=timeout,
            priority=priority,
        )

    def observe(
        self,
        facts: RateLimitFacts,
        *,
        permit: GatePermit | None = None,
        key: str | None = None,
    ) -> None:
        """Correct the common limits, or without a parent those of `key`, by what the provider's headers said."""
        gate = self._addressed(key)
        if gate is not None:
            gate.observe(facts, permit=permit)
        elif facts.retry_after is not None:
            self.hold(facts.retry_after)

    def hold(self, seconds: float, *, key: str | None = None) -> None:
        """Admit nobody, or nobody of `key`, for `seconds` from now."""
        check_seconds("seconds", seconds)
        if key is not None:
            self.gate(key).hold(seconds)
        elif self._queue is not None:
            self._queue.hold(seconds)
        else:
            with self._lock:
                # Keys that come later are held as well.
                until = self._clock.monotonic_ns() + round(seconds * 1e9)
                self._held_until = max(self._held_until, until)
                gates = list(self._gates.values())
            for gate in gates:
                gate.hold(seconds)

    def snapshot(self, *, key: str | None = None) -> GateSnapshot:
        """Return the state of `key`, or of the common limits with what waits and runs for all keys."""
        if key is not None:
            return self.gate(key).snapshot()
        with self._lock:
            gates = list(self._gates.values())
        limits = self._parent.snapshot().limits if self._parent is not None else ()
        held = 0.0
        if self._queue is not None:
            held = max(self._queue.held_until - self._clock.monotonic_ns(), 0) / 1e9
        return GateSnapshot(
            limits=limits,
            in_flight=sum(gate._turnstile.in_flight for gate in gates),
            queued=sum(gate._turnstile.queued for gate in gates),
            held_seconds=held,
        )

    def _addressed(self, key: str | None) -> GateSet | None:
        return self.gate(key) if key is not None else self._parent
