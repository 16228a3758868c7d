"""Which calls are under way, so that a service can end in order."""

from __future__ import annotations

import contextlib
from types import TracebackType

from llm_core.forks import begin_anew_in_children
from llm_core.later import asyncio

__all__ = ["EndedByClosing", "InFlight", "UnderWay"]


class EndedByClosing(Exception):
    """The call was ended because the service closes; nobody cancelled the task that makes it."""


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
        self.ended: set[asyncio.Task[object]] = set()
        """Whom `drain` has cancelled."""

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
                task.get_loop().call_soon_threadsafe(self._end, task)
        for _ in range(100):
            if not self._others():
                return
            await asyncio.sleep(0.005)

    def was_ended(self, task: asyncio.Task[object]) -> bool:
        """Whether `drain` has cancelled `task`, whose outermost call this is."""
        return task in self.ended and self.calls.get(task) == 1

    def _end(self, task: asyncio.Task[object]) -> None:
        """Cancel `task` unless its call is over by now; runs on the task's own loop, so that it cannot end meanwhile."""
        if task in self.calls:
            self.ended.add(task)
            task.cancel()

    def _others(self) -> list[asyncio.Task[object]]:
        here = asyncio.current_task()
        return [t for t in self.tasks() if t is not here and not t.get_loop().is_closed()]


class UnderWay:
    """One call of the current task, from its beginning to its end, as a `with` statement.

    Raises EndedByClosing, in place of CancelledError, if it was `InFlight.drain` alone that cancelled the call.
    """

    __slots__ = ("_cancelled_before", "_in_flight", "_task")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        self._task = task
        self._cancelled_before = task.cancelling()
        calls = self._in_flight.calls
        calls[task] = calls.get(task, 0) + 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        in_flight, task = self._in_flight, self._task
        ended = error is not None and in_flight.was_ended(task)
        # Gone already if the call has forked, and this is the child.
        left = in_flight.calls.pop(task, 1) - 1
        if left:
            in_flight.calls[task] = left
        elif in_flight.ended:
            in_flight.ended.discard(task)
        # Somebody else may have cancelled the task besides, and a call within a call leaves it to the outer one.
        if (
            ended
            and isinstance(error, asyncio.CancelledError)
            and task.uncancel() <= self._cancelled_before
        ):
            raise EndedByClosing from None
