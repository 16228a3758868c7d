"""Work that Ctrl-C leaves behind at once, whatever it waits for: a name server, a handshake, an import."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["run_letting_go"]

T = TypeVar("T")

_LOOK_SECONDS = 0.1
"""How often the wait looks up: on Windows Ctrl-C wakes no thread that waits for another."""


def run_letting_go(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end as `asyncio.run` does, on a thread that KeyboardInterrupt leaves to itself.

    What is left behind neither holds the process nor is told of it, so it must be work that may break off anywhere:
    looking, not writing.
    """
    outcome: Future[T] = Future()

    async def work() -> T:
        asyncio.get_running_loop().set_default_executor(_ThreadsOfNobody())
        return await make()

    def run() -> None:
        _settle(outcome, lambda: asyncio.run(work()))

    threading.Thread(target=run, name="letting-go", daemon=True).start()
    while True:
        try:
            return outcome.result(_LOOK_SECONDS)
        except TimeoutError:
            if outcome.done():
                return outcome.result()


class _ThreadsOfNobody(ThreadPoolExecutor):
    """A thread for each call; Python waits at its end for those of any other executor."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Begin a call at once."""
        outcome: Future[T] = Future()

        def run() -> None:
            _settle(outcome, lambda: fn(*args, **kwargs))

        threading.Thread(target=run, name="letting-go-call", daemon=True).start()
        return outcome


def _settle(outcome: Future[T], call: Callable[[], T]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - raised again where somebody waits
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
