"""What headers teach: other users of the quota, levels, lowered limits; simulated in virtual time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from llm_core import CostExceedsLimit, RateLimitFacts, RateLimitWindow
from llm_core.testing import ManualClock
from llm_gates import UNLIMITED, ConcurrencyGate, GateSet, RpdGate, RpmGate, TpmGate
from llm_gates.feedback import Feedback

LIMIT = 500


class Provider:
    """A strict sliding window or a token bucket that several use."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.stamps: deque[float] = deque()
        self.debt = self.at = 0.0
        self.accepted = 0

    def ask(self, now: float) -> tuple[bool, int]:
        if self.kind == "sliding":
            while self.stamps and self.stamps[0] <= now - 1:
                self.stamps.popleft()
            free = LIMIT - len(self.stamps)
            if free > 0:
                self.stamps.append(now)
        else:
            self.debt = max(self.debt - (now - self.at) * LIMIT, 0.0)
            self.at = now
            free = int(LIMIT - self.debt)
            if free > 0:
                self.debt += 1
        self.accepted += free > 0
        return free > 0, max(free - 1, 0)


async def simulate(
    kind: str, algorithm: Any, foreign_rate: float, seconds: float
) -> tuple[float, float]:
    """Return the share of our calls that were refused and the use of the whole limit."""
    random_source = random.Random(7)
    clock = ManualClock()
    provider = Provider(kind)
    gates = RpmGate(LIMIT, per_seconds=1, guard_seconds=0.006, algorithm=algorithm, clock=clock)
    turnstile, limit = gates._turnstile, gates._limits[0]
    order = itertools.count()
    events: list[tuple[float, int, Callable[[float], None]]] = []

    def at(time: float, what: Callable[[float], None]) -> None:
        heapq.heappush(events, (time, next(order), what))

    asked = refused = 0

    def foreign(now: float) -> None:
        provider.ask(now)
        at(now + random_source.expovariate(foreign_rate), foreign)

    def ours(now: float) -> None:
        nonlocal asked, refused
        admission = gates.admit()
        with turnstile.door:
            passed = turnstile.pass_through(admission)
            wait = 0 if passed else limit.plan(turnstile.monotonic_ns(), 1)
        if passed:
            at(now + random_source.uniform(0, 0.002), lambda t: arrive(t, admission))
            at(now + 1e-6, ours)
        else:
            at(now + min(wait / 1e9, 0.005), ours)

    def arrive(now: float, admission: Any) -> None:
        nonlocal asked, refused
        accepted, remaining = provider.ask(now)
        asked += now > 2
        refused += now > 2 and not accepted
        window = RateLimitWindow(limit=LIMIT, remaining=remaining)
        at(now + 0.01, lambda t: answer(window, admission))

    def answer(window: RateLimitWindow, admission: Any) -> None:
        gates.observe(RateLimitFacts(requests=window), permit=admission)
        admission.release()

    at(0.0, ours)
    if foreign_rate:
        at(0.0, foreign)
    began = 0
    now = 0.0
    while now < seconds:
        now, _, what = heapq.heappop(events)
        clock.advance(max(now - clock.monotonic_ns() / 1e9, 0))
        if now > 2 and not began:
            began = provider.accepted
        what(now)
    return refused / max(asked, 1), (provider.accepted - began) / (LIMIT * (seconds - 2))


@pytest.mark.parametrize("foreign_rate", [50.0, 150.0])
async def test_a_quota_shared_with_an_unseen_consumer(foreign_rate: float) -> None:
    refused, use = await simulate("sliding", "sliding", foreign_rate, 8)
    assert refused <= 0.005
    assert use >= 0.98


async def test_a_bucket_shared_with_an_unseen_consumer() -> None:
    refused, use = await simulate("bucket", "bucket", 100.0, 8)
    assert refused <= 0.005
    assert use >= 0.98


async def test_alone_headers_change_nothing() -> None:
    refused, use = await simulate("sliding", "sliding", 0.0, 6)
    assert refused == 0
    assert use >= 0.98


def told(limit: int, remaining: int, **options: float) -> RateLimitFacts:
    window = RateLimitWindow(limit=limit, remaining=remaining, **options)
    return RateLimitFacts(requests=window)


async def test_a_lower_limit_of_the_provider_is_taken_over() -> None:
    gate = RpmGate(100, clock=ManualClock())
    gate.observe(told(40, 39))
    assert gate.limit == 40
    gate.observe(told(500, 400))
    assert gate.limit == 100
    gate.set_limit(60)
    gate.observe(told(70, 60))
    assert gate.limit == 60


async def test_what_others_used_is_allowed_for_and_forgotten_when_it_was_not_so() -> None:
    clock = ManualClock()
    gates = GateSet(RpmGate(100), ConcurrencyGate(50), clock=clock)
    async with gates.admit() as permit:
        clock.advance(1)
        gates.observe(told(100, 39), permit=permit)
    assert gates.snapshot().limit("rpm").remaining <= 39
    clock.advance(1)
    async with gates.admit() as permit:
        clock.advance(1)
        gates.observe(told(100, 98), permit=permit)
    assert gates.snapshot().limit("rpm").remaining >= 90


