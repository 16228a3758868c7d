"""Who waits: one line per priority, with what they weigh together and when their patience ends."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from operator import attrgetter
from typing import Any

from llm_gates.permit import WAITING, Admission

__all__ = ["Blame", "Deadlines", "Lines"]

_DEAD_ALLOWED = 64
"""How many that gave up may stand among the others, besides as many again as wait."""


class Deadlines:
    """The waiters with a timeout, the next one to end first."""

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Admission]] = []
        self._order = itertools.count()

    def add(self, permit: Admission, deadline: int) -> None:
        """Note that `permit` waits no longer than until `deadline`."""
        permit.deadline = deadline
        heapq.heappush(self._heap, (deadline, next(self._order), permit))

    def first(self) -> tuple[int, Admission] | None:
        """Return the next deadline of somebody who still waits, and whose it is."""
        heap = self._heap
        while heap and heap[0][2].state != WAITING:
            heapq.heappop(heap)
        return (heap[0][0], heap[0][2]) if heap else None

    def expire(self, now: int) -> None:
        """Fail those whose time is up."""
        while (first := self.first()) is not None and first[0] <= now:
            first[1].turnstile.expire(first[1])

    def before(self, time: int) -> list[Admission]:
        """Return the waiters whose deadline is before `time`."""
        return [
            permit
            for deadline, _, permit in self._heap
            if deadline < time and permit.state == WAITING
        ]

    def forget_gone(self) -> None:
        """Drop those who do not wait any more."""
        self._heap = [item for item in self._heap if item[2].state == WAITING]
        heapq.heapify(self._heap)


class Lines:
    """The waiters in their order.

    The longer one waits the higher it stands: `aging_ns` of waiting are worth one step of priority.
    """

    __slots__ = ("_aging_ns", "_dead", "_lines", "costs", "count", "deadlines")

    def __init__(self, limits: int, *, aging_ns: int, deadlines: Deadlines) -> None:
        self._aging_ns = aging_ns
        # Who gave up stays in its line until it comes to the front, or until there are many of them.
        self._lines: dict[int, deque[Admission]] = {}
        self._dead = 0
        self.deadlines = deadlines
        self.count = 0
        self.costs: list[Any] = [0] * limits
        """What those who wait weigh together, on each limit."""

    def add(self, permit: Admission) -> bool:
        """Put `permit` behind those of its priority; return whether it may be the first of all."""
        line = self._lines.get(permit.priority)
        if line is None:
            line = self._lines[permit.priority] = deque()
        line.append(permit)
        self.count += 1
        self.costs = [sum(pair) for pair in zip(self.costs, permit.costs, strict=True)]
        return self.count == 1 or len(self._lines) > 1

    def put_back(self, permits: list[Admission]) -> None:
        """Put those who were away into their places again."""
        for permit in permits:
            permit.state = WAITING
            self.add(permit)
            if permit.deadline is not None:
                self.deadlines.add(permit, permit.deadline)
        for priority in {permit.priority for permit in permits}:
            self._lines[priority] = deque(sorted(self._lines[priority], key=attrgetter("enqueued")))

    def remove(self, permit: Admission) -> None:
        """Take a waiter, whose state has been changed, out of the counts."""
        self.count -= 1
        self.costs = [sum - cost for sum, cost in zip(self.costs, permit.costs, strict=True)]
        self._dead += 1
        if self._dead > _DEAD_ALLOWED + 2 * self.count:
            self._forget_gone()

    def _forget_gone(self) -> None:
        self._dead = 0
        for priority, line in list(self._lines.items()):
            self._lines[priority] = deque([permit for permit in line if permit.state == WAITING])
        self.deadlines.forget_gone()

    def costs_ahead(self, permit: Admission, now: int) -> list[Any]:
        """Return what those weigh together who would go before `permit`, if it came `now`."""
        costs = self.costs
        rank = now - permit.priority * self._aging_ns
        for priority, line in self._lines.items():
            if priority >= permit.priority:
                continue
            for waiter in reversed(line):
                if waiter.enqueued - priority * self._aging_ns <= rank:
                    break
                if waiter.state == WAITING:
                    costs = [sum - cost for sum, cost in zip(costs, waiter.costs, strict=True)]
        return costs

    def first(self) -> Admission | None:
        """Return who is first, by waiting time and priority."""
        first: Admission | None = None
        first_rank = 0
        empty: list[int] = []
        for priority, line in self._lines.items():
            while line and line[0].state != WAITING:
                line.popleft()
            if not line:
                empty.append(priority)
                continue
            # All ranks age at the same pace, so that the order of two waiters never changes.
            rank = line[0].enqueued - priority * self._aging_ns
            if first is None or rank < first_rank:
                first, first_rank = line[0], rank
        for priority in empty:
            del self._lines[priority]
        return first

    def heavier_than(self, place: int, capacity: Any) -> list[Admission]:
        """Return the waiters that weigh more than `capacity` on the limit at `place`."""
        return [
            permit
            for line in self._lines.values()
            for permit in line
            if permit.state == WAITING and permit.costs[place] > capacity
        ]


class Blame:
    """For how long each limit has held the first of the queue up; the last name is that of holds."""

    __slots__ = ("_names", "_place", "_since", "_spans")

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._spans = [0] * len(names)
        self._place: int | None = None
        self._since = 0

    @property
    def name(self) -> str:
        """Who holds the queue up now."""
        return self._names[self._place or 0]

    def note(self, now: int, place: int | None) -> None:
        """Note who holds the queue up from now on; None if nobody does."""
        if self._place is not None:
            self._spans[self._place] += now - self._since
        self._place = place
        self._since = now

    def so_far(self, now: int) -> tuple[int, ...]:
        """Return all spans up to now; none where there is but one limit to blame."""
        if len(self._names) <= 2:
            return ()
        self.note(now, self._place)
        return tuple(self._spans)

    def longest(self, permit: Admission, now: int) -> str | None:
        """Return who held the queue up longest since `permit` came; None if it did not wait."""
        if now == permit.enqueued or self._place is None:
            return None
        if not permit.entries:
            return self.name
        spans = [
            after - before for before, after in zip(permit.entries, self.so_far(now), strict=True)
        ]
        return self._names[spans.index(max(spans))]
