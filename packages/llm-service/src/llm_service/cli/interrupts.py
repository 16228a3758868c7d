"""Signals as calls on the event loop, in place of exceptions anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["on_interrupt"]

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_STREAMS = (0, 1, 2)


@contextmanager
def on_interrupt(
    tell: Callable[[signal.Signals], None], *, reload: Callable[[], None] | None = None
) -> Iterator[None]:
    """Call `tell` on the running loop at each SIGINT (Ctrl-C), SIGTERM and SIGHUP, as long as the context lasts.

    SIGHUP has two meanings. With `reload` it calls that, as daemons do, unless the terminal that there was has
    gone; without, or then, it is an interrupt like the others. Where it is ignored, as under nohup, it stays so.
    Works on the main thread alone, as signals do.
    """
    loop = asyncio.get_running_loop()
    calls: dict[signal.Signals, Callable[[signal.Signals], None]] = dict.fromkeys(_INTERRUPTS, tell)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        calls[signal.SIGHUP] = _Hangup(tell, reload).hear
    before = {number: signal.getsignal(number) for number in calls}
    for number, call in calls.items():
        _listen(loop, number, call)
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


class _Hangup:
    """Tells the SIGHUP of a terminal that has gone from one that somebody sent."""

    def __init__(
        self, tell: Callable[[signal.Signals], None], reload: Callable[[], None] | None
    ) -> None:
        self._tell = tell
        self._reload = reload
        self._had_terminal = _has_terminal()
        self._shown_on = [stream for stream in _STREAMS if os.isatty(stream)]

    def hear(self, number: signal.Signals) -> None:
        """Reload, or tell of the interrupt."""
        is_gone = self._had_terminal and not _has_terminal()
        if is_gone:
            self._let_go_of_terminal()
        if self._reload is not None and not is_gone:
            self._reload()
        else:
            self._tell(number)

    def _let_go_of_terminal(self) -> None:
        """Let what is still written there go nowhere, in place of an error at each line."""
        for stream in self._shown_on:
            if not os.isatty(stream):
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, stream)
                os.close(nowhere)


def _has_terminal() -> bool:
    """Return whether the process has a terminal that controls it, wherever its streams lead."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


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
