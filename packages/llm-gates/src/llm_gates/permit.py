"""The right to make one call, and the two ways to it: `async with` and `with`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from queue import Empty
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from llm_core import ErrorInfo, ErrorType, LLMError
from llm_core.later import asyncio
from llm_gates.weights import check_weights

if TYPE_CHECKING:
    from llm_gates.turnstile import Turnstile

__all__ = [
    "Acquired",
    "Admission",
    "AsyncAdmission",
    "GatePermit",
    "SyncAdmission",
    "ThreadSignal",
]


_ENTERED_TWICE = "a permit can be entered once; ask the gate for a new one"

# The life of a permit. Plain numbers, because they are compared several times in every admission.
NEW = 0
WAITING = 1
AWAY = 2
"""It waits, but its event loop does not run, so that it cannot be woken: those behind it need not wait for that."""
GRANTED = 3
"""Counted, but the waiter has not woken up yet."""
ENTERED = 4
"""It has left the gate and is stamped."""
ENDED = 5
"""The call is over, or never came to be; what it used still counts."""
CANCELLED = 6
"""Nothing of it counts."""


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class ThreadSignal:
    """What a waiting thread sleeps on."""

    __slots__ = ("lock", "wake_at")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.wake_at: int | None = None
        """When the thread must look at the queue by itself, because it is the first there."""

    def nudge(self) -> None:
        """Make the thread look at its permit again; the queue's lock is held."""
        if self.lock.locked():
            self.lock.release()


class GatePermit:
    """The right to make one call; the `Permit` of `llm_core.interfaces`.

    The gate fills it in (there is no `__init__`: that would cost as much as the rest of an admission).
    """

    __slots__ = (
        "cost",
        "costs",
        "entries",
        "estimate",
        "outcome",
        "output_tokens",
        "state",
        "tokens",
        "turnstile",
    )

    turnstile: Turnstile
    tokens: int
    """What is reserved, or was settled: input and output together."""
    output_tokens: int | None
    cost: Decimal | None
    estimate: tuple[int, int | None] | None
    """The tokens as the caller estimated them, where the gate learns from estimates."""
    key: str | None
    timeout: float | None
    priority: int
    state: int
    costs: tuple[Any, ...]
    """What the call weighs on each limit of the turnstile."""
    entries: Sequence[Any]
    """The entries that the limits keep of it, once stamped; before, how long each limit had held the queue up.

    Behind them stands what the books on the provider's headers remember it by, if there are any.
    """
    outcome: ErrorInfo | None
    """How the call failed, for limits that learn from failures; None if it did not."""
    wait_ns: int
    waited_for: str | None
    """The name of the limit that was waited for longest; None if there was no wait."""

    @property
    def wait_seconds(self) -> float:
        """Time spent in the queue."""
        return self.wait_ns / 1e9

    def settle(
        self, *, tokens: int, output_tokens: int | None = None, cost: Decimal | None = None
    ) -> None:
        """Correct the reservation to what the call really used, up or down, for all waiters at once.

        `tokens` is input and output together; without `output_tokens` its reserved part stays as it was (but is
        never more than `tokens`), without `cost` the reserved money does. May be called again, also after the call
        has ended. A weight below 0 raises InvalidValue and changes nothing.
        """
        turnstile = self.turnstile
        if (
            tokens.__class__ is not int
            or tokens < 0
            or (
                output_tokens is not None
                and (output_tokens.__class__ is not int or output_tokens < 0)
            )
            or cost is not None
        ):
            check_weights(tokens, output_tokens, cost)
        # A correction must not overtake an earlier one.
        late = bool(turnstile.errands)
        if not late:
            try:
                turnstile.key.get_nowait()
            except Empty:
                late = True
        if late:
            turnstile.door.put_off(partial(turnstile.settle, self, tokens, output_tokens, cost))
            return
        try:
            turnstile.settle(self, tokens, output_tokens, cost)
        finally:
            turnstile.key.put(None)
            if turnstile.errands:
                turnstile.door.tidy()

    def fail(self, error: ErrorInfo, *, cost: Decimal | None = None) -> None:
        """Say that the call failed; what the provider may have counted stays counted.

        Failures of a kind that never reaches the provider (by the error table) give everything back.
        After others `cost` is the money that was spent all the same, 0 for none; None leaves what was reserved.
        A cost below 0 raises InvalidValue.
        """
        self.outcome = error
        if not error.type.traits.consumes_quota:
            self.cancel()
        elif cost is not None:
            self.estimate = None  # what a failure was reserved says nothing about what calls use
            self.settle(tokens=self.tokens, output_tokens=self.output_tokens, cost=cost)

    def cancel(self) -> None:
        """Give everything back: the call was never sent."""
        self.turnstile.door.do(self.turnstile.cancel, self)

    def release(self) -> None:
        """End the call: concurrency slots go back. Leaving the context manager does this by itself."""
        self.turnstile.door.do(self.turnstile.finish, self)

    def _note_failure(self, error: BaseException) -> None:
        """Keep how the body of the `with` statement failed, unless `fail` has said it."""
        if self.outcome is not None:
            return
        if isinstance(error, Exception):
            self.outcome = ErrorInfo.from_exception(error)
        else:
            # Cancellation and the like: it says nothing about the provider.
            self.outcome = ErrorInfo.of(ErrorType.CANCELLED, type(error).__name__)


