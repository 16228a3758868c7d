"""One client per event loop, made when it is first needed and closed with the loop.

The vendors' clients bind their connections to the loop they were first used on, and a provider may be used from several
(a script's own loop, a service's background loop), or from one after the other (`asyncio.run` again and again).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, finalize

from llm_core import ConfigurationError, LLMError
from llm_core.forks import begin_anew_in_children

__all__ = ["LoopClients"]

ClientT = TypeVar("ClientT")

_CLOSE_SECONDS = 5.0
"""How long a client may take to close: more than a TLS farewell needs, and no reason for a program to hang at its end."""


class LoopClients(Generic[ClientT]):
    """Makes, keeps and closes a client for each event loop; may be used from any thread.

    `make` runs in a thread, because the first one imports an SDK, which takes a second that the loop has better use for.
    A client that is not closed within `close_seconds` is let go as it is.
    """

    def __init__(
        self,
        make: Callable[[], ClientT],
        close: Callable[[ClientT], Awaitable[None]],
        *,
        close_seconds: float = _CLOSE_SECONDS,
    ) -> None:
        self._make = make
        self._close = close
        self._close_seconds = close_seconds
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept[ClientT]] = (
            WeakKeyDictionary()
        )
        self._making: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )
        self._spare: ClientT | None = None
        # When this is dropped, or else at exit.
        finalize(self, _let_go_of_still_loops, self._clients)
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Wait for no thread that is making a client: in a forked child there is none."""
        self._lock = threading.Lock()

    def check(self) -> None:
        """Make a client, so that what is missing for it is told now; the next event loop gets that one."""
        with self._lock:
            if self._spare is None and not self._clients:
                self._spare = self._made()

    async def current(self) -> ClientT:
        """Return the running loop's client, trying anew if it could not be made before; raises ConfigurationError."""
        loop = asyncio.get_running_loop()
        kept = self._clients.get(loop)
        if kept is not None and kept.client is not None:
            return kept.client
        with self._lock:
            making = self._making.setdefault(loop, asyncio.Lock())
        async with making:
            kept = self._clients.get(loop)
            if kept is not None and kept.client is not None:
                return kept.client
            with self._lock:
                client, self._spare = self._spare, None
            if client is None:
                client = await asyncio.to_thread(self._made)
            kept = _Kept(client, self._close, self._close_seconds)
            await kept.begin()
            with self._lock:
                self._let_go_of_ended_loops()
                self._clients[loop] = kept
            return client

    async def aclose(self) -> None:
        """Close every client, each on its own loop; those of loops that do not run are let go.

        A client asked for afterwards is a new one.
        Raises what the first of those that could not be closed raised, when all have been tried.
        """
        here = asyncio.get_running_loop()
        with self._lock:
            kept = list(self._clients.items())
            if self._spare is not None:
                kept.append((here, _Kept(self._spare, self._close, self._close_seconds)))
            self._clients.clear()
            self._spare = None
        outcomes = await asyncio.gather(
            *[each.close_on(loop) for loop, each in kept], return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Exception):  # else it is closed, or its loop has just ended
                raise outcome

    def _made(self) -> ClientT:
        try:
            return self._make()
        except LLMError:
            raise
        except Exception as error:
            # Boundary to foreign code: whatever an SDK finds wrong before anything is sent is the configuration's fault.
            raise ConfigurationError(
                f"the vendor's client cannot be made: {type(error).__name__}: {error}; "
                "check the base URL, proxies and certificates"
            ) from error

    def _let_go_of_ended_loops(self) -> None:
        """Forget the clients of closed loops: their open connections hold the loop, so it never goes by itself."""
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            del self._clients[loop]


class _Kept(Generic[ClientT]):
    """A client that is closed once: when somebody asks for it, or else when its loop ends.

    `client` is None from then on.
    """

    def __init__(
        self, client: ClientT, close: Callable[[ClientT], Awaitable[None]], close_seconds: float
    ) -> None:
        self.client: ClientT | None = client
        self._close = close
        self._close_seconds = close_seconds
        self._life: AsyncGenerator[None, None] | None = None

    async def begin(self) -> None:
        """Bind the client's life to the running loop's."""
        self._life = _life(self)
        await anext(self._life)

    async def close(self) -> None:
        """Close the client on the running loop, which is its own."""
        client, self.client = self.client, None
        if client is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._close_seconds):
                await self._close(client)

    async def close_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the client on `loop`, which is its own, or let go of it if nothing runs there."""
        if loop is asyncio.get_running_loop():
            await self._end()
        elif loop.is_running():
            closing = asyncio.run_coroutine_threadsafe(self._end(), loop)
            with contextlib.suppress(TimeoutError):  # it may be blocked, or end in this moment
                async with asyncio.timeout(self._close_seconds):
                    await asyncio.wrap_future(closing)
        else:
            self.let_go()

    def let_go(self) -> None:
        """End the client's life unclosed, because its loop does not run, and may never do so again."""
        self.client = None
        if self._life is not None:
            # By hand, as it waits for nothing now. As garbage it would want to be ended by its loop, and tell if it was not.
            with contextlib.suppress(StopIteration, RuntimeError):
                self._life.aclose().send(None)

    async def _end(self) -> None:
        if self.client is None:
            return
        try:
            await self.close()
        finally:
            if self._life is not None:
                await self._life.aclose()


async def _life(kept: _Kept[ClientT]) -> AsyncGenerator[None, None]:
    """Wait for the end of the loop: `asyncio.run` closes what generators are left while the loop still runs."""
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            # Boundary to foreign code: a client that breaks while closing is closed, and nobody is left to be told.
            await kept.close()


def _let_go_of_still_loops(
    kept: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept[ClientT]],
) -> None:
    for loop, each in list(kept.items()):
        if not loop.is_running():
            each.let_go()
