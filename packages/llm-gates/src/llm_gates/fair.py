"""Many queues under common limits, served in turn by their weights (deficit round robin).

Each key has a lane: a turnstile with limits of its own and the common ones behind them.
A lane that its own limits hold back steps out of the round, so that it delays nobody; the one whose turn it is keeps
it until its call fits, so that heavy calls are not passed over.
M. Shreedhar and G. Varghese, Efficient Fair Queuing using Deficit Round-Robin, SIGCOMM 1995.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Self

from llm_core import Clock, LLMError, SystemClock
from llm_core.later import asyncio
from llm_gates.absent import Leaving
from llm_gates.door import Door
from llm_gates.estimates import LearnedEstimates
from llm_gates.feedback import Feedback, LaneFeedback
from llm_gates.limits import NEVER, Limit
from llm_gates.lines import Deadlines
from llm_gates.permit import Admission, ThreadSignal
from llm_gates.refusals import HOLD, check_room, too_heavy
from llm_gates.timer import GRACE_NS, Timer
from llm_gates.turnstile import Turnstile
from llm_gates.weights import check_seconds

__all__ = ["CommonLane", "FairQueue", "Lane"]


class FairQueue:
    """The round of lanes over common limits; everything happens under its one lock."""

    def __init__(
        self, limits: Iterable[Limit], *, clock: Clock | None, max_queue: int | None = None
    ) -> None:
        self.limits = tuple(limits)
        self.clock = clock or SystemClock()
        self.door = Door()
        self.held_until = 0
        self.round: deque[Lane] = deque()
        self.deadlines = Deadlines()
        self.leaving = Leaving()
        # Headers speak of the whole account, that is, of the common limits and of the calls of all lanes.
        self.feedback = Feedback(self.limits)
        self._order = itertools.count()
        self.waiting = 0
        self.max_queue = max_queue
        self._asleep: list[tuple[int, int, Lane]] = []
        self.timer = Timer(self.clock, self.pump)
        # What a lane of weight 1 may send in a round, as a share of the scarcest limit: the heaviest call seen.
        self._quantum = 0.0
        self._twin: FairQueue | None = None

    def anew(self) -> FairQueue:
        """Return the round that stands in the place of this one in a forked child, always the same."""
        if self._twin is None:
            twin = FairQueue(
                [limit.anew() for limit in self.limits],
                clock=self.clock,
                max_queue=self.max_queue,
            )
            twin.feedback = self.feedback.anew(twin.limits)
            twin.held_until = self.held_until
            self._twin = twin
        return self._twin

    def pump(self) -> None:
        """Admit whoever may go now."""
        with self.door:
            self.serve(self.clock.monotonic_ns())

    def hold(self, seconds: float) -> None:
        """Admit nobody for `seconds`; waiters that cannot wait that long fail at once."""
        check_seconds("seconds", seconds)
        with self.door:
            now = self.clock.monotonic_ns()
            self.held_until = max(self.held_until, now + round(seconds * 1e9))
            for permit in self.deadlines.before(self.held_until):
                permit.turnstile.refuse(permit, HOLD, self.held_until - now)
            self.serve(now)

    def join(self, lane: Lane) -> None:
        """Put a lane that has somebody waiting into the round."""
        if not lane.in_round:
            lane.in_round = True
            lane.deficit = 0.0
            lane.visited = False
            lane.nap += 1
            self.round.append(lane)

    def serve(self, now: int) -> None:
        """Go through the round until the common limits are full or nobody is left; set the timer."""
        while not self._serve_round(now):
            # Whose event loop does not run is out of the way now.
            pass

    def _serve_round(self, now: int) -> bool:
        """Do it once; return False if the timer could not be set, because a waiter's event loop does not run."""
        self.deadlines.expire(now)
        self._wake_lanes(now)
        while self.round:
            lane = self.round[0]
            head = lane.next_valid(now)
            if head is None:
                self._leave_round(lane)
                continue
            own_wait = lane.own_wait(head, now)
            if own_wait and self.leaving.recall():
                continue
            if own_wait:
                self._leave_round(lane)
                if own_wait < NEVER:
                    heapq.heappush(self._asleep, (now + own_wait, next(self._order), lane))
                    lane.asleep_at = lane.nap
                continue
            if not self._may_send(lane, head):
                self.round.rotate(-1)
                continue
            wait_ns = lane.common_wait(head, now)
            if wait_ns and self.leaving.recall():
                continue
            if wait_ns:
                return self._set_timer(head, now, now + wait_ns if wait_ns < NEVER else NEVER)
            lane.deficit -= lane.share_of(head)
            lane.admit_head(head, now)
        return self._set_timer(None, now, NEVER)

    def _may_send(self, lane: Lane, head: Admission) -> bool:
        share = lane.share_of(head)
        self._quantum = max(self._quantum, share)
        if not lane.visited:
            lane.visited = True
            lane.deficit += lane.weight * self._quantum
        # The tolerance is for the sum of many small shares, which are no exact numbers.
        if share <= lane.deficit * (1 + 1e-9):
            return True
        lane.visited = False
        return False

    def _leave_round(self, lane: Lane) -> None:
        self.round.popleft()
        lane.in_round = False

    def _wake_lanes(self, now: int) -> None:
        asleep = self._asleep
        while asleep and (asleep[0][0] <= now or asleep[0][2].asleep_at != asleep[0][2].nap):
            lane = heapq.heappop(asleep)[2]
            if lane.asleep_at == lane.nap:
                self.join(lane)

    def _set_timer(self, head: Admission | None, now: int, when: int) -> bool:
        """Set the timer; return False, and set aside whom it was to be set for, if the event loop does not run."""
        asleep = self._asleep
        # A lane whose waiters have all given up has nobody in whose loop a timer could be set.
        while asleep and (sleeper := asleep[0][2].first()) is None:
            heapq.heappop(asleep)[2].asleep_at = -1
        if asleep and asleep[0][0] < when:
            when = asleep[0][0]
            head = head or sleeper
        deadline = self.deadlines.first()
        if deadline is not None and deadline[0] < when:
            when = deadline[0]
            head = head or deadline[1]
        if self.leaving:
            when = min(when, now + GRACE_NS)
        if head is None or when >= NEVER:
            self.timer.clear()
            return True
        try:
            self.timer.set(when, head)
        except RuntimeError:
            head.turnstile.set_aside(head)
            return False
        return True


