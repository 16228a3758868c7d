"""AdaptiveConcurrencyGate and BudgetGate."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from llm_core import (
    BudgetDenied,
    ConfigurationError,
    CostExceedsLimit,
    ErrorInfo,
    ErrorType,
    GateTimeout,
    InvalidValue,
)
from llm_core.testing import ManualClock
from llm_gates import (
    AdaptiveConcurrencyGate,
    BudgetGate,
    GateSet,
    LearnedEstimates,
    Period,
    RpdGate,
    TpmGate,
)

TOO_MUCH = ErrorInfo.of(ErrorType.OVERLOADED, "overloaded")


async def run_round(
    gate: AdaptiveConcurrencyGate, calls: int, error: ErrorInfo | None = None
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(calls):
            permit = await stack.enter_async_context(gate.admit())
            if error is not None:
                permit.fail(error)


async def test_slots_double_each_round_until_the_provider_says_too_much() -> None:
    clock = ManualClock()
    gate = AdaptiveConcurrencyGate(start=2, ceiling=64, decrease=0.5, clock=clock)
    sizes = []
    for _ in range(3):
        clock.advance(1)
        await run_round(gate, gate.limit)
        sizes.append(gate.limit)
    assert sizes == [4, 8, 16]
    clock.advance(1)
    await run_round(gate, 16, TOO_MUCH)
    assert gate.limit == 8
    # From here on one slot a round.
    for _ in range(2):
        clock.advance(1)
        await run_round(gate, gate.limit)
    assert 9 <= gate.limit <= 10


async def test_slots_do_not_grow_when_nobody_needs_them() -> None:
    gate = AdaptiveConcurrencyGate(start=4)
    for _ in range(50):
        await run_round(gate, 1)
    assert gate.limit == 4


async def test_slots_stay_between_floor_and_ceiling() -> None:
    clock = ManualClock()
    gate = AdaptiveConcurrencyGate(start=2, floor=2, ceiling=3, clock=clock)
    for _ in range(5):
        clock.advance(1)
        await run_round(gate, 2)
    assert gate.limit == 3
    for _ in range(5):
        clock.advance(1)
        await run_round(gate, 1, TOO_MUCH)
    assert gate.limit == 2


def test_a_floor_above_the_start_is_refused() -> None:
    with pytest.raises(InvalidValue, match="floor"):
        AdaptiveConcurrencyGate(start=1, floor=2)
    with pytest.raises(InvalidValue, match="decrease"):
        AdaptiveConcurrencyGate(decrease=1)


async def test_a_budget_reserves_the_worst_case_and_settles_the_real_cost() -> None:
    gate = BudgetGate(Decimal("1.00"), per="day", clock=ManualClock())
    async with gate.admit(cost=Decimal("0.80")) as permit:
        with pytest.raises(BudgetDenied, match=r"0\.30.*0\.80 of 1\.00 per day"):
            await gate.admit(cost=Decimal("0.30")).__aenter__()
        permit.settle(tokens=10, cost=Decimal("0.10"))
    async with gate.admit(cost=Decimal("0.90")):
        pass
    assert gate.snapshot().limits[0].used == Decimal("1.00")


@pytest.mark.parametrize(
    ("kind", "cost", "left"),
    [
        (ErrorType.SERVER_ERROR, Decimal(0), (0, 700)),
        (ErrorType.SERVER_ERROR, Decimal("0.25"), (Decimal("0.25"), 700)),
        (ErrorType.SERVER_ERROR, None, (1, 700)),
        (ErrorType.TIMEOUT_CONNECT, Decimal(0), (0, 0)),
    ],
)
async def test_a_failed_call_keeps_its_tokens_and_costs_what_is_told(
    kind: ErrorType, cost: Decimal | None, left: tuple[Decimal | int, int]
) -> None:
    gate = GateSet(BudgetGate(Decimal(2)), TpmGate(10_000))
    async with gate.admit(tokens=700, output_tokens=200, cost=Decimal(1)) as permit:
        permit.fail(ErrorInfo.of(kind, "down"), cost=cost)
    assert tuple(limit.used for limit in gate.snapshot().limits) == left


async def test_nothing_is_learned_from_what_was_reserved_for_a_failed_call() -> None:
    learned = LearnedEstimates(least_samples=1)
    for actual in (50, 100):
        learned.learn(None, estimated=(100, None), actual=(actual, None))
    before = learned.factor(None)
    gate = GateSet(BudgetGate(Decimal(2)), TpmGate(10_000), learned=learned)
    async with gate.admit(tokens=700, cost=Decimal(1)) as permit:
        permit.fail(ErrorInfo.of(ErrorType.SERVER_ERROR, "down"), cost=Decimal(0))
    assert learned.factor(None) == before


async def test_a_denied_call_learns_when_the_window_turns() -> None:
    clock = ManualClock(datetime(2026, 3, 1, 22, tzinfo=UTC))
    gate = BudgetGate(1, per=Period.DAY, clock=clock)
    async with gate.admit(cost=Decimal(1)):
        pass
    with pytest.raises(BudgetDenied) as caught:
        async with gate.admit():
            pass
    assert caught.value.retry_after == pytest.approx(7200)
    clock.advance(7200)
    async with gate.admit(cost=Decimal(1)):
        pass


async def test_a_waiting_budget_lets_calls_go_when_the_month_turns() -> None:
    clock = ManualClock(datetime(2026, 2, 28, 23, 30, tzinfo=UTC))
    gate = BudgetGate(1, per="month", when_spent="wait", clock=clock)
    async with gate.admit(cost=Decimal(1)):
        pass
    waiting = asyncio.create_task(gate.admit(cost=Decimal(1)).__aenter__())
    await clock.run_for(1799)
    assert not waiting.done()
    await clock.run_for(2)
    permit = await waiting
    assert permit.waited_for == "budget"
    with pytest.raises(CostExceedsLimit):
        await gate.admit(cost=Decimal(2)).__aenter__()


async def test_every_key_has_a_budget_of_its_own() -> None:
    gate = BudgetGate(1, per="total", per_key=True, clock=ManualClock())
    for key in ("a", "b"):
        async with gate.admit(cost=Decimal(1), key=key):
            pass
    with pytest.raises(BudgetDenied, match="'a'") as caught:
        await gate.admit(cost=Decimal("0.01"), key="a").__aenter__()
    assert caught.value.retry_after is None
    gate.set_limit(2)
    async with gate.admit(cost=Decimal(1), key="a") as permit:
        permit.cancel()
    assert gate.limit == 2


async def test_keys_that_spent_nothing_are_forgotten() -> None:
    gate = BudgetGate(1, per="total", per_key=True, clock=ManualClock())
    for number in range(1_500):
        async with gate.admit(cost=Decimal(number % 2), key=str(number)):
            pass
    assert len(gate._limits[0]._windows) <= 1_000  # type: ignore[attr-defined]
    with pytest.raises(BudgetDenied):
        await gate.admit(cost=Decimal(1), key="1").__aenter__()


def test_a_budget_is_a_decimal_and_its_options_are_checked() -> None:
    with pytest.raises(InvalidValue, match=r"limit: got 0\.5"):
        BudgetGate(0.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="per: got 'week'"):
        BudgetGate(1, per="week")
    with pytest.raises(InvalidValue, match="when_spent"):
        BudgetGate(1, when_spent="shrug")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="KeyedGates"):
        BudgetGate(1, per_key=True, when_spent="wait")
    with pytest.raises(InvalidValue, match="limit"):
        BudgetGate(1).set_limit(-1)


@pytest.mark.parametrize(
    ("start", "hours"),
    [
        (datetime(2026, 3, 7, 8, tzinfo=UTC), 24),
        (datetime(2026, 3, 8, 8, tzinfo=UTC), 23),
        (datetime(2026, 11, 1, 7, tzinfo=UTC), 25),
    ],
)
async def test_a_day_of_a_zone_has_the_hours_it_has(start: datetime, hours: int) -> None:
    clock = ManualClock(start)
    gate = RpdGate(
        1, algorithm="fixed", zone=ZoneInfo("America/Los_Angeles"), guard_seconds=0, clock=clock
    )
    await gate.acquire()
    waiting = asyncio.create_task(gate.acquire())
    await clock.run_for(hours * 3600 - 1)
    assert not waiting.done()
    await clock.run_for(2)
    await waiting


@pytest.mark.parametrize(("per", "seconds"), [("minute", 60), ("hour", 3600)])
async def test_short_windows_turn_at_full_minutes_and_hours(per: str, seconds: int) -> None:
    clock = ManualClock(datetime(2026, 1, 1, 0, 0, tzinfo=UTC))
    gate = GateSet(BudgetGate(1, per=per), clock=clock)
    clock.advance(seconds - 1)
    async with gate.admit(cost=Decimal(1)):
        pass
    clock.advance(1)
    async with gate.admit(cost=Decimal(1)):
        pass


@pytest.mark.parametrize("per", ["day", "total"])
async def test_a_spent_budget_that_turns_too_late_is_told_at_once(per: str) -> None:
    gate = BudgetGate(Decimal(1), per=per, when_spent="wait", clock=ManualClock())
    async with gate.admit(cost=Decimal("0.9")):
        pass
    with pytest.raises(GateTimeout, match="budget"):
        await gate.admit(cost=Decimal("0.2"), timeout=5).__aenter__()
    async with gate.admit(cost=Decimal("0.1"), timeout=5):
        assert gate.snapshot().limit("budget").remaining == 0


async def test_a_key_with_a_call_in_flight_is_not_forgotten_among_thousands() -> None:
    gate = BudgetGate(Decimal(5), per_key=True, clock=ManualClock())
    async with gate.admit(key="early") as permit:
        for number in range(1_500):
            async with gate.admit(key=str(number)):
                pass
        permit.settle(tokens=0, cost=Decimal(5))
    with pytest.raises(BudgetDenied):
        await gate.admit(key="early", cost=Decimal(1)).__aenter__()