class Acquired(GatePermit):
    """A permit of one limit that never waited: what is known of it anyway is written down only when asked for."""

    __slots__ = ("entry",)

    entry: Any

    def __getattr__(self, name: str) -> Any:
        # Called only where a slot is empty; filling them all would be a fifth of an admission.
        if name == "entries":
            return (self.entry,)
        if name == "costs":
            return self.turnstile.unit_costs or (self.tokens,)
        if name == "state":
            return ENDED
        if name in ("wait_ns", "tokens"):
            return 0
        if name in ("output_tokens", "cost", "key", "estimate", "outcome", "waited_for"):
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Admission(GatePermit):
    """A permit that is its own place in the queue and its own context manager, so that it takes one object."""

    __slots__ = (
        "deadline",
        "enqueued",
        "key",
        "priority",
        "timeout",
        "wait_ns",
        "waited_for",
        "waiter",
    )

    enqueued: int
    deadline: int | None
    waiter: asyncio.Future[None] | ThreadSignal | LLMError
    """Whom to wake; once the call is refused, why."""

    def wake(self) -> bool:
        """Wake the waiter, wherever it lives; return False if its event loop does not run. The lock is held."""
        waiter = self.waiter
        if isinstance(waiter, ThreadSignal):
            waiter.nudge()
            return True
        assert not isinstance(waiter, LLMError)
        loop = waiter.get_loop()
        if loop is asyncio._get_running_loop():
            _resolve(waiter)
            return True
        if not loop.is_running():
            return False
        try:
            loop.call_soon_threadsafe(_resolve, waiter)
        except RuntimeError:
            return False
        return True


class AsyncAdmission(Admission):
    """A permit that is entered by `async with`, once."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        turnstile = self.turnstile
        turnstile.key.get()
        try:
            limit = turnstile.open
            if limit is not None and self.state == NEW:
                # One rate limit and nothing else: what `pass_through` does, without the call.
                costs = turnstile.unit_costs or (self.tokens,)
                clock = turnstile.monotonic_ns
                entry = limit.try_take(clock(), costs[0])
                if entry is not None:
                    self.costs = costs
                    self.entries = (entry,)
                    self.state = ENTERED
                    turnstile.in_flight += 1
                    return self
            elif turnstile.pass_through(self):
                return self
            if self.state != NEW:
                raise RuntimeError(_ENTERED_TWICE)
            first = asyncio.get_running_loop().create_future()
            turnstile.enqueue(self, first)
        finally:
            turnstile.key.put(None)
            if turnstile.errands:
                turnstile.door.tidy()
        # The wait stands here and not in a coroutine of its own, which would cost each waiter a frame.
        future: asyncio.Future[None] | None = first
        while future is not None:
            try:
                await future
            except BaseException:
                turnstile.door.do(turnstile.withdraw, self)
                raise
            future = turnstile.leave(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        turnstile = self.turnstile
        if error is not None and not turnstile.short:
            self._note_failure(error)
        # What `release` does, without the calls.
        try:
            turnstile.key.get_nowait()
        except Empty:
            turnstile.door.put_off(partial(turnstile.finish, self))
            return
        try:
            if not turnstile.short:
                turnstile.finish(self)
            elif self.state == ENTERED:
                self.state = ENDED
                turnstile.in_flight -= 1
        finally:
            turnstile.key.put(None)
            if turnstile.errands:
                turnstile.door.tidy()


class SyncAdmission(Admission):
    """A permit that is entered by `with`, once, from a thread."""

    __slots__ = ()

    def __enter__(self) -> Self:
        turnstile = self.turnstile
        with turnstile.door:
            if turnstile.pass_through(self):
                return self
            if self.state != NEW:
                raise RuntimeError(_ENTERED_TWICE)
            signal = ThreadSignal()
            turnstile.enqueue(self, signal)
        try:
            while self.state == WAITING:
                signal.lock.acquire(timeout=turnstile.thread_timeout(self))
                turnstile.pump()
        except BaseException:
            turnstile.door.do(turnstile.withdraw, self)
            raise
        turnstile.leave(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._note_failure(error)
        self.release()
