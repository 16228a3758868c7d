"""CircuitBreaker: rates, probes, growing open time, forcing, callbacks; alone and in a set."""

from __future__ import annotations

import asyncio
import logging

import pytest

from llm_core import CircuitOpen, ErrorInfo, ErrorType, InvalidValue
from llm_core.testing import ManualClock
from llm_gates import (
    BreakerChange,
    BreakerPolicy,
    BreakerState,
    CircuitBreaker,
    ConcurrencyGate,
    GateSet,
    KeyedGates,
    RpmGate,
)
from llm_gates.breaker import BreakerLimit

DOWN = ErrorInfo.of(ErrorType.SERVER_ERROR, "down")
LIMITED = ErrorInfo.of(ErrorType.RATE_LIMITED, "slow down")
POLICY = BreakerPolicy(least_calls=4, open_seconds=10, jitter=0)


async def call(gate: GateSet, error: ErrorInfo | None = None) -> None:
    async with gate.admit() as permit:
        if error is not None:
            permit.fail(error)


async def broken(clock: ManualClock, policy: BreakerPolicy = POLICY) -> CircuitBreaker:
    breaker = CircuitBreaker(policy, clock=clock)
    for _ in range(policy.least_calls):
        await call(breaker, DOWN)
    assert breaker.state is BreakerState.OPEN
    return breaker


async def test_it_opens_at_the_rate_and_not_below_the_least_volume() -> None:
    breaker = CircuitBreaker(POLICY)
    for error in (DOWN, DOWN, None):
        await call(breaker, error)
    assert breaker.state is BreakerState.CLOSED
    await call(breaker)
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(CircuitOpen) as caught:
        await call(breaker)
    assert caught.value.retry_after == pytest.approx(10, abs=0.1)


async def test_good_calls_of_calm_times_weigh_against_failures() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(POLICY, clock=clock)
    for _ in range(20):
        await call(breaker)
        clock.advance(POLICY.window_seconds / 40)
    # The last of them would be refused if fewer had been enough.
    for _ in range(20):
        await call(breaker, DOWN)
    assert breaker.state is BreakerState.OPEN


async def test_a_good_call_that_left_before_the_breaker_opened_counts_for_nothing_after_it() -> (
    None
):
    clock = ManualClock()
    breaker = CircuitBreaker(POLICY, clock=clock)
    async with breaker.admit(), breaker.admit(), breaker.admit():
        breaker.force_open()
        breaker.reset()
        await call(breaker)
    # Four good calls would bear three failures; one does not.
    for _ in range(3):
        await call(breaker, DOWN)
    assert breaker.state is BreakerState.OPEN


async def test_old_failures_are_forgotten() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(POLICY, clock=clock)
    for _ in range(3):
        await call(breaker, DOWN)
    clock.advance(POLICY.window_seconds)
    for _ in range(3):
        await call(breaker)
    assert breaker.state is BreakerState.CLOSED


async def test_rate_limits_and_mistakes_of_the_caller_do_not_count() -> None:
    breaker = CircuitBreaker(POLICY)
    for _ in range(20):
        await call(breaker, LIMITED)
        await call(breaker, ErrorInfo.of(ErrorType.INVALID_REQUEST, "bad"))
    assert breaker.state is BreakerState.CLOSED


async def test_an_exception_in_the_body_counts_by_its_kind() -> None:
    breaker = CircuitBreaker(POLICY)
    for _ in range(4):
        with pytest.raises(LookupError):
            async with breaker.admit():
                raise LookupError
    assert breaker.state is BreakerState.CLOSED
    for _ in range(4):
        with pytest.raises(Exception, match="down"):
            async with breaker.admit():
                raise DOWN.to_exception()
    assert breaker.state is BreakerState.OPEN


async def test_exactly_one_probe_passes_among_fifty_callers() -> None:
    clock = ManualClock()
    breaker = await broken(clock)
    clock.advance(10)
    passed = refused = 0
    release = asyncio.Event()

    async def caller() -> None:
        nonlocal passed, refused
        try:
            async with breaker.admit():
                passed += 1
                await release.wait()
        except CircuitOpen:
            refused += 1

    tasks = [asyncio.create_task(caller()) for _ in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert (passed, refused) == (1, 49)
    release.set()
    await asyncio.gather(*tasks)
    assert breaker.state is BreakerState.CLOSED


async def test_a_failed_probe_opens_it_for_twice_as_long() -> None:
    clock = ManualClock()
    breaker = await broken(clock)
    clock.advance(10)
    await call(breaker, DOWN)
    clock.advance(19.9)
    with pytest.raises(CircuitOpen):
        await call(breaker)
    clock.advance(0.2)
    await call(breaker)
    assert breaker.state is BreakerState.CLOSED


async def test_a_probe_that_says_nothing_frees_its_place() -> None:
    clock = ManualClock()
    breaker = await broken(clock)
    clock.advance(10)
    await call(breaker, LIMITED)
    assert breaker.state is BreakerState.HALF_OPEN
    async with breaker.admit() as permit:
        permit.cancel()
    assert breaker.state is BreakerState.HALF_OPEN
    await call(breaker)
    assert breaker.state is BreakerState.CLOSED


async def test_slow_calls_open_it_where_duration_matters() -> None:
    clock = ManualClock()
    policy = BreakerPolicy(least_calls=4, slow_seconds=2, open_seconds=10, jitter=0)
    breaker = CircuitBreaker(policy, clock=clock)
    for _ in range(4):
        async with breaker.admit():
            clock.advance(2)
    assert breaker.state is BreakerState.OPEN
    clock.advance(10)
    async with breaker.admit():
        clock.advance(2)
    assert breaker.state is BreakerState.OPEN


async def test_the_open_time_is_jittered_and_bounded() -> None:
    policy = BreakerPolicy(least_calls=1, open_seconds=10, most_open_seconds=15, jitter=0.5)
    changes: list[BreakerChange] = []
    clock = ManualClock()
    breaker = CircuitBreaker(policy, clock=clock, random=lambda: 1.0, on_change=changes.append)
    for _ in range(3):
        await call(breaker, DOWN)
        clock.advance(100)
    opened = [c.open_seconds for c in changes if c.after is BreakerState.OPEN]
    assert opened == [15.0, 22.5, 22.5]


async def test_it_can_be_forced_open_and_closed() -> None:
    breaker = CircuitBreaker(POLICY)
    breaker.force_open()
    with pytest.raises(CircuitOpen, match="by hand"):
        await call(breaker)
    breaker.force_closed()
    for _ in range(10):
        await call(breaker, DOWN)
    assert breaker.state is BreakerState.CLOSED
    breaker.reset()
    for _ in range(4):
        await call(breaker, DOWN)
    assert breaker.state is BreakerState.OPEN


async def test_callbacks_may_use_the_gate_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[BreakerState, BreakerState, int]] = []

    def tell(change: BreakerChange) -> None:
        seen.append((change.before, change.after, gates.snapshot().in_flight))
        raise LookupError("oops")

    clock = ManualClock()
    breaker = CircuitBreaker(POLICY, on_change=tell)
    gates = GateSet(breaker, RpmGate(100), clock=clock)
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            await call(gates, DOWN)
        clock.advance(10)
        await call(gates)
    closed, opened, half = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
    assert [(before, after) for before, after, _ in seen] == [
        (closed, opened),
        (opened, half),
        (half, closed),
    ]
    assert "callback of breaker failed" in caplog.text


