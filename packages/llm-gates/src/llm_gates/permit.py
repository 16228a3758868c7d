"""The right to make one call, and the two ways to it: `async with` and `with`."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from enum import IntEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from llm_core import ErrorInfo, LLMError, ProviderError

if TYPE_CHECKING:
    from llm_gates.turnstile import Turnstile

__all__ = ["AsyncAdmission", "GatePermit", "PermitState", "SyncAdmission"]


class PermitState(IntEnum):
    """The life of a permit."""

    NEW = 0
    WAITING = 1
    GRANTED = 2
    """Counted, but the waiter has not woken up yet."""
    ENTERED = 3
    """It has left the gate and is stamped."""
    ENDED = 4
    """The call is over, or never came to be."""


NEW, WAITING, GRANTED, ENTERED, ENDED = PermitState


class GatePermit:
    """The right to make one call; the `Permit` of `llm_core.interfaces`.

    It is its own place in the queue and its own context manager, so that an admission makes one object.
    The turnstile fills it in (there is no `__init__`: that would cost as much as the rest of an admission).
    """

    __slots__ = (
        "blocked",
        "cancelled",
        "costs",
        "deadline",
        "enqueued",
        "entries",
        "failure",
        "future",
        "key",
        "needs",
        "outcome",
        "priority",
        "signal",
        "state",
        "timeout",
        "turnstile",
        "wait_ns",
        "waited_for",
        "wake_at",
    )

    turnstile: Turnstile
    needs: tuple[int, int, int, int, Decimal | None]
    """What the call weighs, in the order of `Metric`."""
    key: str | None
    timeout: float | None
    priority: int
    state: PermitState
    costs: tuple[Any, ...]
    """What the call weighs on each limit of the turnstile."""
    entries: tuple[Any, ...]
    """The entries that the limits keep of it, once stamped."""
    outcome: ErrorInfo | None
    """How the call failed, for limits that learn from failures."""
    cancelled: bool
    wait_ns: int
    waited_for: str | None
    """The name of the limit that was waited for longest; None if there was no wait."""
    # Only of those who wait:
    enqueued: int
    deadline: int | None
    blocked: tuple[int, ...]
    future: asyncio.Future[None] | None
    signal: threading.Lock | None
    wake_at: int | None
    failure: LLMError | None

    @property
    def wait_seconds(self) -> float:
        """Time spent in the queue."""
        return self.wait_ns / 1e9

    def settle(
        self, *, tokens: int, output_tokens: int | None = None, cost: Decimal | None = None
    ) -> None:
        """Correct the reservation to what the call really used, up or down, for all waiters at once.

        `tokens` is input and output together; without `output_tokens` its reserved part stays as it was,
        without `cost` the reserved money does. May be called again, also after the call has ended.
        """
        self.turnstile.settle(self, tokens, output_tokens, cost)

    def fail(self, error: ErrorInfo) -> None:
        """Say that the call failed; what the provider may have counted stays counted.

        Failures of a kind that never reaches the provider (by the error table) give everything back.
        """
        self.outcome = error
        if not error.type.traits.consumes_quota:
            self.turnstile.cancel(self)

    def cancel(self) -> None:
        """Give everything back: the call was never sent."""
        self.turnstile.cancel(self)

    def release(self) -> None:
        """End the call: concurrency slots go back. Leaving the context manager does this by itself."""
        self.turnstile.finish(self)

    def _end(self, error: BaseException | None) -> None:
        if error is not None and self.outcome is None:
            self.outcome = _outcome_of(error)
        self.turnstile.finish(self)


def _outcome_of(error: BaseException) -> ErrorInfo | None:
    """Describe how the body of the `with` statement failed; cancellation says nothing about the provider."""
    if isinstance(error, ProviderError):
        return error.info
    if isinstance(error, Exception):
        return ErrorInfo.from_exception(error)
    return None


class AsyncAdmission(GatePermit):
    """A permit that is entered by `async with`, once."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        turnstile = self.turnstile
        with turnstile.lock:
            if turnstile.pass_through(self):
                return self
            future = self.future = asyncio.get_running_loop().create_future()
            turnstile.enqueue(self)
        # The wait stands here and not in a coroutine of its own, which would cost each waiter a frame.
        try:
            await future
        except BaseException:
            turnstile.withdraw(self)
            raise
        turnstile.leave(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)


class SyncAdmission(GatePermit):
    """A permit that is entered by `with`, once, from a thread."""

    __slots__ = ()

    def __enter__(self) -> Self:
        turnstile = self.turnstile
        with turnstile.lock:
            if turnstile.pass_through(self):
                return self
            signal = self.signal = threading.Lock()
            signal.acquire()
            turnstile.enqueue(self)
        try:
            while self.state == WAITING:
                signal.acquire(timeout=turnstile.thread_timeout(self))
                turnstile.pump()
        except BaseException:
            turnstile.withdraw(self)
            raise
        turnstile.leave(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)
