"""The one timer of a queue, set where its first waiter lives: in an event loop, or in a waiting thread."""

from __future__ import annotations

from collections.abc import Callable

from llm_core import Clock, LLMError, SystemClock
from llm_core.later import asyncio
from llm_gates.permit import Admission, ThreadSignal

__all__ = ["GRACE_NS", "Timer"]

_GRACE_SECONDS = 0.25
GRACE_NS = round(_GRACE_SECONDS * 1e9)
"""How late a timer, or whoever was told to go, must be before somebody else looks after it."""
_SAME_NS = 1_000
"""Times closer than this are one time, so that rounding does not set the timer again and again."""


class Timer:
    """Calls `fire` once at the time it was last set to; every method is called under the queue's lock.

    With the system's clock it is a timer of the event loop; with any other clock (a manual one in tests) a task
    that sleeps by that clock.
    """

    __slots__ = (
        "_clock",
        "_fire",
        "_generation",
        "_handle",
        "_home",
        "_real_time",
        "_watchers",
        "_when",
    )

    def __init__(self, clock: Clock, fire: Callable[[], None]) -> None:
        self._clock = clock
        self._real_time = isinstance(clock, SystemClock)
        self._fire = fire
        self._home: asyncio.AbstractEventLoop | ThreadSignal | None = None
        self._when = 0
        self._handle: asyncio.TimerHandle | asyncio.Task[None] | None = None
        # The other loops in which somebody waits, who need not suffer when the loop of the timer stops.
        self._watchers: set[asyncio.AbstractEventLoop] = set()
        # A timer of another thread's loop cannot be taken back at once; it finds itself outdated instead.
        self._generation = 0

    def set(self, when: int, first: Admission) -> None:
        """Fire at `when`, in the loop or the thread of `first`; RuntimeError if its loop does not run."""
        waiter = first.waiter
        assert not isinstance(waiter, LLMError)
        home = waiter if isinstance(waiter, ThreadSignal) else waiter.get_loop()
        if not isinstance(home, ThreadSignal) and not home.is_running():
            raise RuntimeError("the event loop of the first waiter does not run")
        if home is self._home and abs(when - self._when) < _SAME_NS:
            return
        previous = self._home
        self.clear()
        if isinstance(home, ThreadSignal):
            home.wake_at = when
            home.nudge()
        elif home is asyncio._get_running_loop():
            self._set_here(home, when, self._generation)
        else:
            home.call_soon_threadsafe(self._set_here, home, when, self._generation)
        self._home = home
        self._when = when
        if previous is not None and not isinstance(previous, ThreadSignal):
            self.watch(previous)

    @property
    def dead(self) -> bool:
        """Whether it is set in an event loop that has stopped since, so that it may never fire."""
        home = self._home
        return home is not None and not isinstance(home, ThreadSignal) and not home.is_running()

    @property
    def overdue_at(self) -> int | None:
        """When somebody else should look whether it has fired; None if it is set in no event loop."""
        if self._home is None or isinstance(self._home, ThreadSignal):
            return None
        return self._when + GRACE_NS

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look after the timer from `loop` as long as it is set, if it is set in another one."""
        if loop is self._home or self.overdue_at is None or not self._real_time:
            return
        if loop not in self._watchers and loop.is_running():
            for gone in [watcher for watcher in list(self._watchers) if watcher.is_closed()]:
                self._watchers.discard(gone)
            self._watchers.add(loop)
            loop.call_soon_threadsafe(self._look_later, loop)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        # Here the lock is not held: who sets the timer meanwhile must not take the loop for one that looks.
        self._watchers.discard(loop)
        overdue_at = self.overdue_at
        if overdue_at is not None:
            self._watchers.add(loop)
            delay = max((overdue_at - self._clock.monotonic_ns()) / 1e9, _GRACE_SECONDS)
            loop.call_later(delay, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._fire()
        self._look_later(loop)

    def clear(self) -> None:
        """Do not fire."""
        home = self._home
        if home is None:
            return
        self._generation += 1
        self._home = None
        if isinstance(home, ThreadSignal):
            home.wake_at = None
            return
        if self._handle is not None and home is asyncio._get_running_loop():
            self._handle.cancel()
        self._handle = None

    def _set_here(self, loop: asyncio.AbstractEventLoop, when: int, generation: int) -> None:
        if generation != self._generation:
            return
        delay = max(when - self._clock.monotonic_ns(), 0) / 1e9
        if self._real_time:
            self._handle = loop.call_later(delay, self._ring, generation)
        else:
            self._handle = loop.create_task(self._sleep(delay, generation))

    async def _sleep(self, delay: float, generation: int) -> None:
        await self._clock.sleep(delay)
        # Not inside this task: setting the timer anew cancels the task that it has run in so far.
        asyncio.get_running_loop().call_soon(self._ring, generation)

    def _ring(self, generation: int) -> None:
        if generation == self._generation:
            self._generation += 1
            self._home = None
            self._handle = None
            self._fire()
