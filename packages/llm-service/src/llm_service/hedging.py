"""A second attempt when the first one is unusually slow, within a budget; off unless asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from llm_core import InvalidValue, Value, immutable
from llm_core.forks import begin_anew_in_children
from llm_core.later import asyncio

__all__ = ["HedgePolicy", "Hedger", "Signs"]

T = TypeVar("T")

# Fewer latencies than this say nothing about a 95th percentile.
_MIN_SAMPLES = 20
_KEPT_SAMPLES = 256
# Calls in a row that did not need a hedge save up for at most this many.
_MAX_SAVED_HEDGES = 5.0


@immutable
class HedgePolicy(Value):
    """When to start a second attempt beside a slow first one."""

    after_seconds: float | None = None
    """How long to wait for the first sign of life; None learns the 95th percentile from the latest 256 calls."""
    budget_ratio: float = 0.05
    """The part of all calls that may be hedged, above 0 and at most 1."""

    def __post_init__(self) -> None:
        if self.after_seconds is not None and not 0 < self.after_seconds < float("inf"):
            raise InvalidValue.of(
                "HedgePolicy.after_seconds", self.after_seconds, "seconds above 0"
            )
        if not 0 < self.budget_ratio <= 1:
            raise InvalidValue.of("HedgePolicy.budget_ratio", self.budget_ratio, "0 to 1, above 0")


class Signs:
    """What the attempts of one race show of themselves."""

    __slots__ = ("admitted", "alive", "leader")

    def __init__(self) -> None:
        self.admitted = asyncio.Event()
        """The gates have let an attempt go."""
        self.alive = asyncio.Event()
        """An attempt has given its first sign of life."""
        self.leader: str | None = None
        """The purpose of the attempt that did: the one that the caller sees."""

    def lead(self, purpose: str) -> bool:
        """Make the first who asks the leader; return whether `purpose` is."""
        if self.leader is None:
            self.leader = purpose
            self.alive.set()
        return self.leader == purpose


class Hedger:
    """Learns how long the first sign of life takes, and spends the budget."""

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        self._latencies: deque[float] = deque(maxlen=_KEPT_SAMPLES)
        self._saved = 1.0
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Wait for no other thread; a forked child keeps what its parent has learned."""
        self._lock = threading.Lock()

    def note_latency(self, seconds: float) -> None:
        """Learn from one call that answered: the time to its first token, or to the whole answer."""
        with self._lock:
            self._latencies.append(seconds)

    def delay_seconds(self) -> float | None:
        """Return how long to wait before hedging; None while too little is known."""
        if self._policy.after_seconds is not None:
            return self._policy.after_seconds
        with self._lock:
            known = sorted(self._latencies)
        if len(known) < _MIN_SAMPLES:
            return None
        return known[int(len(known) * 0.95)]

    async def race(self, attempt: Callable[[str], Awaitable[T]], signs: Signs) -> T:
        """Run `attempt("answer")`, and `attempt("hedge")` beside it if it is slow; the first sign of life decides.

        Waiting at our own gates is not slowness: the delay begins when the first attempt is admitted.
        The loser is cancelled as soon as the other one leads, and awaited so that it has booked what it used.
        Who leads is seen by the caller, so its end, good or bad, is the end; if neither shows a sign of life,
        the first one's error is raised.
        """
        with self._lock:
            self._saved = min(self._saved + self._policy.budget_ratio, _MAX_SAVED_HEDGES)
        racers = {"answer": asyncio.ensure_future(attempt("answer"))}
        admitted = asyncio.ensure_future(signs.admitted.wait())
        alive = asyncio.ensure_future(signs.alive.wait())
        try:
            first = racers["answer"]
            await asyncio.wait({first, admitted}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                delay = self.delay_seconds()
                await asyncio.wait(
                    {first, alive}, timeout=delay, return_when=asyncio.FIRST_COMPLETED
                )
            if not (first.done() or signs.alive.is_set()) and self._spend():
                racers["hedge"] = asyncio.ensure_future(attempt("hedge"))
            return await self._winner(racers, alive, signs)
        finally:
            running = [*racers.values(), admitted, alive]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _winner(
        self, racers: Mapping[str, asyncio.Future[T]], alive: asyncio.Future[Any], signs: Signs
    ) -> T:
        while signs.leader is None and not all(racer.done() for racer in racers.values()):
            running = {racer for racer in racers.values() if not racer.done()}
            await asyncio.wait({*running, alive}, return_when=asyncio.FIRST_COMPLETED)
        leader = racers[signs.leader or "answer"]
        for racer in racers.values():
            if racer is not leader:
                racer.cancel()
        return await leader

    def _spend(self) -> bool:
        with self._lock:
            if self._saved < 1.0:
                return False
            self._saved -= 1.0
            return True
