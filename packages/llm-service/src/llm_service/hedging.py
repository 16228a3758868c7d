"""A second attempt when the first one is unusually slow, within a budget; off unless asked for."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from llm_core import InvalidValue

__all__ = ["HedgePolicy", "Hedger"]

T = TypeVar("T")

# Fewer latencies than this say nothing about a 95th percentile.
_MIN_SAMPLES = 20
_KEPT_SAMPLES = 256
# Calls in a row that did not need a hedge save up for at most this many.
_MAX_SAVED_HEDGES = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgePolicy:
    """When to start a second attempt beside a slow first one."""

    after_seconds: float | None = None
    """How long to wait for the first sign of life; None learns the 95th percentile from the latest 256 calls."""
    budget_ratio: float = 0.05
    """The part of all calls that may be hedged, above 0 and at most 1."""

    def __post_init__(self) -> None:
        if self.after_seconds is not None and not 0 < self.after_seconds < float("inf"):
            raise InvalidValue.of("HedgePolicy.after_seconds", self.after_seconds, "seconds above 0")
        if not 0 < self.budget_ratio <= 1:
            raise InvalidValue.of("HedgePolicy.budget_ratio", self.budget_ratio, "0 to 1, above 0")


class Hedger:
    """Learns how long the first sign of life takes, and spends the budget."""

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        self._latencies: deque[float] = deque(maxlen=_KEPT_SAMPLES)
        self._saved = 1.0
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

    async def race(
        self, attempt: Callable[[str], Awaitable[T]], is_alive: Callable[[], bool]
    ) -> T:
        """Run `attempt("answer")`, and `attempt("hedge")` beside it if it is slow; the first success wins.

        `is_alive` says whether the first attempt has given a sign of life and needs no hedge.
        The loser is cancelled, and awaited so that it has booked what it used. If both fail, the first one's error is raised.
        """
        with self._lock:
            self._saved = min(self._saved + self._policy.budget_ratio, _MAX_SAVED_HEDGES)
        first = asyncio.ensure_future(attempt("answer"))
        racers = [first]
        try:
            done, _ = await asyncio.wait(racers, timeout=self.delay_seconds())
            if done or is_alive() or not self._spend():
                return await first
            racers.append(asyncio.ensure_future(attempt("hedge")))
            return await _first_success(racers)
        finally:
            for racer in racers:
                racer.cancel()
            await asyncio.gather(*racers, return_exceptions=True)

    def _spend(self) -> bool:
        with self._lock:
            if self._saved < 1.0:
                return False
            self._saved -= 1.0
            return True


async def _first_success(racers: Sequence[asyncio.Future[T]]) -> T:
    pending = set(racers)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for racer in done:
            if racer.exception() is None:
                return racer.result()
    return await racers[0]
