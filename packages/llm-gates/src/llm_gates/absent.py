"""Who waits in an event loop that does not run, and so cannot go."""

from __future__ import annotations

from collections.abc import Callable

from llm_core.later import asyncio
from llm_gates.permit import AWAY, Admission

__all__ = ["Absent", "Leaving"]


class Absent:
    """Keeps such waiters out of the others' way; everything happens under the queue's lock.

    `returned` is called by an event loop that runs again, without the lock.
    """

    __slots__ = ("_by_loop", "_returned")

    def __init__(self, returned: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, list[Admission]] = {}
        self._returned = returned

    def __len__(self) -> int:
        """Return how many may still return."""
        return sum(
            permit.state == AWAY
            for loop, permits in self._by_loop.items()
            if not loop.is_closed()
            for permit in permits
        )

    def add(self, permit: Admission) -> bool:
        """Keep a waiter until its event loop runs again; return False if it never will."""
        assert isinstance(permit.waiter, asyncio.Future)
        loop = permit.waiter.get_loop()
        permits = self._by_loop.get(loop)
        if permits is None:
            for gone in [gone for gone in self._by_loop if gone.is_closed()]:
                del self._by_loop[gone]
            try:
                loop.call_soon_threadsafe(self._returned, loop)
            except RuntimeError:
                # It is closed, so that nobody can ever be woken there.
                return False
            permits = self._by_loop[loop] = []
        permit.state = AWAY
        permits.append(permit)
        return True

    def take(self, loop: asyncio.AbstractEventLoop) -> list[Admission]:
        """Give those back who wait in `loop` and have not given up."""
        return [permit for permit in self._by_loop.pop(loop, ()) if permit.state == AWAY]


class Leaving:
    """Who was told to go and has not gone yet; everything happens under the queue's lock.

    If its event loop stops in between, what it was granted would be of use to nobody.
    """

    __slots__ = ("_by_loop",)

    def __init__(self) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, dict[Admission, None]] = {}

    def __bool__(self) -> bool:
        """Return whether there is anybody."""
        return any(self._by_loop.values())

    def add(self, permit: Admission) -> None:
        """Note that `permit` was granted; threads need no looking after."""
        waiter = permit.waiter
        if not isinstance(waiter, asyncio.Future):
            return
        loop = waiter.get_loop()
        permits = self._by_loop.get(loop)
        if permits is None:
            for gone in [loop for loop, permits in self._by_loop.items() if not permits]:
                del self._by_loop[gone]
            permits = self._by_loop[loop] = {}
        permits[permit] = None

    def discard(self, permit: Admission) -> None:
        """Note that `permit` has gone, or gave up."""
        if isinstance(permit.waiter, asyncio.Future):
            permits = self._by_loop.get(permit.waiter.get_loop())
            if permits is not None:
                permits.pop(permit, None)

    def recall(self) -> bool:
        """Take back what was granted to those whose event loop has stopped; return whether there were any."""
        stuck = [
            permit
            for loop, permits in self._by_loop.items()
            if permits and not loop.is_running()
            for permit in permits
        ]
        for permit in stuck:
            permit.turnstile.recall(permit)
        return bool(stuck)
