"""Who waits for an answer from Redis, in their order."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Sequence
from typing import Any

from llm_core import LLMError
from llm_gates.permit import Admission

__all__ = ["DONE", "GONE", "PENDING", "TRAVELLING", "Wish", "WishLine"]

# The life of a wish.
PENDING = 0
TRAVELLING = 1
DONE = 2
GONE = 3
"""Nobody waits for it any more, though the server may still grant it."""

_DEAD_ALLOWED = 64


class Wish:
    """One call that wants to go."""

    __slots__ = (
        "deadline",
        "due",
        "entries",
        "error",
        "lease",
        "permit",
        "rank",
        "reserved",
        "state",
        "waited_for",
    )

    def __init__(self, permit: Admission, *, rank: int) -> None:
        timeout = permit.timeout
        self.permit = permit
        self.rank = rank
        self.deadline: float | None = None
        if timeout is not None and timeout < math.inf:
            self.deadline = time.monotonic() + timeout
        self.lease = ""
        self.state = PENDING
        self.due = 0.0
        """When it may go, by `time.monotonic`."""
        self.reserved = 0.0
        """The earliest time at which it may be that the server expects it to go."""
        self.entries: list[int] = []
        self.error: LLMError | None = None
        self.waited_for: str | None = None


class WishLine:
    """The wishes that are not under way, by rank, and when their patience ends."""

    def __init__(self) -> None:
        self._line: list[tuple[int, int, Wish]] = []
        self._patience: list[tuple[float, int, Wish]] = []
        self._order = itertools.count()
        self.waiting = 0
        """How many there are."""

    @property
    def first(self) -> Wish | None:
        """Who stands in front of all."""
        while self._line and self._line[0][2].state != PENDING:
            heapq.heappop(self._line)
        return self._line[0][2] if self._line else None

    def goes_first(self, wish: Wish) -> bool:
        """Whether `wish` would stand in front of all."""
        return (first := self.first) is None or wish.rank < first.rank

    def add(self, wish: Wish) -> bool:
        """Put a wish into the line; return whether it is the first there, or the first to lose its patience."""
        self._tidy()
        heapq.heappush(self._line, (wish.rank, next(self._order), wish))
        self.waiting += 1
        if wish.deadline is not None:
            heapq.heappush(self._patience, (wish.deadline, next(self._order), wish))
            if self._patience[0][2] is wish:
                return True
        return self.first is wish

    def take(self, most: int) -> list[Wish]:
        """Take the first ones out of the line: they travel now."""
        batch: list[Wish] = []
        while self._line and len(batch) < most:
            wish = heapq.heappop(self._line)[2]
            if wish.state == PENDING:
                wish.state = TRAVELLING
                self.waiting -= 1
                batch.append(wish)
        return batch

    def put_back(self, wishes: Sequence[Wish]) -> None:
        """Put wishes that could not go yet back to where they stood."""
        for wish in wishes:
            if wish.state == TRAVELLING:
                wish.state = PENDING
                self.waiting += 1
                heapq.heappush(self._line, (wish.rank, next(self._order), wish))

    def leave(self, wish: Wish, state: int) -> None:
        """Take a wish out of the counts; the line forgets it later."""
        if wish.state == PENDING:
            self.waiting -= 1
        wish.state = state

    def next_deadline(self) -> float | None:
        """Return when the first one's patience ends."""
        patience = self._patience
        while patience and patience[0][2].state > TRAVELLING:
            heapq.heappop(patience)
        return patience[0][0] if patience else None

    def impatient(self, until: float) -> list[Wish]:
        """Return those whose patience ends until a time."""
        found: list[Wish] = []
        travelling: list[tuple[float, int, Wish]] = []
        while (first := self.next_deadline()) is not None and first <= until:
            item = heapq.heappop(self._patience)
            if item[2].state == PENDING:
                found.append(item[2])
            else:
                travelling.append(item)
        for item in travelling:
            heapq.heappush(self._patience, item)
        return found

    def heavier_than(self, place: int, capacity: Any) -> list[Wish]:
        """Return those who weigh more than `capacity` on the limit at `place`."""
        return [wish for wish in self.pending() if wish.permit.costs[place] > capacity]

    def pending(self) -> list[Wish]:
        """Return all of them, in their order."""
        return [wish for _, _, wish in sorted(self._line) if wish.state == PENDING]

    def _tidy(self) -> None:
        """Forget those who are gone, if there are many of them."""
        if len(self._line) > _DEAD_ALLOWED + 2 * self.waiting:
            self._line = [item for item in self._line if item[2].state == PENDING]
            heapq.heapify(self._line)
        if len(self._patience) > 4 * _DEAD_ALLOWED + 2 * self.waiting:
            self._patience = [item for item in self._patience if item[2].state <= TRAVELLING]
            heapq.heapify(self._patience)
