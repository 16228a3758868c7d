"""The queue of a process in front of limits that are counted in Redis."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any, Self

from llm_core import InvalidValue, LLMError, RateLimitFacts
from llm_gates.courier import Courier
from llm_gates.door import Door
from llm_gates.estimates import LearnedEstimates
from llm_gates.limits import Limit, Metric
from llm_gates.permit import ENDED, ENTERED, GRANTED, WAITING, Admission, GatePermit, ThreadSignal
from llm_gates.refusals import check_room, too_heavy
from llm_gates.shared_limits import SharedLimit, local_share, share_of
from llm_gates.sharing import Sharing
from llm_gates.snapshot import GateSnapshot, LimitSnapshot
from llm_gates.turnstile import Turnstile
from llm_gates.weights import check_seconds
from llm_gates.wishes import Wish

__all__ = ["SharedTurnstile"]


class SharedTurnstile(Turnstile):
    """Hands its waiters to a courier, and lets them go when it has told their time.

    Its lock is the courier's. Where a local share stands in for a lost server, a waiter is handed on to a turnstile of
    this process alone; its permit belongs to that one from then on.
    """

    __slots__ = ("_aging_seconds", "_sharing", "_stand_in", "courier")

    def __init__(
        self,
        limits: Sequence[Limit],
        sharing: Sharing,
        *,
        max_queue: int | None,
        aging_seconds: float,
        learned: LearnedEstimates | None,
    ) -> None:
        self.courier = Courier(limits, sharing, decided=self._decided)
        super().__init__(
            self.courier.limits,
            max_queue=max_queue,
            aging_seconds=aging_seconds,
            learned=learned,
            door=self.courier.door,
        )
        self._sharing = sharing
        self._aging_seconds = aging_seconds
        self._stand_in: Turnstile | None = None
        # Nothing can be decided here, so that there is no short way.
        self.alone = self.open = self.pair = None
        self.short = False

    @property
    def twins(self) -> Sequence[SharedLimit]:
        """The limits, each the twin of one that was given."""
        return self.courier.limits

    def _make_twin(self) -> Self:
        """Return a queue with a courier of its own, which knows what this one knows of the limits."""
        twin = type(self)(
            [limit.origin for limit in self.twins],
            self._sharing,
            max_queue=self.max_queue,
            aging_seconds=self._aging_seconds,
            learned=self.learned,
        )
        for limit, old in zip(twin.twins, self.twins, strict=True):
            limit.adopt(old)
        return twin

    def _leave_to_parent(self) -> None:
        self.courier.abandon()
        if self._stand_in is not None:
            self._stand_in.anew()
        # A thread of the parent may have been inside.
        self.door = Door()
        self.key = self.door.key
        self.errands = self.door.errands

    def pass_through(self, permit: Admission) -> bool:
        """Return False: only the server can tell."""
        return False

    def enqueue(
        self,
        permit: Admission,
        waiter: asyncio.Future[None] | ThreadSignal,
    ) -> None:
        """Send `permit` to the server, or raise what is already known to go wrong; the lock is held."""
        if permit.timeout is not None and math.isnan(permit.timeout):
            raise InvalidValue.of(
                "timeout", permit.timeout, "a number of seconds, or None to wait for ever"
            )
        costs = permit.costs = self.unit_costs or self._costs_of(permit)
        for limit, cost in zip(self.limits, costs, strict=True):
            if cost > limit.capacity:
                raise too_heavy(limit, cost)
        check_room(self.queued, self.max_queue)
        permit.enqueued = self.monotonic_ns()
        permit.waiter = waiter
        permit.deadline = None
        if self.courier.stands_in:
            self._hand_on(permit)
            return
        aged_ns = round(permit.priority * self._aging_seconds * 1e9)
        wish = Wish(permit, rank=permit.enqueued - aged_ns)
        self.courier.send(wish)
        permit.entries = (wish,)
        permit.state = WAITING

    def _decided(self, wish: Wish) -> None:
        """Wake a waiter; the lock is held, mostly by the courier's thread."""
        permit = wish.permit
        if wish.error is not None:
            self._fail(permit, wish.error)
        elif not wish.entries and self.limits:
            self._hand_on(permit)
        else:
            permit.waited_for = wish.waited_for
            permit.state = GRANTED
            if not _wake_at(permit, wish.due):
                permit.state = ENDED
                self.courier.withdraw(wish)

    def _hand_on(self, permit: Admission) -> None:
        """Let a permit go by the limits of this process alone."""
        began = permit.enqueued
        stand_in = permit.turnstile = self._alone()
        if permit.timeout is not None:
            permit.timeout = max(permit.timeout - (self.monotonic_ns() - began) / 1e9, 0.0)
        try:
            with stand_in.door:
                assert not isinstance(permit.waiter, LLMError)
                stand_in.enqueue(permit, permit.waiter)
        except LLMError as error:
            self._fail(permit, error)
        permit.enqueued = began

    def _alone(self) -> Turnstile:
        if self._stand_in is None:
            share = self._sharing.stand_in
            assert share is not None
            self._stand_in = Turnstile(local_share(self.twins, share))
        return self._stand_in

    def leave(self, permit: Admission, *, over: bool = False) -> asyncio.Future[None] | None:
        """Let a granted permit go when its time has come; raise what it failed with."""
        with self.door:
            if isinstance(permit.waiter, LLMError):
                raise permit.waiter
            home = permit.turnstile
        if home is not self:
            return home.leave(permit, over=over)
        wish: Wish = permit.entries[0]
        if isinstance(permit.waiter, ThreadSignal):
            try:
                time.sleep(max(wish.due - time.monotonic(), 0.0))
            except BaseException:
                self.door.do(self.withdraw, permit)
                raise
        with self.door:
            self.courier.left(wish)
            permit.entries = tuple(
                wish.lease if limit.holds else entry
                for limit, entry in zip(self.limits, wish.entries, strict=True)
            )
            permit.wait_ns = self.monotonic_ns() - permit.enqueued
            permit.state = ENTERED
            self.in_flight += 1
            if over and not self.holds:
                self.finish(permit)
        return None

    def withdraw(self, permit: Admission) -> None:
        """Forget a waiter that gave up, wherever it stands; the lock is held."""
        home = permit.turnstile
        if home is not self:
            home.door.do(home.withdraw, permit)
        elif permit.state in (WAITING, GRANTED):
            self.courier.withdraw(permit.entries[0])
            permit.state = ENDED
            permit.entries = ()

    def hold(self, seconds: float) -> None:
        """Admit nobody in any process for `seconds`; waiters that cannot wait that long fail at once."""
        check_seconds("seconds", seconds)
        with self.door:
            self.courier.hold(seconds)
            stand_in = self._stand_in
        if stand_in is not None:
            stand_in.hold(seconds)

    def observe(self, facts: RateLimitFacts, permit: GatePermit | None) -> None:
        """Lower limits to what the headers of a reply say they are, for all processes."""
        told = {
            Metric.REQUESTS: facts.requests,
            Metric.TOKENS: facts.tokens,
            Metric.INPUT_TOKENS: facts.input_tokens,
            Metric.OUTPUT_TOKENS: facts.output_tokens,
        }
        with self.door:
            for metric, window in told.items():
                if window is not None and window.limit:
                    limit = self._meant(metric, window.limit)
                    if limit is not None:
                        limit.tell(window.limit)
                        self.courier.fail_heavier(limit.place)

    def _meant(self, metric: Metric, size: int) -> SharedLimit | None:
        """Return the limit that a header speaks of: the one of its size, else the longest of its metric."""
        rivals = [
            limit for limit in self.courier.limits if limit.metric == metric and not limit.holds
        ]
        exact = [limit for limit in rivals if limit.capacity == size]
        return next(iter(exact), max(rivals, key=lambda limit: limit.life_us, default=None))

    def set_capacity(self, limit: Limit, capacity: Any) -> None:
        """Change a limit for all processes; waiters that become too heavy for it fail."""
        assert isinstance(limit, SharedLimit)
        with self.door:
            limit.set_capacity(capacity)
            self.courier.fail_heavier(limit.place)
            stand_in = self._stand_in
        if stand_in is not None and self._sharing.stand_in is not None:
            alone = stand_in.limits[limit.place - 1]
            stand_in.set_capacity(alone, share_of(capacity, self._sharing.stand_in))

    def snapshot(self) -> GateSnapshot:
        """Return what the last answer of the server told, and the state of this process."""
        with self.door:
            now = self.monotonic_ns()
            return GateSnapshot(
                limits=tuple([LimitSnapshot.of(limit, now) for limit in self.limits]),
                in_flight=self.in_flight,
                queued=self.queued,
                held_seconds=max(self.courier.held_until - time.monotonic(), 0.0),
            )

    def pump(self) -> None:
        """Look after waiters that were handed on; the courier does it for all others."""
        if self._stand_in is not None:
            self._stand_in.pump()

    def thread_timeout(self, permit: Admission) -> float:
        """Return how long a waiting thread may sleep: until the courier wakes it."""
        home = permit.turnstile
        return -1 if home is self else home.thread_timeout(permit)

    @property
    def idle(self) -> bool:
        """Whether nobody waits, nothing is in flight and nothing is to be carried."""
        with self.door:
            return not self.in_flight and self.courier.idle

    @property
    def queued(self) -> int:
        """How many wait."""
        return self.courier.line.waiting


def _wake_at(permit: Admission, due: float) -> bool:
    """Wake a waiter when it is due; return False if its event loop is gone. A thread waits for that by itself."""
    waiter = permit.waiter
    if not isinstance(waiter, asyncio.Future):
        return permit.wake()
    loop = waiter.get_loop()
    try:
        loop.call_soon_threadsafe(_resolve_at, loop, waiter, due)
    except RuntimeError:
        return False
    return True


def _resolve_at(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], due: float) -> None:
    delay = due - time.monotonic()
    if delay > 0:
        loop.call_later(delay, _resolve, future)
    else:
        _resolve(future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
