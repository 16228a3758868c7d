"""A condition that threads, tasks of any event loop, and a device's callback can share."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

__all__ = ["Signal"]


class Signal:
    """A lock, and a way to wait until something that it guards is so.

    Whoever changes what others wait for holds `lock` and calls `notify`.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._condition = threading.Condition(self.lock)
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def notify(self) -> None:
        """Let all who wait look again; the caller holds the lock."""
        self._condition.notify_all()
        for loop, event in self._waiters:
            with contextlib.suppress(
                RuntimeError
            ):  # that loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(event.set)

    def wait(self, predicate: Callable[[], bool], seconds: float | None = None) -> bool:
        """Block until `predicate`, called with the lock held, is true; False if that takes more than `seconds`."""
        with self.lock:
            return self._condition.wait_for(predicate, seconds)

    async def wait_async(self, predicate: Callable[[], bool], seconds: float | None = None) -> bool:
        """Do as `wait` does, and let other tasks run meanwhile."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self.lock:
            self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                while not self._holds(predicate, waiter[1]):
                    await waiter[1].wait()
            return True
        except TimeoutError:
            return False
        finally:
            with self.lock:
                self._waiters.discard(waiter)

    def _holds(self, predicate: Callable[[], bool], event: asyncio.Event) -> bool:
        with self.lock:
            event.clear()
            return predicate()
