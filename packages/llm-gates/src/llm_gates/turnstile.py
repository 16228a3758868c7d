"""One queue of waiters over a set of limits.

All limits of a call are taken together or not at all; asyncio tasks of any event loop and threads stand in the
same queue; whoever stands first decides the one timer that is set, so nobody polls.
Everything here happens under one lock, which is never held while somebody waits.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Any, Self

from llm_core import (
    Clock,
    ConfigurationError,
    InvalidValue,
    LLMError,
    RateLimitFacts,
    SystemClock,
)
from llm_core.later import asyncio
from llm_gates.absent import Absent, Leaving
from llm_gates.door import Door
from llm_gates.estimates import LearnedEstimates
from llm_gates.feedback import Feedback, LaneFeedback
from llm_gates.limits import NEVER, UNLIMITED, Left, Limit
from llm_gates.lines import Blame, Deadlines, Lines
from llm_gates.passage import Passage
from llm_gates.permit import (
    AWAY,
    ENDED,
    ENTERED,
    GRANTED,
    WAITING,
    Admission,
    GatePermit,
    ThreadSignal,
)
from llm_gates.refusals import HOLD, check_room, timed_out, too_heavy
from llm_gates.snapshot import GateSnapshot, LimitSnapshot
from llm_gates.timer import GRACE_NS, Timer
from llm_gates.weights import check_seconds

__all__ = ["Turnstile"]


_AGING_SECONDS = 30.0


class Turnstile(Passage):
    """The queue of one set of limits.

    `aging_seconds` is how much longer than its neighbour a call must have waited to overtake one whose
    priority is higher by one.
    """

    __slots__ = (
        "_absent",
        "_blame",
        "_heir",
        "_leaving",
        "_lines",
        "_real_time",
        "_timer",
        "_twin",
        "_unknown",
        "aging_seconds",
        "held_until",
        "max_queue",
    )

    def __init__(
        self,
        limits: Iterable[Limit],
        *,
        clock: Clock | None = None,
        max_queue: int | None = None,
        aging_seconds: float | None = None,
        learned: LearnedEstimates | None = None,
        door: Door | None = None,
    ) -> None:
        super().__init__(limits, clock=clock, learned=learned, door=door)
        self.max_queue = max_queue
        self.aging_seconds = aging_seconds
        self.held_until = 0
        self._real_time = isinstance(self.clock, SystemClock)
        self._lines = Lines(
            len(self.limits),
            aging_ns=round((aging_seconds or _AGING_SECONDS) * 1e9),
            deadlines=Deadlines(),
        )
        self._blame = Blame([*[limit.name for limit in self.limits], HOLD])
        self._absent = Absent(self._return_from)
        self._leaving = Leaving()
        # The queue that this one's limits were put into.
        self._heir: Turnstile | None = None
        self._twin: Self | None = None
        # Whether the first one's wait is unknown as long as nobody leaves.
        self._unknown = False
        self._timer = Timer(self.clock, self.pump)

    def begin(self, permit: Admission) -> asyncio.Future[None] | None:
        """Admit `permit` at once and return None, or put it into the queue and return what to wait for.

        Where nothing holds a call it has ended for the gate as soon as it is admitted at once.
        """
        self.key.get()
        try:
            if self.pass_through(permit):
                if not self.holds:
                    self.in_flight -= 1
                    permit.state = ENDED
                return None
            future = asyncio.get_running_loop().create_future()
            self.enqueue(permit, future)
            return future
        finally:
            self.key.put(None)
            if self.errands:
                self.door.tidy()

    def _clear_hold(self) -> bool:
        if self._lines.count or self.monotonic_ns() < self.held_until:
            return False
        self.busy = False
        return True

    def enqueue(
        self,
        permit: Admission,
        waiter: asyncio.Future[None] | ThreadSignal,
    ) -> None:
        """Put `permit` into the queue, or raise what is already known to go wrong; the lock is held.

        It is woken through `waiter`.
        """
        now = self.monotonic_ns()
        costs = permit.costs = self.unit_costs or self._costs_of(permit)
        if self._refusing and (error := self._refusal(costs, now)):
            raise error
        for limit, cost in zip(self.limits, costs, strict=True):
            if cost > limit.capacity:
                raise too_heavy(limit, cost)
        check_room(self.queued, self.max_queue)
        permit.deadline = None
        if permit.timeout is not None and permit.timeout != math.inf:
            self._check_timeout(permit, now)
        permit.waiter = waiter
        permit.state = WAITING
        permit.enqueued = now
        permit.entries = self._blame.so_far(now)
        self.busy = True
        if self._lines.add(permit) or permit.deadline is not None or self._timer.dead:
            self._pump(now)
        if not isinstance(waiter, ThreadSignal):
            self._timer.watch(waiter.get_loop())

    def _check_timeout(self, permit: Admission, now: int) -> None:
        """Note the deadline; GateTimeout if as things stand it cannot be kept."""
        timeout = permit.timeout
        assert timeout is not None
        if math.isnan(timeout):
            raise InvalidValue.of(
                "timeout", timeout, "a number of seconds, or None to wait for ever"
            )
        wait_ns = max(self.held_until - now, 0)
        name = HOLD
        ahead = self._lines.costs_ahead(permit, now)
        for limit, cost, queued in zip(self.limits, permit.costs, ahead, strict=True):
            at_least = limit.earliest(now, queued + cost)
            if at_least > wait_ns:
                wait_ns, name = at_least, limit.name
        if timeout <= 0 or wait_ns > timeout * 1e9:
            raise timed_out(permit.timeout, name, wait_ns / 1e9, self._lines.count)
        self._lines.deadlines.add(permit, now + round(timeout * 1e9))

    def _after_change(self, now: int) -> None:
        if self._heir is not None:
            self._heir._after_change(now)
        else:
            self._pump(now)

    def give_way(self, heir: Turnstile) -> None:
        """Leave the limits to the queue of a larger set; calls in flight end and settle through it.

        ConfigurationError if somebody waits, who would stand in two queues.
        """
        with self.door:
            if self.queued:
                raise ConfigurationError(
                    f"gates: expected nobody to wait at them, but {self.queued} do at one; "
                    "put gates together before they are used"
                )
            self._heir = heir
            self.shared = True
            self.short = False
            self.alone = self.open = self.pair = None
            self.door, self.key, self.errands = heir.door, heir.key, heir.errands

    def anew(self) -> Self:
        """Return the queue that stands in the place of this one in a forked child, always the same.

        This one is left to what the child has inherited of the parent's calls: their ends give nothing back to the
        child, nobody waits at it, and nobody is let in.
        """
        if self._twin is None:
            twin = self._make_twin()
            self._leave_to_parent()
            self._twin = twin
        return self._twin

    def _make_twin(self) -> Self:
        twin = type(self)(
            [limit.anew() for limit in self.limits],
            clock=self.clock,
            max_queue=self.max_queue,
            aging_seconds=self.aging_seconds,
            learned=self.learned,
        )
        if isinstance(self.feedback, Feedback):
            twin._begin_books(self.feedback.anew(twin.limits))
        twin._hold_until(self.held_until, self.monotonic_ns())
        return twin

    def _leave_to_parent(self) -> None:
        # A thread of the parent may have been anywhere inside, and nobody of those who wait may be woken from here.
        Turnstile.__init__(self, self.limits, clock=self.clock)
        self.alone = self.open = self.pair = None
        if self.limits:
            self._refusing = ((0, Left()),)
            self._hold_until(NEVER, 0)
        # How the parent's calls end is not to be judged, nor told, here.
        self.holds = ()

    def _hold_until(self, time: int, now: int) -> None:
        self.held_until = max(self.held_until, time)
        self.busy = self.busy or now < self.held_until

    def _begin_books(self, feedback: Feedback) -> None:
        self.feedback = feedback
        self.alone = self.open = self.pair = None
        self.short = False

    def pump(self) -> None:
        """Admit whoever may go now, and set the timer for the next."""
        with self.door:
            self._pump(self.monotonic_ns())

    def _pump(self, now: int) -> None:
        self._lines.deadlines.expire(now)
        while (head := self._lines.first()) is not None:
            if self._refusing and (error := self._refusal(head.costs, now)):
                self._remove(head)
                self._fail(head, error)
                continue
            wait_ns, place = self._plan(head, now)
            if wait_ns:
                if self._leaving.recall():
                    continue
                self._blame.note(now, place)
                if self._set_timer(head, now, wait_ns):
                    return
                self.set_aside(head)
            else:
                self._remove(head)
                self._grant(head, now)
        self._blame.note(now, None)
        self._timer.clear()
        self.busy = now < self.held_until

    def _plan(self, permit: Admission, now: int) -> tuple[int, int]:
        """Return the wait in nanoseconds and the place of the limit that asks for the longest one."""
        wait_ns, place = self.held_until - now, len(self.limits)
        if wait_ns <= 0:
            wait_ns, place = 0, 0
        for index, limit in enumerate(self.limits):
            at_least = limit.plan(now, permit.costs[index])
            if at_least > wait_ns:
                wait_ns, place = at_least, index
        return wait_ns, place

    def _set_timer(self, head: Admission, now: int, wait_ns: int) -> bool:
        """Set the timer for `head` or the first deadline; return False if its event loop does not run."""
        self._unknown = wait_ns >= NEVER
        when = NEVER if self._unknown else now + wait_ns
        if (deadline := self._lines.deadlines.first()) is not None:
            when = min(when, deadline[0])
        if self._leaving:
            when = min(when, now + GRACE_NS)
        if when == NEVER:
            self._timer.clear()
            return True
        try:
            self._timer.set(when, head)
        except RuntimeError:
            return False
        return True

    def _grant(self, permit: Admission, now: int) -> None:
        permit.waited_for = self._blame.longest(permit, now)
        permit.entries = tuple(
            [limit.take(cost) for limit, cost in zip(self.limits, permit.costs, strict=True)]
        )
        permit.state = GRANTED
        if permit.wake():
            self._leaving.add(permit)
        else:
            self._take_back(permit)
            self._put_away(permit)

    def _fail(self, permit: Admission, error: LLMError) -> None:
        permit.state = ENDED
        permit.entries = ()
        permit.wake()
        permit.waiter = error

    def _remove(self, permit: Admission) -> None:
        """Take a waiter out of the counts; its line forgets it later."""
        permit.state = ENDED
        self._lines.remove(permit)

    def set_aside(self, permit: Admission) -> None:
        """Take a waiter whose event loop does not run out of the way until it does; the lock is held."""
        self._remove(permit)
        self._put_away(permit)

    def recall(self, permit: Admission) -> None:
        """Put a waiter out of the way who was told to go before its event loop stopped; the lock is held."""
        assert isinstance(permit.waiter, asyncio.Future)
        self._take_back(permit)
        # The old one is resolved, or will be: whoever wakes up from it waits for this one.
        permit.waiter = permit.waiter.get_loop().create_future()
        self._put_away(permit)

    def _put_away(self, permit: Admission) -> None:
        if self._absent.add(permit):
            permit.entries = self._blame.so_far(self.monotonic_ns())

    def _return_from(self, loop: asyncio.AbstractEventLoop) -> None:
        with self.door:
            self._put_back(self._absent.take(loop))
            for place, limit in enumerate(self.limits):
                self._fail_heavier(place, limit)
            self._pump(self.monotonic_ns())

    def _put_back(self, permits: list[Admission]) -> None:
        self.busy = True
        self._lines.put_back(permits)

    def expire(self, permit: Admission) -> None:
        """Fail a waiter whose time is up; the lock is held."""
        self.refuse(permit, self._blame.name, 0)

    def refuse(self, permit: Admission, name: str, wait_ns: int) -> None:
        """Fail a waiter because it would have to wait `wait_ns` more for `name`; the lock is held."""
        self._remove(permit)
        self._fail(permit, timed_out(permit.timeout, name, wait_ns / 1e9, self._lines.count))

    def leave(self, permit: Admission, *, over: bool = False) -> asyncio.Future[None] | None:
        """Stamp a granted permit at the moment its waiter really goes; raise what it failed with.

        Returns what to wait for if the grant was taken back meanwhile, because the event loop had stopped.
        `over` says that the call has ended for the gate with that, if nothing holds it.
        """
        self.key.get()
        try:
            waiter = permit.waiter
            if isinstance(waiter, LLMError):
                raise waiter
            if permit.state != GRANTED:
                assert isinstance(waiter, asyncio.Future)
                return waiter
            self._leaving.discard(permit)
            clock = self.monotonic_ns
            now = clock()
            taken = permit.entries
            if self.single is not None:
                permit.entries = (self.single.stamp(now, permit.costs[0], taken[0]),)
            else:
                permit.entries = tuple(
                    [
                        limit.stamp(now, cost, what)
                        for limit, cost, what in zip(self.limits, permit.costs, taken, strict=True)
                    ]
                )
            permit.wait_ns = now - permit.enqueued
            if self.feedback is not None:
                permit.entries = (*permit.entries, self.feedback.note(now, permit.costs))
            if over and not self.holds:
                permit.state = ENDED
            else:
                permit.state = ENTERED
                self.in_flight += 1
            if self.shared or (self._unknown and self._lines.count):
                self._after_change(now)
            return None
        finally:
            self.key.put(None)
            if self.errands:
                self.door.tidy()

    def withdraw(self, permit: Admission) -> None:
        """Forget a waiter that gave up, wherever it stands; the lock is held."""
        if permit.state == WAITING:
            self._remove(permit)
            permit.entries = ()
        elif permit.state == GRANTED:
            self._take_back(permit)
        elif permit.state == AWAY:
            permit.state = ENDED
            return
        else:
            return
        self._pump(self.monotonic_ns())

    def _take_back(self, permit: Admission) -> None:
        permit.state = ENDED
        self._leaving.discard(permit)
        for limit, cost, taken in zip(self.limits, permit.costs, permit.entries, strict=True):
            limit.drop(cost, taken)
        permit.entries = ()

    def hold(self, seconds: float) -> None:
        """Admit nobody for `seconds`; waiters that cannot wait that long fail at once."""
        check_seconds("seconds", seconds)
        with self.door:
            now = self.monotonic_ns()
            self._hold_until(now + round(seconds * 1e9), now)
            for permit in self._lines.deadlines.before(self.held_until):
                if permit.turnstile is self:
                    self.refuse(permit, HOLD, self.held_until - now)
            self._pump(now)

    def observe(self, facts: RateLimitFacts, permit: GatePermit | None) -> None:
        """Correct the limits by the headers of a reply; the first one begins the books."""
        feedback = self.feedback or self._first_books(facts)
        if feedback is None:
            return
        clock = self.monotonic_ns
        left = None if permit is None else permit.turnstile.left_at(permit)
        news = feedback.news(clock(), facts, left)
        if not news:
            return
        with self.door:
            now = clock()
            for limit in feedback.observe(now, news, left):
                self._fail_heavier(self.limits.index(limit), limit)
            if self.shared or self._lines.count:
                self._after_change(now)

    def _first_books(self, facts: RateLimitFacts) -> Feedback | LaneFeedback | None:
        """Return the books, begun now if headers say anything about limits: a limit that is set later needs them."""
        if not any((facts.requests, facts.tokens, facts.input_tokens, facts.output_tokens)):
            return None
        with self.door:
            if self.feedback is None:
                self._begin_books(Feedback(self.limits))
            return self.feedback

    def set_capacity(self, limit: Limit, capacity: Any) -> None:
        """Change a limit; waiters that become too heavy for it fail, the others see it at once."""
        with self.door:
            now = self.monotonic_ns()
            limit.set_capacity(capacity)
            if self.feedback is not None:
                self.feedback.want(limit, capacity)
            self._fail_heavier(self.limits.index(limit), limit)
            self._pump(now)

    def _fail_heavier(self, place: int, limit: Limit) -> None:
        """Fail waiters that have become too heavy for a limit that was lowered."""
        for permit in self._lines.heavier_than(place, limit.capacity):
            self._remove(permit)
            self._fail(permit, too_heavy(limit, permit.costs[place]))

    def snapshot(self) -> GateSnapshot:
        """Return the state of the queue and of all limits, but those that are none."""
        with self.door:
            now = self.monotonic_ns()
            limits = [limit for limit in self.limits if limit.capacity < UNLIMITED]
            return GateSnapshot(
                limits=tuple([LimitSnapshot.of(limit, now) for limit in limits]),
                in_flight=self.in_flight,
                queued=self.queued,
                held_seconds=max(self.held_until - now, 0) / 1e9,
            )

    def thread_timeout(self, permit: Admission) -> float:
        """Return how long a waiting thread may sleep before it looks at the queue; -1 for ever."""
        if not self._real_time:
            # Nobody wakes a thread when the hands of such a clock move, so it looks by itself.
            return 0.001
        wake_at = permit.waiter.wake_at if isinstance(permit.waiter, ThreadSignal) else None
        times = [
            time for time in (wake_at, permit.deadline, self._timer.overdue_at) if time is not None
        ]
        if not times:
            return -1
        return min(max(min(times) - self.monotonic_ns(), 0) / 1e9, threading.TIMEOUT_MAX)

    @property
    def idle(self) -> bool:
        """Whether nobody waits, nothing is in flight and nothing counts any more."""
        with self.door:
            if self.queued or self.in_flight:
                return False
            now = self.monotonic_ns()
            return now >= self.held_until and all(limit.at_rest(now) for limit in self.limits)

    @property
    def queued(self) -> int:
        """How many wait."""
        return self._lines.count + len(self._absent)
