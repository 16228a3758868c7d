"""What a protocol provides: the seams between the simulator and the vendors' formats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from llm_core import Value, immutable
from llm_sim.errors import Refusal
from llm_sim.exchange import Answer, Ask, Chunk, Header, Reply, Request, Stamp
from llm_sim.limits import Exceeded, LimitName, Reading


class Vendor(Protocol):
    """What all endpoints of one vendor share; a module is one."""

    def key_of(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the API key; refuse a request without one if the vendor does."""
        ...

    def unknown_key(self, key: str) -> Refusal:
        """Make the refusal of a key that is not known."""
        ...

    def unknown_model(self, model: str) -> Refusal:
        """Make the refusal of a model that does not exist."""
        ...

    def no_such_path(self, method: str, path: str, *, known: bool) -> Refusal:
        """Make the refusal of a path that is not there, or of a method that it does not know."""
        ...

    def limited(self, exceeded: Exceeded, model: str) -> Refusal:
        """Make the refusal by a limit, with the headers that say how long to wait."""
        ...

    def out_of_money(self) -> Refusal:
        """Make the refusal that no waiting helps."""
        ...

    def failure(self, status: int) -> Refusal:
        """Make the error of a status, as it would come of itself."""
        ...

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """Render an error."""
        ...

    def limit_headers(
        self, readings: Mapping[LimitName, Reading], wall_time: float
    ) -> Iterable[Header]:
        """Give the headers that tell how the limits stand."""
        ...

    def request_headers(self, request_id: str, seconds: float) -> Iterable[Header]:
        """Give the headers that every answer has."""
        ...


class Dialogue(Protocol):
    """An endpoint at which a model is asked; limits, faults and latency apply to it."""

    def read(self, request: Request) -> Ask:
        """Read a request; raise Refusal if the vendor would."""
        ...

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        ...

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write a whole reply."""
        ...

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write a streamed reply, its terminal event included."""
        ...

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        ...


class Serve(Protocol):
    """Answers a request for a stored thing; the path's named groups come as keywords."""

    def __call__(self, request: Request, stamp: Stamp, /, **names: str) -> Answer:
        """Answer, or raise Refusal."""
        ...


@immutable
class Resource(Value):
    """A path at which things are stored, listed or deleted; no limits apply to it."""

    method: str
    pattern: re.Pattern[str]
    vendor: Vendor
    serve: Serve


SSE = b"text/event-stream; charset=utf-8"
JSON = b"application/json"
