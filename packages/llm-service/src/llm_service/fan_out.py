"""Many calls of one coroutine function, a bounded number at a time."""

from __future__ import annotations

import itertools
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from typing import Any, TypeVar

from llm_core import InvalidValue
from llm_core.later import asyncio

__all__ = ["fan_out"]

T = TypeVar("T")
R = TypeVar("R")


# How many results, in multiples of what is in flight, may wait in order for one that is late.
_HELD = 4


def fan_out(
    function: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    in_flight: int,
    in_order: bool = False,
) -> AsyncGenerator[tuple[int, R], None]:
    """Yield (position, result) of each item as it finishes, or in order, with at most `in_flight` at a time.

    Items are read only while there is room, so their source may be endless; waiting for a slow async source
    does not hold back results. In order, reading stops when four times `in_flight` are under way or wait for a late one.
    What the source raises is raised here after the results of what it had given, what `function` raises at once.
    Leaving early cancels what is in flight.
    Raises InvalidValue, at once, unless `in_flight` is a whole number of at least 1.
    """
    if isinstance(in_flight, bool) or not isinstance(in_flight, int) or in_flight < 1:
        raise InvalidValue.of("in_flight", in_flight, "a whole number of at least 1")
    return _fan_out(function, items, in_flight, in_order)


async def _fan_out(
    function: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    width: int,
    in_order: bool,
) -> AsyncGenerator[tuple[int, R], None]:
    calls: dict[asyncio.Task[R], int] = {}
    finished: dict[int, R] = {}
    turn = 0
    source = _Source(items)
    try:
        while calls or not source.exhausted:
            room = min(width - len(calls), _HELD * width - len(calls) - len(finished))
            for position, item in source.take(room):
                calls[asyncio.ensure_future(_call(function, item))] = position
            pending: set[asyncio.Task[Any]] = set(calls)
            if source.reader is not None:
                pending.add(source.reader)
            if not pending:
                continue
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for call in calls.keys() & done:
                finished[calls.pop(call)] = call.result()
            for position in _in_turn(finished, turn) if in_order else list(finished):
                yield position, finished.pop(position)
                turn += 1
        if source.error is not None:
            raise source.error
    finally:
        left = [*calls, *([source.reader] if source.reader else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _in_turn(finished: dict[int, R], turn: int) -> Iterator[int]:
    return itertools.takewhile(finished.__contains__, itertools.count(turn))


async def _call(function: Callable[[T], Awaitable[R]], item: T) -> R:
    return await function(item)


class _Source:
    """Numbered items of a sync or an async source; `reader` is the read of an async one that is under way."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.exhausted = False
        self.error: Exception | None = None
        """What reading raised; nothing is read after it."""
        self.reader: asyncio.Task[list[Any]] | None = None
        self._position = 0
        self._sync: Iterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        else:
            self._sync = iter(items)

    def take(self, room: int) -> Iterator[tuple[int, Any]]:
        """Give up to `room` items that are there; of an async source, the one that was read meanwhile."""
        for _ in range(room):
            try:
                found = self._read_now() if self._sync is not None else self._read_started()
            except Exception as error:  # noqa: BLE001 - kept until what was read before is answered
                self.error, self.exhausted = error, True
                return
            if not found:
                return
            yield self._position, found[0]
            self._position += 1

    def _read_now(self) -> list[Any]:
        assert self._sync is not None
        for item in self._sync:
            return [item]
        self.exhausted = True
        return []

    def _read_started(self) -> list[Any]:
        if self.reader is None:
            self.reader = asyncio.ensure_future(self._read_one())
        if not self.reader.done():
            return []
        reader, self.reader = self.reader, None
        found = reader.result()
        self.exhausted = not found
        return found

    async def _read_one(self) -> list[Any]:
        async for item in self._async:
            return [item]
        return []
