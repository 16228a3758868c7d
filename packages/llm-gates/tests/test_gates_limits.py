"""The pure limits against brute-force oracles, driven by Hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from llm_gates.bucket import TokenBucket
from llm_gates.fixed_window import FixedWindow, aligned
from llm_gates.limits import NEVER, Limit, Metric
from llm_gates.sliding_log import SlidingLog

CAPACITY = 10
WINDOW = 1_000
costs = st.integers(0, CAPACITY)


@dataclass
class Call:
    cost: int
    stamp: int | None = None
    entry: Any = None
    gone: bool = False
    log: list[int] = field(default_factory=list)


class LimitMachine(RuleBasedStateMachine):
    """Everything that a turnstile does to a limit, in any order."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.all: list[Call] = []
        self.limit = self.make()

    def make(self) -> Limit:
        raise NotImplementedError

    def oracle(self, at: int) -> int:
        """Return what counts at the time `at`, if nothing else happens."""
        raise NotImplementedError

    def fits(self, cost: int, at: int) -> bool:
        return self.oracle(at) + cost <= CAPACITY

    @rule(by=st.integers(0, WINDOW // 3) | st.sampled_from([1, WINDOW - 1, WINDOW, WINDOW + 7]))
    def advance(self, by: int) -> None:
        self.now += by

    @rule(target=calls, cost=costs)
    def pass_at_once(self, cost: int) -> Any:
        fits = self.fits(cost, self.now)
        entry = self.limit.try_take(self.now, cost)
        assert (entry is not None) == fits
        if entry is None:
            return multiple()
        call = Call(cost, self.now, entry)
        self.all.append(call)
        return call

    @rule(target=calls, cost=costs)
    def grant(self, cost: int) -> Any:
        if self.limit.plan(self.now, cost):
            return multiple()
        assert self.fits(cost, self.now)
        self.limit.take(cost)
        call = Call(cost)
        self.all.append(call)
        return call

    @rule(call=calls)
    def leave(self, call: Call) -> None:
        if call.stamp is None and not call.gone:
            call.entry = self.limit.stamp(self.now, call.cost)
            call.stamp = self.now

    @rule(call=calls)
    def drop(self, call: Call) -> None:
        if call.stamp is None and not call.gone:
            self.limit.drop(call.cost)
            call.gone = True
            self.all.remove(call)

    @rule(call=calls, after=costs)
    def settle(self, call: Call, after: int) -> None:
        if call.stamp is not None:
            self.limit.settle(call.entry, call.cost, after, self.now)
            call.cost = after

    @rule(cost=costs)
    def plan_is_exact(self, cost: int) -> None:
        wait = self.limit.plan(self.now, cost)
        if wait == 0:
            assert self.fits(cost, self.now)
        elif wait < NEVER:
            assert not self.fits(cost, self.now + wait - 1)
            if not any(call.stamp is None for call in self.all):
                assert self.fits(cost, self.now + wait)

    @rule(amount=st.integers(0, 4 * CAPACITY))
    def earliest_is_a_lower_bound(self, amount: int) -> None:
        wait = self.limit.earliest(self.now, amount)
        assert wait >= 0
        if amount <= CAPACITY and 0 < wait < NEVER:
            assert not self.fits(amount, self.now + wait - 1)

    @invariant()
    def counts_what_the_oracle_counts(self) -> None:
        assert self.limit.usage(self.now) == self.oracle(self.now)


class SlidingLogMachine(LimitMachine):
    def make(self) -> Limit:
        return SlidingLog(
            CAPACITY, window_ns=WINDOW - 5, guard_ns=5, metric=Metric.TOKENS, name="log"
        )

    def oracle(self, at: int) -> int:
        return sum(c.cost for c in self.all if c.stamp is None or c.stamp + WINDOW > at)


class FixedWindowMachine(LimitMachine):
    def make(self) -> Limit:
        return FixedWindow(
            CAPACITY,
            window_ns=WINDOW,
            guard_ns=50,
            metric=Metric.TOKENS,
            name="fixed",
            next_turn=aligned(WINDOW, 300),
        )

    def oracle(self, at: int) -> int:
        begins = at - (at - 300) % WINDOW - 50
        return sum(c.cost for c in self.all if c.stamp is None or c.stamp >= begins)


SHORT = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSlidingLog = SlidingLogMachine.TestCase
TestSlidingLog.settings = SHORT
TestFixedWindow = FixedWindowMachine.TestCase
TestFixedWindow.settings = SHORT


class BucketMachine(RuleBasedStateMachine):
    """The bucket against the replay of every call with its true weight."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.bucket = TokenBucket(CAPACITY, window_ns=WINDOW, metric=Metric.TOKENS, name="bucket")
        self.all: list[Call] = []
        self.corrections = 0

    def true_debt(self, at: int) -> int:
        debt, last = 0, 0
        for call in sorted(self.all, key=lambda call: call.stamp or 0):
            assert call.stamp is not None
            debt = max(debt - (call.stamp - last) * CAPACITY, 0) + call.cost * WINDOW
            last = call.stamp
        return max(debt - (at - last) * CAPACITY, 0)

    @rule(by=st.integers(0, WINDOW // 3) | st.sampled_from([1, WINDOW, 2 * WINDOW]))
    def advance(self, by: int) -> None:
        self.now += by

    @rule(target=calls, cost=costs)
    def pass_at_once(self, cost: int) -> Any:
        fits = self.true_debt(self.now) + cost * WINDOW <= CAPACITY * WINDOW
        entry = self.bucket.try_take(self.now, cost)
        if self.corrections <= 1:
            assert (entry is not None) == fits
        else:
            assert entry is None or fits
        if entry is None:
            return multiple()
        call = Call(cost, self.now, entry)
        self.all.append(call)
        return call

    @rule(call=calls, after=costs)
    def settle(self, call: Call, after: int) -> None:
        if call.cost != after:
            self.bucket.settle(call.entry, call.cost, after, self.now)
            call.cost = after
            self.corrections += 1

    @rule(cost=costs)
    def plan_is_exact(self, cost: int) -> None:
        wait = self.bucket.plan(self.now, cost)
        room = (CAPACITY - cost) * WINDOW
        if self.corrections <= 1:
            assert self.true_debt(self.now + wait) <= room
            assert wait == 0 or self.true_debt(self.now + wait - 1) > room

    @invariant()
    def never_believes_in_less_debt_than_there_is(self) -> None:
        self.bucket.plan(self.now, 0)
        debt, truth = self.bucket._debt, self.true_debt(self.now)
        assert debt >= truth
        if self.corrections <= 1:
            assert debt == truth


TestTokenBucket = BucketMachine.TestCase
TestTokenBucket.settings = SHORT


@pytest.mark.parametrize("weight", [1, 7])
def test_a_coarse_log_keeps_the_promise_in_constant_memory_at_98_percent(weight: int) -> None:
    window, capacity = 1_000_000, 5_000
    log = SlidingLog(capacity, window_ns=window, metric=Metric.TOKENS, name="log", fine_entries=200)
    now, windows, stamps = 0, 6, list[int]()
    longest = 0
    while now < windows * window:
        if log.try_take(now, weight) is not None:
            stamps.append(now)
        else:
            now += max(log.plan(now, weight), 1)
        longest = max(longest, len(log))
    for first, stamp in enumerate(stamps):
        place = first + capacity // weight
        assert place >= len(stamps) or stamps[place] - stamp >= window
    assert longest <= 200 + 257
    assert len(stamps) * weight >= 0.98 * capacity * windows


def test_a_coarse_log_becomes_fine_again_after_a_rest() -> None:
    log = SlidingLog(100, window_ns=1_000, metric=Metric.REQUESTS, name="log", fine_entries=10)
    entries = [log.try_take(0, 1) for _ in range(20)]
    assert len(log) == 11
    log.settle(entries[-1], 1, 0, 0)
    assert log.usage(0) == 19
    assert log.usage(1_000) == 0
    assert log.try_take(1_000, 1) != log.try_take(1_000, 1)


def test_a_long_log_answers_in_bounded_steps() -> None:
    log = SlidingLog(1_000, window_ns=10_000, metric=Metric.TOKENS, name="log")
    for now in range(1_000):
        log.try_take(now, 1)
    wait = log.plan(1_000, 1_000)
    assert 0 < wait < 10_000
    assert log.plan(1_000 + wait, 1_000) > 0
    assert log.plan(10_999, 1_000) == 0


def test_the_guard_keeps_room_for_what_a_bucket_lags_behind() -> None:
    bucket = TokenBucket(10, window_ns=1_000, guard_ns=100, metric=Metric.TOKENS, name="bucket")
    assert bucket.try_take(0, 10) is not None
    assert bucket.plan(0, 1) == 200
    assert bucket.try_take(200, 1) is not None
    # A call as heavy as the bucket passes only when it has surely been full for the length of the guard.
    assert bucket.plan(200, 10) == 900 + 100
    assert bucket.plan(1_200, 10) == 0
    assert bucket.plan(1_200, 11) == NEVER


def test_a_bucket_waits_for_what_was_granted_and_has_not_left() -> None:
    bucket = TokenBucket(10, window_ns=1_000, metric=Metric.TOKENS, name="bucket")
    bucket.take(10)
    assert bucket.plan(5_000, 1) == NEVER
    bucket.drop(4)
    assert bucket.plan(5_000, 4) == 0
    bucket.stamp(5_000, 6)
    assert bucket.usage(5_000) == 6
    assert bucket.earliest(5_000, 14) == 1_000


def test_a_bucket_forgets_old_minima_on_the_safe_side() -> None:
    bucket = TokenBucket(10_000, window_ns=10_000, metric=Metric.TOKENS, name="bucket")
    first = bucket.try_take(0, 1)
    for now in range(1, 2_000):
        bucket.try_take(now, 3)
    debt = bucket.usage(2_000)
    bucket.settle(first, 1, 0, 2_000)
    assert bucket.usage(2_000) == debt


def test_a_changed_limit_counts_what_was_counted() -> None:
    bucket = TokenBucket(10, window_ns=1_000, metric=Metric.TOKENS, name="bucket")
    bucket.try_take(0, 10)
    bucket.set_capacity(20)
    assert bucket.plan(0, 10) == 0
    assert bucket.plan(0, 20) == 500


def test_a_window_learns_its_turn_from_the_provider() -> None:
    window = FixedWindow(10, window_ns=10**9, metric=Metric.TOKENS, name="fixed")
    window.try_take(0, 10)
    assert window.plan(0, 1) == 10**9
    window.turn_at(0, 0.25)
    assert window.plan(0, 1) == 250_000_000
    assert window.plan(250_000_000, 10) == 0
    assert window.earliest(250_000_000, 30) == 2 * 10**9


def test_somebody_elses_use_counts_like_our_own() -> None:
    log = SlidingLog(10, window_ns=1_000, metric=Metric.TOKENS, name="log")
    entry = log.charge_foreign(0, 8)
    assert log.plan(0, 3) == 1_000
    log.settle(entry, 8, 2, 0)
    assert log.plan(0, 3) == 0
