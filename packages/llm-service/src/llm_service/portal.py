"""One event loop on a background thread, for sync callers of async code.

Works in plain scripts, in thread pools, and where the calling thread already runs a loop of its own (notebooks).
The thread is a daemon and is stopped before the interpreter goes down, so that nothing hangs or warns at exit.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["Portal"]

T = TypeVar("T")

# Longer than any clean-up of ours takes; a coroutine that will not end must not hold up an interrupt.
_CANCEL_SECONDS = 5.0


class Portal:
    """Runs coroutines on one background loop, started at the first call and again after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._owner = os.getpid()
        self._nested: Portal | None = None

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine that `function` makes, and wait for its result or exception.

        The caller's context variables are visible to it.
        An interrupt of the waiting thread (Ctrl-C) cancels it and waits until it has let go.

        A call from within the background loop itself runs on a further loop, and the first one stands still meanwhile.
        If it waits for what a call on the first loop holds, such as the only slot of a gate, it waits until its
        deadline, and without one for ever: coroutines should await instead.
        """
        if threading.current_thread() is self._thread:
            return self._inner().run(function)
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        context = contextvars.copy_context()
        started: list[asyncio.Task[T]] = []

        def start() -> None:
            try:
                task = loop.create_task(context.run(function), context=context)
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller, who waits in another thread
                done.set_exception(error)
                return
            started.append(task)
            task.add_done_callback(lambda ended: _hand_over(ended, done))

        with self._lock:
            # Under the lock, so that `close` cannot stop the loop in between.
            loop = self._running_loop()
            loop.call_soon_threadsafe(start)
        try:
            return done.result()
        except BaseException:
            if not done.done():
                loop.call_soon_threadsafe(lambda: [task.cancel() for task in started])
                # What was cancelled lets go first, so that its generator can be closed and its gates are free.
                concurrent.futures.wait([done], timeout=_CANCEL_SECONDS)
            raise

    def close(self) -> None:
        """Cancel what still runs, and stop the thread; the portal starts anew if it is used again."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            nested, self._nested = self._nested, None
        if nested is not None:
            nested.close()
        if loop is None or thread is None or self._owner != os.getpid():
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5.0)

    def _inner(self) -> Portal:
        with self._lock:
            if self._nested is None:
                self._nested = Portal()
            return self._nested

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, started if need be; the lock is held."""
        if self._loop is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_serve, args=(self._loop,), name="llm-service portal", daemon=True
            )
            self._thread.start()
            _close_at_exit(self)
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


def _close_at_exit(portal: Portal) -> None:
    reference = weakref.ref(portal)

    def close() -> None:
        alive = reference()
        if alive is not None:
            alive.close()

    atexit.register(close)
