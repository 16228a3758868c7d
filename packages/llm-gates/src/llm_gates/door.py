"""The one lock of a queue, and what must wait until it is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TypeVar

__all__ = ["Door"]

T = TypeVar("T")


class Door:
    """A lock, with errands for whoever leaves it.

    The lock is a queue that holds one key: to take the key and to put it back costs less than half of what `with` does
    on a `threading.Lock`, and blocks just as well (see docs/decisions/0011).

    Errands are for what cannot be done at once: callbacks, which may use the gate again, and what a destructor has to
    say. The garbage collector may call one in the middle of anything, so that it must never wait for a lock that its
    own thread may have. Whoever puts the key back looks whether there are `errands`, and then calls `tidy`; leaving
    the `with` statement does both.
    """

    __slots__ = ("errands", "key")

    def __init__(self) -> None:
        self.key: SimpleQueue[None] = SimpleQueue()
        self.key.put(None)
        self.errands: deque[tuple[bool, Callable[[], object]]] = deque()
        """Whether it needs the lock, and what to do."""

    def __enter__(self) -> None:
        self.key.get()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.key.put(None)
        if self.errands:
            self.tidy()

    def do(self, what: Callable[[T], object], whose: T) -> None:
        """Call ``what(whose)`` under the lock: now, or when whoever has it leaves."""
        try:
            self.key.get_nowait()
        except Empty:
            self.put_off(partial(what, whose))
            return
        try:
            what(whose)
        finally:
            self.key.put(None)
            if self.errands:
                self.tidy()

    def put_off(self, errand: Callable[[], object]) -> None:
        """Run `errand` under the lock: now, or when whoever has it leaves."""
        self.errands.append((True, errand))
        self.tidy()

    def announce(self, errand: Callable[[], object]) -> None:
        """Run `errand` when the lock, which is held, is free again."""
        self.errands.append((False, errand))

    def tidy(self) -> None:
        """Run the errands, unless somebody is inside, who will do it."""
        while self.errands:
            try:
                self.key.get_nowait()
            except Empty:
                return
            errand = None
            try:
                if self.errands:
                    inside, errand = self.errands.popleft()
                    if inside:
                        errand()
                        errand = None
            finally:
                self.key.put(None)
            if errand is not None:
                errand()
