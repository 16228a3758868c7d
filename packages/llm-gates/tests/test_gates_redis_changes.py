"""RedisGateSet: what is changed at run time concerns all processes; and what stands in front of or beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from llm_core import (
    ConfigurationError,
    CostExceedsLimit,
    GateTimeout,
    InvalidValue,
    RateLimitFacts,
    RateLimitWindow,
)
from llm_gates import (
    ConcurrencyGate,
    GateSet,
    KeyedGates,
    LearnedEstimates,
    RedisGateSet,
    RpdGate,
    RpmGate,
    TpmGate,
)
from llm_gates.calendar import CalendarWindow, Period
from llm_gates.limits import Metric
from llm_gates.shared_limits import turns_around

Make = Callable[..., RedisGateSet]


def rpm(limit: int, seconds: float = 60) -> RpmGate:
    return RpmGate(limit, per_seconds=seconds, guard_seconds=0)


def tpm(limit: int) -> TpmGate:
    return TpmGate(limit, guard_seconds=0)


async def passes(gates: Any, *, timeout: float = 0.05, **options: Any) -> bool:  # noqa: ASYNC109
    try:
        async with gates.admit(timeout=timeout, **options):
            return True
    except GateTimeout:
        return False


async def count_passing(gates: RedisGateSet, most: int) -> int:
    passed = 0
    while passed < most and await passes(gates):
        passed += 1
    return passed


async def carried() -> None:
    """Wait in real time until corrections have travelled."""
    await asyncio.sleep(0.06)


# ------------------------------------------------------------------------ set_limit
async def test_a_limit_that_is_lowered_holds_for_the_other_process(make: Make) -> None:
    gate = rpm(10)
    one, two = make(gate), make(rpm(10))
    assert await passes(one)
    assert await passes(two)
    gate.set_limit(4)
    await carried()
    assert await count_passing(two, 10) == 2
    assert two.snapshot().limits[0].limit == 4


async def test_a_limit_that_is_raised_lets_waiters_of_all_processes_go(make: Make) -> None:
    gate = rpm(1, 3600)
    one, two = make(gate), make(rpm(1, 3600))
    assert await passes(one)
    waiting = [asyncio.create_task(passes(gates, timeout=4000)) for gates in (one, two)]
    await carried()
    assert not any(task.done() for task in waiting)
    gate.set_limit(3)
    assert await asyncio.wait_for(asyncio.gather(*waiting), 3) == [True, True]


async def test_more_slots_let_waiters_go_at_once(make: Make) -> None:
    gate = ConcurrencyGate(1)
    gates = make(gate)
    async with gates.admit():
        waiting = asyncio.create_task(passes(gates, timeout=100))
        await carried()
        gate.set_limit(2)
        assert gate.limit == 2
        assert await asyncio.wait_for(waiting, 3)


async def test_waiters_too_heavy_for_a_lowered_limit_fail_in_all_processes(make: Make) -> None:
    gate = tpm(100)
    one, two = make(gate), make(tpm(100))
    assert await passes(one, tokens=100)
    waiting = [asyncio.create_task(gates.admit(tokens=60).__aenter__()) for gates in (one, two)]
    await carried()
    gate.set_limit(50)
    done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 3)
    assert [type(error) for error in done] == [CostExceedsLimit] * 2


async def test_a_process_that_starts_later_finds_the_changed_limit(make: Make) -> None:
    gate = rpm(10)
    one = make(gate)
    gate.set_limit(2)
    assert await passes(one)
    late = rpm(10)
    assert await count_passing(make(late), 10) == 1
    assert late.limit == 2


async def test_a_process_started_with_another_limit_keeps_its_own(make: Make) -> None:
    gate = rpm(10)
    one = make(gate)
    gate.set_limit(2)
    assert await passes(one)
    assert await count_passing(make(rpm(5)), 10) == 4


async def test_a_changed_limit_outlives_the_memory_of_the_server(make: Make) -> None:
    gate = rpm(10)
    one = make(gate)
    gate.set_limit(2)
    assert await passes(one)
    script = one._turnstile.courier._script
    client = script.make_client()
    for key in client.scan_iter(match=f"{script.prefix}*"):
        client.delete(key)
    client.close()
    assert await passes(one)
    assert await count_passing(make(rpm(10)), 10) == 1


async def test_gates_within_a_set_change_the_shared_limit_too(make: Make) -> None:
    inner = RpmGate(10, guard_seconds=0, quantum_seconds=30)
    gates = make(GateSet(inner, tpm(1000)))
    inner.set_limit(4)
    assert inner.limit == 4
    assert [limit.limit for limit in gates.snapshot().limits] == [4, 2, 1000]
    assert await count_passing(gates, 10) == 2


def test_impossible_limits_are_refused_as_by_local_gates(make: Make) -> None:
    gate = rpm(10)
    make(gate)
    with pytest.raises(InvalidValue, match="limit"):
        gate.set_limit(0)


def test_times_that_are_none_are_refused(make: Make) -> None:
    gates = make(rpm(10))
    with pytest.raises(InvalidValue, match="seconds"):
        gates.hold(float("nan"))
    with pytest.raises(InvalidValue, match="timeout"):
        gates.admit_sync(timeout=float("nan")).__enter__()
    with pytest.raises(InvalidValue, match="aging_seconds"):
        make(rpm(10), aging_seconds=float("inf"))


# ---------------------------------------------------------------- hold and observe
async def test_a_hold_stops_the_other_process(make: Make) -> None:
    one, two = make(rpm(100)), make(rpm(100))
    assert await passes(two)
    one.observe(RateLimitFacts(retry_after=0.5))
    began = time.monotonic()
    await carried()
    assert not await passes(two, timeout=0.1)
    async with two.admit(timeout=5) as permit:
        assert time.monotonic() - began >= 0.48
    assert permit.waited_for == "hold"


async def test_who_cannot_wait_out_a_hold_fails_at_once(make: Make) -> None:
    one, two = make(rpm(100)), make(rpm(100))
    one.hold(30)
    await carried()
    began = time.monotonic()
    with pytest.raises(GateTimeout, match="hold needs at least 29"):
        await two.admit(timeout=10).__aenter__()
    assert time.monotonic() - began < 2
    assert two.snapshot().held_seconds > 29


async def test_the_limit_that_headers_tell_holds_for_all(make: Make) -> None:
    one, two = make(rpm(10), tpm(1000)), make(rpm(10), tpm(1000))
    assert await passes(one)
    one.observe(RateLimitFacts(requests=RateLimitWindow(limit=4)))
    await carried()
    assert await count_passing(two, 10) == 3
    # Never above what was set, and back to it.
    two.observe(RateLimitFacts(requests=RateLimitWindow(limit=500)))
    await carried()
    assert await count_passing(one, 10) == 6
    assert one.snapshot().limits[0].limit == 10


# ----------------------------------------------------------------- what else counts
async def test_a_snapshot_tells_what_all_processes_use(make: Make) -> None:
    one, two = make(rpm(10), tpm(1000)), make(rpm(10), tpm(1000))
    assert await passes(one, tokens=300)
    assert await passes(two, tokens=200)
    requests, tokens = two.snapshot().limits
    assert (requests.used, requests.remaining) == (2, 8)
    assert (tokens.used, tokens.remaining) == (500, 500)


async def test_tenant_and_money_are_taken_as_by_a_set_without_a_budget(make: Make) -> None:
    gates = make(rpm(10))
    async with gates.admit(cost=Decimal("0.1"), key="tenant") as permit:
        permit.settle(tokens=3, cost=Decimal("0.05"))
    with pytest.raises(InvalidValue, match="cost"):
        gates.admit(cost=Decimal(-1))


async def test_each_key_of_keyed_gates_has_its_limit_in_all_processes(make: Make) -> None:
    one, two = (KeyedGates(lambda key: make(rpm(2), prefix=f":{key}")) for _ in range(2))
    passed = {
        key: [await passes(gates, key=key) for gates in (one, two, one)] for key in ("a", "b")
    }
    assert passed == {"a": [True, True, False], "b": [True, True, False]}
    assert one.snapshot().in_flight == 0
    assert one.gate("a")._turnstile.idle


def test_a_shared_set_cannot_stand_in_another_set(make: Make) -> None:
    for build in (
        lambda: GateSet(make(rpm(1)), rpm(1)),
        lambda: KeyedGates(lambda key: rpm(1), parent=make(rpm(1))),
        lambda: KeyedGates(lambda key: make(rpm(1)), parent=rpm(1)).gate("a"),
    ):
        with pytest.raises(ConfigurationError, match="RedisGateSet"):
            build()


def test_a_gate_belongs_to_one_set_only(make: Make) -> None:
    gate = rpm(1)
    make(gate)
    with pytest.raises(ConfigurationError, match="another set"):
        make(gate)


async def test_estimates_are_learned(make: Make) -> None:
    learned = LearnedEstimates(k=0, least_samples=1)
    gates = make(GateSet(tpm(1000), learned=learned))
    async with gates.admit(tokens=100) as permit:
        permit.settle(tokens=300)
    async with gates.admit(tokens=100) as permit:
        assert permit.tokens == 300


async def test_acquire_does_without_a_with_statement(make: Make) -> None:
    gates = make(tpm(100), ConcurrencyGate(1))
    permit = await gates.acquire(tokens=60)
    assert not await passes(gates, tokens=1)
    permit.settle(tokens=10)
    permit.release()
    assert await passes(gates, tokens=90, timeout=1)


async def test_no_patience_at_all_still_takes_what_is_free(make: Make) -> None:
    gates = make(rpm(1))
    assert await passes(gates, timeout=0)
    assert not await passes(gates, timeout=0)


async def test_who_comes_behind_others_and_cannot_wait_that_long_fails_at_once(make: Make) -> None:
    gates = make(rpm(1))
    assert await passes(gates)
    waiting = asyncio.create_task(passes(gates, timeout=1000))
    await carried()
    began = time.monotonic()
    with pytest.raises(GateTimeout, match="rpm needs at least 5"):
        await gates.admit(timeout=20).__aenter__()
    assert time.monotonic() - began < 0.5
    waiting.cancel()


async def test_a_light_call_of_higher_priority_does_not_wait_for_a_heavy_one(make: Make) -> None:
    gates = make(tpm(100))
    assert await passes(gates, tokens=60)
    waiting = asyncio.create_task(passes(gates, tokens=60, timeout=1000))
    await carried()
    assert await passes(gates, tokens=40, priority=1, timeout=2)
    waiting.cancel()


# ----------------------------------------------------------------- calendar windows
async def test_a_day_by_the_calendar_is_shared(make: Make) -> None:
    zone = ZoneInfo("America/Los_Angeles")
    one, two = (make(RpdGate(3, algorithm="fixed", zone=zone, guard_seconds=0)) for _ in range(2))
    assert [await passes(gates) for gates in (one, two, one, two)] == [True] * 3 + [False]
    with pytest.raises(GateTimeout, match="rpd needs at least") as refused:
        await one.admit(timeout=1).__aenter__()
    now = datetime.now(zone)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    left = (midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
    assert refused.value.retry_after == pytest.approx(left, abs=5)


@pytest.mark.parametrize("period", [Period.MINUTE, Period.HOUR, Period.DAY, Period.MONTH])
@pytest.mark.parametrize("day", [(2026, 3, 1), (2026, 3, 29), (2026, 10, 25), (2026, 12, 31)])
def test_turns_enclose_the_present(period: Period, day: tuple[int, int, int]) -> None:
    limit = CalendarWindow(
        1, period=period, zone=ZoneInfo("Europe/Berlin"), metric=Metric.REQUESTS, name="n"
    )
    for hour in (0, 1, 2, 22, 23):
        now = datetime(*day, hour, 59, 30, tzinfo=UTC)
        turns = turns_around(now, limit)
        assert len(turns) == 4
        assert turns == sorted(turns)
        assert turns[1] <= now.timestamp() * 1e6 < turns[2]


async def test_nothing_leaves_within_the_guard_before_a_turn(make: Make) -> None:
    gates = make(RpmGate(1, per_seconds=0.5, guard_seconds=0.2, algorithm="fixed"))
    phases = []
    for _ in range(4):
        async with gates.admit(timeout=5):
            phases.append(time.time() % 0.5)
    assert all(phase < 0.31 or phase > 0.495 for phase in phases)
