"""A response cache in memory: the latest answers, for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from llm_core import Clock, GenerationResult, InvalidValue, SystemClock
from llm_core.forks import begin_anew_in_children

__all__ = ["MemoryResponseCache"]


class MemoryResponseCache:
    """Keeps up to `max_entries` results, each for its time to live; the least recently used go first.

    Safe to use from any thread and event loop. Results are shared, not copied: they are immutable.
    """

    def __init__(self, max_entries: int = 1024, *, clock: Clock | None = None) -> None:
        if isinstance(max_entries, bool) or not isinstance(max_entries, int) or max_entries < 1:
            raise InvalidValue.of("max_entries", max_entries, "a whole number of at least 1")
        self._max_entries = max_entries
        self._clock = clock or SystemClock()
        self._entries: OrderedDict[str, tuple[int, GenerationResult[Any]]] = OrderedDict()
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Wait for no other thread; a forked child keeps what its parent had in the cache."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: str) -> GenerationResult[Any] | None:
        """Return the result under `key` unless its time is over."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            ends, result = entry
            if self._clock.monotonic_ns() >= ends:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return result

    async def put(self, key: str, result: GenerationResult[Any], *, ttl_seconds: float) -> None:
        """Keep `result` for `ttl_seconds` from now."""
        ends = self._clock.monotonic_ns() + round(ttl_seconds * 1e9)
        with self._lock:
            self._entries[key] = (ends, result)
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