async def test_those_in_the_queue_are_refused_when_it_opens() -> None:
    breaker = CircuitBreaker(BreakerPolicy(least_calls=1))
    gates = GateSet(ConcurrencyGate(1), breaker)
    holder = gates.admit()
    permit = await holder.__aenter__()
    waiting = [asyncio.create_task(gates.admit().__aenter__()) for _ in range(3)]
    await asyncio.sleep(0)
    permit.fail(DOWN)
    await holder.__aexit__(None, None, None)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [CircuitOpen] * 3
    assert gates.snapshot().queued == 0


async def test_a_thread_is_refused_as_well() -> None:
    breaker = CircuitBreaker()
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        breaker.acquire_sync()


@pytest.mark.parametrize(
    ("field", "value"),
    [("failure_rate", 0), ("slow_rate", 1.5), ("probes", 0), ("open_seconds", 0), ("jitter", 1)],
)
def test_a_wrong_policy_is_refused_with_its_field(field: str, value: float) -> None:
    with pytest.raises(InvalidValue, match=f"{field}: got {value}"):
        BreakerPolicy(**{field: value})


async def test_an_outage_of_a_thousand_failed_probes_is_survived() -> None:
    clock = ManualClock()
    policy = BreakerPolicy(least_calls=1, open_seconds=1, most_open_seconds=1, jitter=0)
    breaker = CircuitBreaker(policy, clock=clock)
    for _ in range(1_100):
        async with breaker.admit() as permit:
            permit.fail(ErrorInfo.of(ErrorType.SERVER_ERROR, "down"))
        assert breaker.state is BreakerState.OPEN
        clock.advance(1)


def test_a_call_let_in_before_the_breaker_opened_is_no_probe() -> None:
    limit = BreakerLimit(POLICY, name="breaker", random=lambda: 0.5)
    early = limit.take(1)
    for _ in range(POLICY.least_calls):
        limit.finish(limit.try_take(0, 1), 1, 0, DOWN)
    later = 11_000_000_000
    assert limit.refusal(later, 1) is None
    probe = limit.try_take(later, 1)
    # It leaves and ends only now: the probe's place stays taken, and the breaker half open.
    limit.finish(limit.stamp(later, 1, early), 1, later, None)
    assert isinstance(limit.refusal(later, 1), CircuitOpen)
    limit.finish(probe, 1, later, None)
    assert limit.state is BreakerState.CLOSED


def test_a_call_let_in_before_and_given_up_frees_no_probe_either() -> None:
    limit = BreakerLimit(POLICY, name="breaker", random=lambda: 0.5)
    early = limit.take(1)
    for _ in range(POLICY.least_calls):
        limit.finish(limit.try_take(0, 1), 1, 0, DOWN)
    later = 11_000_000_000
    assert limit.refusal(later, 1) is None
    limit.try_take(later, 1)
    limit.drop(1, early)
    assert isinstance(limit.refusal(later, 1), CircuitOpen)


async def test_a_change_is_told_at_once_to_tenants_as_well() -> None:
    changes: list[BreakerChange] = []
    policy = BreakerPolicy(least_calls=1)
    tenants = KeyedGates(
        lambda key: CircuitBreaker(policy, name=key, on_change=changes.append),
        parent=RpmGate(100),
    )
    async with tenants.admit(key="a") as permit:
        permit.fail(DOWN)
    assert [(change.name, change.after) for change in changes] == [("a", BreakerState.OPEN)]


async def test_a_callback_may_use_the_gate() -> None:
    seen: list[int] = []
    breaker = CircuitBreaker(
        BreakerPolicy(least_calls=1),
        on_change=lambda change: seen.append(breaker.snapshot().in_flight),
    )
    await call(breaker, DOWN)
    assert seen == [0]
