"""Signals as calls on the event loop; where none runs, as one exception that says which signal it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Interrupted", "interrupts_raised", "on_interrupt"]

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
    calls = _calls(tell, reload)
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


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@contextmanager
def interrupts_raised(*, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Raise `Interrupted` at each SIGINT, SIGTERM and the first SIGHUP, wherever the main thread is.

    For the time in which no loop runs, or before it listens: `on_interrupt` takes over within the context, and gives
    back. The meanings of SIGHUP, with `reload` and without, are those that it has there.
    """
    told: list[signal.Signals] = []

    def tell(number: signal.Signals) -> None:
        # A terminal that closes sends one SIGHUP, and its shell another, which would cut the closing words short.
        if number.name == "SIGHUP" and number in told:
            return
        told.append(number)
        raise Interrupted(number)

    calls = _calls(tell, reload)
    before = {number: signal.getsignal(number) for number in calls}

    def hear(number: int, _: object) -> None:
        calls[signal.Signals(number)](signal.Signals(number))

    for number in calls:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _calls(
    tell: Callable[[signal.Signals], None], reload: Callable[[], None] | None
) -> dict[signal.Signals, Callable[[signal.Signals], None]]:
    """Return what each signal that is not ignored calls."""
    calls: dict[signal.Signals, Callable[[signal.Signals], None]] = dict.fromkeys(_INTERRUPTS, tell)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        calls[signal.SIGHUP] = _Hangup(tell, reload).hear
    return calls


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