async def test_a_quota_larger_than_ours_leaves_others_their_part() -> None:
    clock = ManualClock()
    gate = RpmGate(100, clock=clock)
    async with gate.admit() as permit:
        gate.observe(told(1_000, 500), permit=permit)
    assert gate.snapshot().limits[0].remaining == 99


async def test_headers_of_a_day_do_not_change_the_minute() -> None:
    clock = ManualClock()
    gates = GateSet(RpmGate(100), RpdGate(10_000), clock=clock)
    async with gates.admit() as permit:
        gates.observe(told(10_000, 3_000), permit=permit)
    assert gates.snapshot().limit("rpm").remaining == 99
    assert gates.snapshot().limit("rpd").remaining <= 3_000


async def test_a_fixed_window_learns_its_turn_and_its_use() -> None:
    clock = ManualClock()
    gate = RpmGate(100, algorithm="fixed", guard_seconds=0, clock=clock)
    async with gate.admit() as permit:
        gate.observe(told(100, 9, reset_seconds=20), permit=permit)
    assert gate.snapshot().limits[0].remaining <= 9
    clock.advance(20)
    assert gate.snapshot().limits[0].used == 0


async def test_headers_begin_no_limit_that_is_not_there_yet() -> None:
    gate = RpmGate(UNLIMITED, clock=ManualClock())
    async with gate.admit() as permit:
        pass
    gate.observe(told(40, 39), permit=permit)
    assert gate.limit == UNLIMITED
    assert gate.snapshot().limits == ()

    gate.set_limit(50)
    gate.observe(told(40, 39), permit=permit)
    assert gate.limit == 40

    gate.set_limit(UNLIMITED)
    gate.observe(told(40, 39), permit=permit)
    assert gate.limit == UNLIMITED


async def test_what_was_sent_before_there_was_a_limit_is_not_taken_for_the_use_of_others() -> None:
    clock = ManualClock()
    gate = RpmGate(UNLIMITED, clock=clock)
    for sent in range(1, 44):
        if sent == 41:
            gate.set_limit(100)
        async with gate.admit() as permit:
            clock.advance(0.1)
        gate.observe(told(100, 100 - sent), permit=permit)
    # The first call left before a header had begun the books, and chance is allowed for it.
    assert 43 <= gate.snapshot().limit("rpm").used <= 45


async def test_headers_speak_of_a_limit_and_not_of_one_that_is_none() -> None:
    clock = ManualClock()
    rpm, rpd = RpmGate(100, clock=clock), RpdGate(UNLIMITED, clock=clock)
    gates = GateSet(rpm, rpd)
    async with gates.admit() as permit:
        pass
    gates.observe(told(40, 39), permit=permit)
    assert (rpm.limit, rpd.limit) == (40, UNLIMITED)


async def test_tokens_are_observed_without_naming_the_call_and_retry_after_holds() -> None:
    clock = ManualClock()
    gate = TpmGate(1_000, clock=clock)
    for _ in range(3):
        async with gate.admit(tokens=100):
            clock.advance(1)
            gate.observe(RateLimitFacts(tokens=RateLimitWindow(limit=1_000, remaining=200)))
    assert gate.snapshot().limits[0].remaining <= 200
    gate.observe(RateLimitFacts(retry_after=3))
    assert gate.snapshot().held_seconds == 3


async def test_headers_that_say_nothing_change_nothing() -> None:
    gate = RpmGate(10, algorithm="bucket", clock=ManualClock())
    gate.observe(RateLimitFacts())
    await gate.acquire()
    gate.observe(RateLimitFacts(requests=RateLimitWindow()))
    gate.observe(told(10, 1))
    assert gate.snapshot().limits[0].used == 1


async def test_a_waiter_that_a_header_makes_too_heavy_fails() -> None:
    gate = TpmGate(1_000, clock=ManualClock())
    await gate.acquire(1_000)
    heavy = asyncio.create_task(gate.acquire(800))
    await asyncio.sleep(0)
    gate.observe(RateLimitFacts(tokens=RateLimitWindow(limit=500, remaining=0)))
    with pytest.raises(CostExceedsLimit):
        await heavy


async def test_cancelled_calls_leave_nothing_in_the_books() -> None:
    gates = RpmGate(100, clock=ManualClock())
    gates.observe(RateLimitFacts(requests=RateLimitWindow(limit=100, remaining=90)))
    permits = [gates.admit() for _ in range(20)]
    for permit in permits:
        async with permit:
            permit.cancel()
    feedback = gates._turnstile.feedback
    assert isinstance(feedback, Feedback)
    assert feedback.requests_between(-1, 1) == 0


async def test_what_a_call_did_not_use_is_not_taken_for_ours() -> None:
    clock = ManualClock()
    gate = TpmGate(1_000, guard_seconds=0, clock=clock)
    gate.observe(RateLimitFacts(tokens=RateLimitWindow(limit=1_000, remaining=1_000)))
    async with gate.admit(tokens=500) as first, gate.admit(tokens=300) as second:
        clock.advance(1)
        first.settle(tokens=100)
        second.cancel()
    async with gate.admit(tokens=100) as third:
        clock.advance(1)
        # 100 and 100 are ours, so that somebody else has used 300.
        facts = RateLimitFacts(tokens=RateLimitWindow(limit=1_000, remaining=500))
        gate.observe(facts, permit=third)
    assert gate.snapshot().limits[0].remaining <= 500
