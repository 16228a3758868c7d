"""`ManualClock`: time for tests."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import sys
import threading
from datetime import UTC, datetime, timedelta

from llm_core.errors import InvalidValue

__all__ = ["ManualClock"]

_START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Time that moves only when told to: eleven seconds pass in none.

    `advance` moves it and wakes every sleeper that is due, in the order of their times, whatever
    event loop or thread they sleep in.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._start = start
        self._ns = 0
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the clock was made."""
        return self._ns

    def now(self) -> datetime:
        """Return the start time plus what has passed."""
        return self._start + timedelta(microseconds=self._ns / 1e3)

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep."""
        with self._lock:
            return sum(not future.done() for *_, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Suspend the current task until the clock has been moved by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        # Whoever sleeps for ever sleeps as long as a clock can count.
        span = round(seconds * 1e9) if seconds < math.inf else sys.maxsize
        with self._lock:
            heapq.heappush(self._sleepers, (self._ns + span, next(self._order), loop, future))
        await future

    def advance(self, seconds: float) -> None:
        """Move time forward and wake who is due; ValueError for a negative number."""
        self._move_to(self._ns + _nanoseconds(seconds))

    async def run_for(self, seconds: float) -> None:
        """Move time forward from one sleeper to the next, letting tasks run in between.

        What wakes up may sleep again within the same span. Raises ValueError for a negative number.
        """
        end = self._ns + _nanoseconds(seconds)
        await _let_tasks_run()
        while (due := self._next_due()) is not None and due <= end:
            self._move_to(due)
            await _let_tasks_run()
        self._move_to(end)
        await _let_tasks_run()

    def _next_due(self) -> int | None:
        with self._lock:
            while self._sleepers and self._sleepers[0][-1].done():
                heapq.heappop(self._sleepers)
            return self._sleepers[0][0] if self._sleepers else None

    def _move_to(self, instant: int) -> None:
        due = []
        with self._lock:
            self._ns = max(self._ns, instant)
            while self._sleepers and self._sleepers[0][0] <= self._ns:
                due.append(heapq.heappop(self._sleepers))
        for _, _, loop, future in due:
            # A loop that was closed over its sleepers has nobody left to wake.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, future)


def _nanoseconds(seconds: float) -> int:
    if not 0 <= seconds < math.inf:
        raise InvalidValue.of("seconds", seconds, "zero or more, and finite: time goes forward")
    return round(seconds * 1e9)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _let_tasks_run() -> None:
    """Yield often enough for chains of callbacks to come to rest."""
    for _ in range(20):
        await asyncio.sleep(0)
