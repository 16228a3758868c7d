"""Identical calls at the same time become one."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from llm_core.forks import begin_anew_in_children
from llm_core.later import asyncio

__all__ = ["SingleFlight"]

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs one call per key; who asks for a key that is under way waits for that call's result.

    Callers may be tasks of different event loops. If the caller that runs the call is cancelled,
    the first of those who wait takes over.
    """

    def __init__(self) -> None:
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Know of no call: in a forked child those of its parent never end."""
        self._lock = threading.Lock()
        self._flights: dict[str, concurrent.futures.Future[T | None]] = {}

    async def run(
        self,
        key: str,
        call: Callable[[], Awaitable[T]],
        *,
        patience: Callable[[], float | None],
        alone: bool = False,
    ) -> tuple[T, bool]:
        """Return the result for `key`, and whether it was another caller's call that gave it.

        Who waits does so for at most `patience()` seconds (None: for ever), and gets TimeoutError then.
        For a call that is `alone` nobody waits, though it may wait for another.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                if flight is None and not alone:
                    mine: concurrent.futures.Future[Any] = concurrent.futures.Future()
                    # Running, it cannot be cancelled: one who stops waiting must not end it for all.
                    mine.set_running_or_notify_cancel()
                    self._flights[key] = mine
            if flight is None:
                return await (call() if alone else self._lead(key, mine, call)), False
            result = await asyncio.wait_for(asyncio.wrap_future(flight), patience())
            if result is not None:
                return result, True

    async def _lead(
        self, key: str, mine: concurrent.futures.Future[Any], call: Callable[[], Awaitable[T]]
    ) -> T:
        result = None
        try:
            result = await call()
            return result
        finally:
            with self._lock:
                # Gone already if the call has forked, and this is the child.
                self._flights.pop(key, None)
            # None tells those who wait that there is no result and one of them must take over.
            mine.set_result(result)
