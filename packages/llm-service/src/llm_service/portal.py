"""One event loop on a background thread, for sync callers of async code.

Works in plain scripts, in thread pools, and where the calling thread already runs a loop of its own (notebooks).
The thread is a daemon and is stopped before the interpreter goes down, so that nothing hangs or warns at exit.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from typing import Any, TypeVar

from llm_core.forks import begin_anew_in_children
from llm_core.later import asyncio
from llm_service.in_flight import InFlight
from llm_service.standstill import Standstill, standstill

__all__ = ["Portal"]

T = TypeVar("T")

# Longer than any clean-up of ours takes; a coroutine that will not end must not hold up an interrupt.
_CANCEL_SECONDS = 5.0


class Portal:
    """Runs coroutines on one background loop, started at the first call and again after a fork.

    Once it is closed, a call has a loop for itself that ends with it.
    """

    def __init__(self, calls: InFlight) -> None:
        """Build the portal of a service, `calls` being all that it makes, on this loop or another."""
        self._calls = calls
        self._closed = False
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Know of no thread; one is started at the next call."""
        # A garbage collection within it may close an iterator, which takes it again.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._nested: Portal | None = None
        self._iterators = 0
        """How many are being read, or were left half read."""

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine that `function` makes, and wait for its result or exception.

        The caller's context variables are visible to it.
        An interrupt of the waiting thread (Ctrl-C) cancels it and waits until it has let go.

        A call from within the background loop itself runs on a further loop, and the first one stands still meanwhile,
        as any loop does on whose thread this is called. What would have to wait for a call that stands still fails:
        see `standstill`.
        """
        if threading.current_thread() is self._thread:
            return self._inner().run(function)
        with self._lock:
            # Under the lock, so that `close` cannot stop the loop in between.
            outcome = None if self._closed else self._begin(self._running_loop(), function)
        if outcome is not None:
            return outcome()
        with contextlib.closing(Portal(self._calls)) as own:
            return own.run(function)

    def iterate(self, values: AsyncGenerator[Sequence[T], None]) -> Generator[T, None, None]:
        """Yield what `values` has, one of its sequences after the other; closing the one closes the other.

        What was begun before `close` can be read to its end after it.
        """
        if threading.current_thread() is self._thread:
            yield from self._inner().iterate(values)
            return
        with self._lock:
            home = None if self._closed else self._running_loop()
            self._iterators += home is not None
        if home is None:
            with contextlib.closing(Portal(self._calls)) as own:
                yield from own.iterate(values)
            return
        try:
            yield from self._read(home, values)
        finally:
            self._end_iterator(home)

    def close(self) -> None:
        """Cancel what still runs, and stop the thread, if need be as soon as what is being iterated over has ended.

        Called on the thread itself, it stops as soon as the calling task is done.
        """
        with self._lock:
            self._closed = True
            being_read = self._iterators > 0
        if not being_read:
            self._stop_thread()

    def _read(
        self, home: asyncio.AbstractEventLoop, values: AsyncGenerator[Sequence[T], None]
    ) -> Generator[T, None, None]:
        try:
            while self._loop is home:
                some = self._begin(home, lambda: _next_or_none(values))()
                if some is None:
                    return
                yield from some
            raise RuntimeError("begun before a fork: only the parent can go on with it")
        finally:
            if self._loop is home and threading.current_thread() is self._thread:
                # Collected as garbage on the loop's own thread, which must not wait for itself.
                home.create_task(values.aclose())
            elif self._loop is home and home.is_running():
                self._begin(home, values.aclose)()
            # Otherwise it was closed together with its loop.

    def _end_iterator(self, home: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._loop is not home:
                return
            self._iterators -= 1
            is_last = self._closed and not self._iterators
        if is_last:
            self._stop_thread()

    def _stop_thread(self) -> None:
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            nested, self._nested = self._nested, None
        if nested is not None:
            nested.close()
        if loop is None or thread is None:
            return
        if thread is threading.current_thread() and (task := asyncio.current_task()) is not None:
            task.add_done_callback(lambda _: loop.stop())
            return
        _stop(loop, thread, os.getpid())

    def _begin(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[], Coroutine[Any, Any, T]]
    ) -> Callable[[], T]:
        """Start a coroutine on `loop`; return what waits for its result or exception."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        context = contextvars.copy_context()
        stopped = Standstill.here(self._calls)
        if stopped is not None:
            context.run(standstill.set, stopped)
        started: list[asyncio.Task[T]] = []

        def start() -> None:
            try:
                task = loop.create_task(context.run(function), context=context)
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who waits in another thread
                done.set_exception(error)
                return
            started.append(task)
            task.add_done_callback(lambda ended: _hand_over(ended, done))

        def outcome() -> T:
            try:
                return done.result()
            except BaseException:
                if not done.done():
                    loop.call_soon_threadsafe(lambda: [task.cancel() for task in started])
                    # What was cancelled lets go first, so that its generator can be closed and its gates are free.
                    concurrent.futures.wait([done], timeout=_CANCEL_SECONDS)
                raise

        loop.call_soon_threadsafe(start)
        return outcome

    def _inner(self) -> Portal:
        with self._lock:
            if self._nested is None:
                self._nested = Portal(self._calls)
            return self._nested

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, started if need be; the lock is held."""
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_serve, args=(self._loop,), name="llm-service portal", daemon=True
            )
            self._thread.start()
            # When the portal is dropped, or else at exit.
            weakref.finalize(self, _stop, self._loop, self._thread, os.getpid())
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        # A call may have been handed over just before the stop and starts only now.
        loop.run_until_complete(asyncio.sleep(0))
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _hand_over(ended: asyncio.Task[T], done: concurrent.futures.Future[T]) -> None:
    if done.cancelled():
        return
    if ended.cancelled():
        done.set_exception(concurrent.futures.CancelledError())
    elif (error := ended.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(ended.result())


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, owner: int) -> None:
    """Stop a loop and wait until its thread has ended; in a forked child there is neither."""
    if os.getpid() != owner:
        return
    with contextlib.suppress(RuntimeError):  # it was stopped before
        loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(timeout=5.0)


async def _next_or_none(values: AsyncGenerator[T, None]) -> T | None:
    return await anext(values, None)
