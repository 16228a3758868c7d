"""One call of the script in Redis: what goes in, what comes out, and the connection in between."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llm_core import MissingDependencyError
from llm_gates.shared_limits import SharedLimit
from llm_gates.wishes import Wish

__all__ = ["Answer", "RedisScript", "redis_client"]

_SOURCES = ("kinds.lua", "admit.lua")
_FACTS = 4
"""How many words an answer has for each limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the script says; times in microseconds."""

    next_us: int
    """When the first wish that was not granted would fit; below 0 if there is none."""
    place: int
    """The number of the limit that it waits for; 0 if others come first for a moment, -1 if a hold is on."""
    held_us: int
    """How long a provider's Retry-After holds everybody."""
    forgotten: bool
    """Whether the server did not know this process."""
    limits: list[list[int]]
    """Of each limit what is wanted, since when, what the provider told and how much is used."""
    granted: list[list[int]]
    """Of each wish that may go the delay and its entry on each limit."""


class RedisScript:
    """Speaks to one server; used by one thread at a time."""

    def __init__(self, make_client: Callable[[], Any], *, prefix: str) -> None:
        self.make_client = make_client
        self.prefix = "{" + prefix + "}"
        self.round_trips = 0
        self._client: Any = None
        self._script: Any = None

    def call(
        self,
        settings: Sequence[Any],
        limits: Sequence[SharedLimit],
        batch: tuple[int, Sequence[Sequence[Any]]],
        wishes: Sequence[Wish],
    ) -> Answer:
        """Call the script once; raises whatever the client raises."""
        words: list[Any] = [*settings, len(limits)]
        for limit in limits:
            words += limit.words()
        number, corrections = batch
        words += [number, len(corrections)]
        for correction in corrections:
            words += correction
        words.append(len(wishes))
        for wish in wishes:
            words += [wish.lease, *wish.permit.costs]
        if self._client is None:
            self._connect()
        self.round_trips += 1
        answer = [int(word) for word in self._script(keys=[self.prefix], args=words)]
        return _read(answer, len(limits))

    def _connect(self) -> None:
        self._client = self.make_client()
        folder = Path(__file__).parent
        source = "".join((folder / name).read_text("utf-8") for name in _SOURCES)
        self._script = self._client.register_script(source)

    def disconnect(self) -> None:
        """Close the connection; the next call opens another, perhaps to another server of that name."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _read(answer: list[int], limits: int) -> Answer:
    admitted, next_us, place, held_us, new = answer[:5]
    facts, granted = answer[5 : 5 + _FACTS * limits], answer[5 + _FACTS * limits :]
    width = 1 + limits
    return Answer(
        next_us=next_us,
        place=place,
        held_us=held_us,
        forgotten=bool(new),
        limits=[facts[at : at + _FACTS] for at in range(0, len(facts), _FACTS)],
        granted=[granted[at : at + width] for at in range(0, admitted * width, width)],
    )


def redis_client(url: str) -> Callable[[], Any]:
    """Return a maker of clients that never wait longer than a second; MissingDependencyError without redis."""
    try:
        redis = importlib.import_module("redis")
    except ImportError as error:
        raise MissingDependencyError(
            "redis is not installed; install the extra llm-gates[redis]"
        ) from error
    backoff = importlib.import_module("redis.backoff")
    retry = importlib.import_module("redis.retry")
    # A connection that the server has closed in the meantime is opened again; silence is not waited for twice.
    once = retry.Retry(backoff.NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return partial(
        redis.Redis.from_url, url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=once
    )
