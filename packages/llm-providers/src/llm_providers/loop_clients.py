"""One client per event loop, made when it is first needed.

The vendors' clients bind their connections to the loop they were first used on, and a provider may be used from several
(a script's own loop, a service's background loop).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from llm_core import ConfigurationError, LLMError
from llm_core.forks import begin_anew_in_children

__all__ = ["LoopClients"]

ClientT = TypeVar("ClientT")


class LoopClients(Generic[ClientT]):
    """Makes, keeps and closes a client for each event loop; may be used from any thread.

    `make` runs in a thread, because the first one imports an SDK, which takes a second that the loop has better use for.
    """

    def __init__(
        self, make: Callable[[], ClientT], close: Callable[[ClientT], Awaitable[None]]
    ) -> None:
        self._make = make
        self._close = close
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, ClientT] = WeakKeyDictionary()
        self._making: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )
        self._spare: ClientT | None = None
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
        client = self._clients.get(loop)
        if client is not None:
            return client
        with self._lock:
            making = self._making.setdefault(loop, asyncio.Lock())
        async with making:
            client = self._clients.get(loop)
            if client is None:
                with self._lock:
                    client, self._spare = self._spare, None
                if client is None:
                    client = await asyncio.to_thread(self._made)
                with self._lock:
                    self._let_go_of_ended_loops()
                    self._clients[loop] = client
            return client

    async def aclose(self) -> None:
        """Close every client, each on its own loop; those of loops that have ended are let go.

        A client asked for afterwards is a new one.
        """
        here = asyncio.get_running_loop()
        with self._lock:
            clients = list(self._clients.items())
            if self._spare is not None:
                clients.append((here, self._spare))
            self._clients.clear()
            self._spare = None
        for loop, client in clients:
            if loop is here:
                await self._close(client)
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(self._closed(client), loop)
                await asyncio.wrap_future(closing)

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

    async def _closed(self, client: ClientT) -> None:
        await self._close(client)
