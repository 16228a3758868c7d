"""Signals as calls on the event loop, in place of exceptions anywhere."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["on_interrupt"]

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_interrupt(tell: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `tell` on the running loop at each SIGINT (Ctrl-C) and SIGTERM, as long as the context lasts.

    Works on the main thread alone, as signals do.
    """
    loop = asyncio.get_running_loop()

    def interrupt(number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(tell, signal.Signals(number))

    before = {number: signal.signal(number, interrupt) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
