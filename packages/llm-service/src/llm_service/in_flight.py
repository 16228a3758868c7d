"""Which calls are under way, so that a service can end in order."""

from __future__ import annotations

import contextlib

from llm_core.forks import begin_anew_in_children
from llm_core.later import asyncio

__all__ = ["InFlight"]


class InFlight:
    """The tasks that are making calls, on any event loop.

    There is no lock: a task's entry is changed only where the task runs, and reading is one step of the interpreter.
    """

    def __init__(self) -> None:
        self.closed = False
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Count no calls."""
        self.calls: dict[asyncio.Task[object], int] = {}
        """How many calls, one within the other, a task is making: changed only where the task runs."""
        self._ended: dict[asyncio.Task[object], str] = {}
        """Whom `end` has cancelled, and why."""

    def __len__(self) -> int:
        return sum(list(self.calls.values()))

    def tasks(self) -> list[asyncio.Task[object]]:
        """Return the tasks that are making calls."""
        return list(self.calls)

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for the calls that are under way, then end those that are left.

        The task that drains is never cancelled, although a call may be its own.
        """
        ends = asyncio.get_running_loop().time() + seconds
        while self._others() and asyncio.get_running_loop().time() < ends:
            # The calls belong to any number of loops; a glance every few milliseconds is all it takes.
            await asyncio.sleep(0.005)
        for task in self._others():
            with contextlib.suppress(RuntimeError):  # its loop was closed just now
                task.get_loop().call_soon_threadsafe(self.end, task, "the service was closed")
        for _ in range(100):
            if not self._others():
                return
            await asyncio.sleep(0.005)

    def enter(self) -> tuple[asyncio.Task[object], int]:
        """Note that the current task begins a call; return what `leave` and `why_ended` need to know of it."""
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        calls = self.calls
        calls[task] = calls.get(task, 0) + 1
        return task, task.cancelling()

    def leave(self, task: asyncio.Task[object]) -> None:
        """Note that a call of the current task is over."""
        # Gone already if the call has forked, and this is the child.
        left = self.calls.pop(task, 1) - 1
        if left:
            self.calls[task] = left
        elif self._ended:
            self._ended.pop(task, None)

    def why_ended(self, task: asyncio.Task[object], cancelled_before: int) -> str | None:
        """Return why `end` cancelled the call that `task` is making, and take that back; None if it was not `end` alone.

        Somebody else may have cancelled the task besides, and a call within a call leaves it to the outer one.
        """
        if task not in self._ended or self.calls.get(task) != 1:
            return None
        return self._ended[task] if task.uncancel() <= cancelled_before else None

    def end(self, task: asyncio.Task[object], why: str) -> None:
        """Cancel `task` unless its call is over by now; runs on the task's own loop, so that it cannot end meanwhile.

        The call has a result then, and the task goes on.
        """
        if task in self.calls and task not in self._ended:
            self._ended[task] = why
            task.cancel()

    def _others(self) -> list[asyncio.Task[object]]:
        here = asyncio.current_task()
        return [t for t in self.tasks() if t is not here and not t.get_loop().is_closed()]
