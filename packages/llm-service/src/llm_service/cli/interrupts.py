"""Signals as calls on the event loop, in place of exceptions anywhere."""

from __future__ import annotations

import asyncio
import contextlib
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
    before = {number: signal.getsignal(number) for number in _INTERRUPTS}
    for number in _INTERRUPTS:
        _listen(loop, number, tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _listen(
    loop: asyncio.AbstractEventLoop,
    number: signal.Signals,
    tell: Callable[[signal.Signals], None],
) -> None:
    try:
        # Wakes the loop in any case; after a plain handler it could go on sleeping, if the signal came just before
        # it fell asleep or met another thread.
        loop.add_signal_handler(number, tell, number)
    except NotImplementedError:
        # On Windows, whose loop is woken by every signal.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(tell, number))
