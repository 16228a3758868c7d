"""Addresses at which this process answers Prometheus, and who shares them."""

from __future__ import annotations

import threading
from typing import Any, Final

from prometheus_client import CollectorRegistry, start_http_server

from llm_core.forks import begin_anew_in_children
from llm_telemetry_prometheus.instruments import Instruments

__all__ = ["OF_THIS_PROCESS", "Endpoint", "Endpoints"]


class Endpoint:
    """A server on a thread of its own, for what some instruments record; raises OSError for an address that is taken.

    A forked child has no such thread: its endpoint is closed, and lets go of the parent's socket.
    """

    def __init__(self, instruments: Instruments, port: int, host: str) -> None:
        self.instruments = instruments
        self.users = 1
        self._server: Any
        self._server, _ = start_http_server(port, host, instruments.registry)
        begin_anew_in_children(self)

    @property
    def port(self) -> int | None:
        """The port that is served; None when it is no longer."""
        return self._server.server_port if self._server else None

    def begin_anew(self) -> None:
        """Leave the serving to the parent; to wait for its thread, as closing does, would never end."""
        server, self._server = self._server, None
        if server is not None:
            server.server_close()

    def close(self) -> None:
        """Stop serving."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class Endpoints:
    """The endpoints that several may use, each until its last user leaves; forked children begin with none."""

    def __init__(self) -> None:
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Forget the parent's endpoints, and a lock that a thread of it may hold."""
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int | None], Endpoint] = {}

    def join(self, host: str, port: int, *, max_label_values: int) -> Endpoint:
        """Return the endpoint at an address, opened if need be; port 0 opens one at any free port.

        Raises OSError for an address that something else has.
        """
        with self._lock:
            endpoint = self._open.get((host, port))
            if endpoint is not None:
                endpoint.users += 1
            else:
                instruments = Instruments(CollectorRegistry(), max_label_values)
                begin_anew_in_children(instruments)
                endpoint = Endpoint(instruments, port, host)
                self._open[host, endpoint.port] = endpoint
            return endpoint

    def leave(self, endpoint: Endpoint) -> None:
        """Let go of an endpoint, which the last one closes."""
        with self._lock:
            endpoint.users -= 1
            if not endpoint.users:
                for address in [place for place, one in self._open.items() if one is endpoint]:
                    del self._open[address]
                endpoint.close()


OF_THIS_PROCESS: Final = Endpoints()
"""Where all that share an address meet, as a process has each port but once."""