class Lane(Turnstile):
    """The queue of one key."""

    __slots__ = (
        "_own",
        "asleep_at",
        "deficit",
        "in_round",
        "nap",
        "queue",
        "visited",
        "weight",
    )

    def __init__(
        self,
        own: Iterable[Limit],
        queue: FairQueue,
        *,
        weight: float = 1.0,
        max_queue: int | None = None,
        aging_seconds: float | None = None,
        learned: LearnedEstimates | None = None,
    ) -> None:
        own = tuple(own)
        super().__init__(
            (*own, *queue.limits),
            clock=queue.clock,
            max_queue=max_queue,
            aging_seconds=aging_seconds,
            learned=learned,
            door=queue.door,
        )
        self._own = len(own)
        self.queue = queue
        self.weight = weight
        self.deficit = 0.0
        self.in_round = self.visited = False
        # Counts how often the lane joined the round, so that older alarms are known to be old.
        self.nap = 0
        self.asleep_at = -1
        self.alone = self.open = self.pair = None
        self.short = False
        self.shared = True
        self._lines.deadlines = queue.deadlines
        self._leaving = queue.leaving
        self._timer = queue.timer
        self.feedback = LaneFeedback(queue.feedback, self._own)

    def _make_twin(self) -> Self:
        twin = type(self)(
            [limit.anew() for limit in self.limits[: self._own]],
            self.queue.anew(),
            weight=self.weight,
            max_queue=self.max_queue,
            aging_seconds=self.aging_seconds,
            learned=self.learned,
        )
        twin._hold_until(self.held_until, self.monotonic_ns())
        return twin

    def _leave_to_parent(self) -> None:
        super()._leave_to_parent()
        # In the round itself the parent's calls stand.
        self.queue = FairQueue((), clock=self.clock)

    @property
    def lane_idle(self) -> bool:
        """Whether nothing of this key counts any more, whatever the common limits say."""
        with self.door:
            if self.queued or self.in_flight:
                return False
            now = self.monotonic_ns()
            own = self.limits[: self._own]
            return now >= self.held_until and all(limit.at_rest(now) for limit in own)

    def pass_through(self, permit: Admission) -> bool:
        """Admit at once if neither the lane nor the round has somebody waiting."""
        if self.queue.round or self.queue.held_until > self.monotonic_ns():
            return False
        return super().pass_through(permit)

    def _pump(self, now: int) -> None:
        if self._lines.count:
            self.queue.join(self)
        self.queue.serve(now)
        self.busy = bool(self._lines.count) or now < self.held_until

    def first(self) -> Admission | None:
        """Return who is first in this lane."""
        return self._lines.first()

    def next_valid(self, now: int) -> Admission | None:
        """Return who is first and can go at all."""
        while (head := self._lines.first()) is not None:
            error = self._refusal(head.costs, now) or self._too_heavy(head)
            if error is None:
                return head
            self._remove(head)
            self._fail(head, error)
        self.busy = now < self.held_until
        return None

    def _too_heavy(self, permit: Admission) -> LLMError | None:
        for limit, cost in zip(self.limits, permit.costs, strict=True):
            if cost > limit.capacity:
                return too_heavy(limit, cost)
        return None

    def own_wait(self, head: Admission, now: int) -> int:
        """Return the wait in nanoseconds that the lane's own limits ask for."""
        return self._longest(head, now, range(self._own), self.held_until)

    def common_wait(self, head: Admission, now: int) -> int:
        """Return the wait in nanoseconds that the common limits ask for."""
        places = range(self._own, len(self.limits))
        return self._longest(head, now, places, self.queue.held_until)

    def _longest(self, head: Admission, now: int, places: range, held_until: int) -> int:
        wait_ns, place = max(held_until - now, 0), len(self.limits)
        for index in places:
            at_least = self.limits[index].plan(now, head.costs[index])
            if at_least > wait_ns:
                wait_ns, place = at_least, index
        if wait_ns:
            self._blame.note(now, place)
        return wait_ns

    def share_of(self, permit: Admission) -> float:
        """Return what the call takes of the common limit of which it takes most; requests if of none."""
        common = zip(self.limits[self._own :], permit.costs[self._own :], strict=True)
        return max((float(cost) / float(limit.capacity) for limit, cost in common), default=1.0)

    def admit_head(self, head: Admission, now: int) -> None:
        """Let the first one go."""
        self._remove(head)
        self._grant(head, now)

    def _remove(self, permit: Admission) -> None:
        super()._remove(permit)
        self.queue.waiting -= 1

    def _put_back(self, permits: list[Admission]) -> None:
        super()._put_back(permits)
        self.queue.waiting += len(permits)

    def enqueue(
        self,
        permit: Admission,
        waiter: asyncio.Future[None] | ThreadSignal,
    ) -> None:
        """Put `permit` into the lane; see `Turnstile.enqueue`."""
        check_room(self.queue.waiting, self.queue.max_queue)
        self.queue.waiting += 1
        try:
            super().enqueue(permit, waiter)
        except LLMError:
            self.queue.waiting -= 1
            raise

    def _after_change(self, now: int) -> None:
        if self.queue.waiting:
            if self._lines.count:
                self.queue.join(self)
            self.queue.serve(now)


class CommonLane(Lane):
    """The lane through which the common limits themselves are spoken to."""

    __slots__ = ()

    def hold(self, seconds: float) -> None:
        """Hold all lanes."""
        self.queue.hold(seconds)
