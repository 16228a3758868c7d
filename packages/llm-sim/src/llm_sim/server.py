"""Running a simulator on a port: in a thread of this process, or as the process itself."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self, TypeVar

from llm_sim.errors import ConfigurationError, PortInUseError, SimError
from llm_sim.exchange import Call
from llm_sim.faults import Faults
from llm_sim.latency import Latency
from llm_sim.limits import Limits
from llm_sim.referee import Report
from llm_sim.script import Script
from llm_sim.simulator import Settings, Simulator

LOOPBACK = "127.0.0.1"

_KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept. Clients drop theirs after 5 seconds (httpx): a server that
did so too would now and then close a connection that a request is already under way on."""

T = TypeVar("T")


class SimServer:
    """A simulator in a thread of this process, on a free port of the loopback interface.

    `script` is a path to a YAML file, a mapping or list of rules like it, a function of the `Ask`,
    or a `Script`; without one every reply echoes the last user text. `faults` may be written as texts, such as
    `["429:0.02"]`. `port=0` takes a free one. Use it as a context manager, or call `start` and
    `stop`.

    Raises ConfigurationError for a wrong setting (ScriptError for a wrong script) when it is made,
    and PortInUseError when it is started on a port that is taken.
    """

    def __init__(
        self,
        script: object = None,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        latency: Latency | None = None,
        limits: Limits | None = None,
        faults: Faults | Iterable[str] | None = None,
        api_keys: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        batch_seconds: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise ConfigurationError(f"port must be from 0 to 65535, got {port!r}")
        self._host = host
        self._port = port
        self._simulator = Simulator(
            Settings.of(
                script,
                latency=latency,
                limits=limits,
                faults=faults,
                api_keys=api_keys,
                models=models,
                batch_seconds=batch_seconds,
                seed=seed,
            )
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; returns once requests are served."""
        if self._thread is not None:
            raise SimError("the simulator runs already")
        listener = bind(self._host, self._port)
        self._port = listener.getsockname()[1]
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(listener, ready), name="llm-sim", daemon=True
        )
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self._thread = None
            listener.close()
            raise

    def stop(self) -> None:
        """Stop listening and drop every connection; harmless if it does not run."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def report(self) -> Report:
        """Sum up what the client did since the start or the last reset."""
        return self._run(self._simulator.report)

    def calls(self) -> list[Call]:
        """Return the last thousand calls, the earliest first; those that run may still change."""
        return self._run(lambda: list(self._simulator.referee.calls))

    def reset(self) -> None:
        """Begin anew: counts, limits, stored things, random numbers, scripted turns."""
        self._run(self._simulator.reset)

    def use_script(self, script: object) -> None:
        """Answer by another script from now on; raise ScriptError if it is wrong."""
        read = Script.of(script)
        self._run(lambda: self._simulator.use_script(read))

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before the first start if a free one is taken."""
        return self._port

    @property
    def url(self) -> str:
        """The address without any vendor's path."""
        return url_of(self._host, self._port)

    @property
    def openai_base_url(self) -> str:
        """The `base_url` for OpenAI's package and for compatible clients; ends in /v1."""
        return f"{self.url}/v1"

    def _run(self, act: Callable[[], T]) -> T:
        """Run something in the simulator's own thread, for its state is not thread-safe."""
        if self._thread is None or self._loop is None:
            return act()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(act())
            except Exception as error:  # noqa: BLE001 - handed to the caller's thread
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    @property
    def anthropic_base_url(self) -> str:
        """The `base_url` for Anthropic's package, which adds /v1 itself."""
        return self.url

    @property
    def ollama_base_url(self) -> str:
        """The `host` for Ollama's package, which adds /api itself."""
        return self.url

    def _serve(self, listener: socket.socket, ready: Future[None]) -> None:
        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            await serve(
                self._simulator,
                listener,
                stop=self._stop,
                on_ready=lambda: ready.set_result(None),
            )

        try:
            asyncio.run(run())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)  # the starter's thread raises it


def url_of(host: str, port: int) -> str:
    """Write the address of a server; IPv6 goes in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """Bind a listening socket; raise PortInUseError or ConfigurationError in one line."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigurationError(f"not an address to listen on: {host!r}") from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(f"port {port} of {host} is taken; choose another one") from error
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


async def serve(
    simulator: Simulator,
    listener: socket.socket,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[], object],
) -> None:
    """Serve a simulator on a bound socket until `stop` is set, then drop every connection.

    Uses uvicorn's HTTP protocol on a loop of its own instead of uvicorn's server, which installs
    signal handlers, configures logging and takes a tenth of a second to stop.
    """
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from llm_sim.app import Application
    from llm_sim.connection import Connection

    config = Config(
        Application(simulator),
        log_config=None,
        lifespan="off",
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        ws="none",
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()

    def connect() -> Connection:
        return Connection(config=config, server_state=state, app_state={}, _loop=loop)

    server = await loop.create_server(connect, sock=listener, backlog=2048)
    on_ready()
    try:
        while not stop.is_set():
            state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await _wait(stop, 1.0)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        tasks: list[Any] = list(state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What was aborted is closed by the loop's next turn.
        await asyncio.sleep(0)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
