"""What a simulator keeps for later requests, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_BYTES = 64 * 1024 * 1024
"""What the requests behind the kept things may weigh together: images and sound are large."""


class Shelf(Generic[T]):
    """Things by their id, in the order they came; the oldest are forgotten when it is full."""

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._things: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __getitem__(self, name: str) -> T:
        return self._things[name][0]

    def __iter__(self) -> Iterator[T]:
        return (thing for thing, _ in self._things.values())

    def put(self, name: str, thing: T, *, size_bytes: int) -> None:
        """Keep a thing; the newest one is kept however large it is."""
        self._things[name] = (thing, size_bytes)
        self._bytes += size_bytes
        while len(self._things) > self._most or (
            self._bytes > self._most_bytes and len(self._things) > 1
        ):
            self._bytes -= self._things.popitem(last=False)[1][1]

    def remove(self, name: str) -> None:
        """Forget a thing that is there."""
        self._bytes -= self._things.pop(name)[1]
