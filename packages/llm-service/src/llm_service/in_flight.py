"""Which calls are under way, so that a service can end in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["InFlight"]


class InFlight:
    """The tasks that are making calls, on any event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[asyncio.Task[object], int] = {}
        self.closed = False

    def __len__(self) -> int:
        return sum(self._tasks.values())

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count the current task while it makes a call."""
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        with self._lock:
            self._tasks[task] = self._tasks.get(task, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._tasks[task] -= 1
                if not self._tasks[task]:
                    del self._tasks[task]

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for the calls that are under way, then cancel those that are left.

        The task that drains is never cancelled, although a call may be its own.
        """
        ends = asyncio.get_running_loop().time() + seconds
        while self._others() and asyncio.get_running_loop().time() < ends:
            # The calls belong to any number of loops; a glance every few milliseconds is all it takes.
            await asyncio.sleep(0.005)
        for task in self._others():
            task.get_loop().call_soon_threadsafe(task.cancel)
        for _ in range(100):
            if not self._others():
                return
            await asyncio.sleep(0.005)

    def _others(self) -> list[asyncio.Task[object]]:
        here = asyncio.current_task()
        with self._lock:
            return [t for t in self._tasks if t is not here and not t.get_loop().is_closed()]
