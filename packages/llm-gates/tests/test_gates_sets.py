"""GateSet over rates: together or not at all, settle, cancel, learned estimates, limits at run time, presets."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from llm_core import (
    ConfigurationError,
    CostExceedsLimit,
    ErrorInfo,
    ErrorType,
    GateTimeout,
    InvalidValue,
)
from llm_core.testing import ManualClock
from llm_gates import (
    BudgetGate,
    ConcurrencyGate,
    GateSet,
    ItpmGate,
    KeyedGates,
    LearnedEstimates,
    OtpmGate,
    RateGate,
    RpmGate,
    TpmGate,
    presets,
)
from llm_gates.limits import Metric
from llm_gates.testing import Referee


def rpm(limit: int, **options: Any) -> RpmGate:
    return RpmGate(limit, guard_seconds=0, **options)


def tpm(limit: int, **options: Any) -> TpmGate:
    return TpmGate(limit, guard_seconds=0, **options)


async def settle_tasks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_limits_are_taken_together_or_not_at_all() -> None:
    gates = GateSet(rpm(10), tpm(100), ConcurrencyGate(5), clock=ManualClock())
    async with gates.admit(tokens=90):
        pass
    for _ in range(5):
        with pytest.raises(GateTimeout, match="tpm"):
            await gates.admit(tokens=20, timeout=1).__aenter__()
    snapshot = gates.snapshot()
    assert (snapshot.limit("rpm").used, snapshot.limit("tpm").used) == (1, 90)
    assert snapshot.limit("concurrency").used == snapshot.in_flight == 0


async def test_a_snapshot_says_what_is_used_and_what_remains() -> None:
    gates = GateSet(rpm(10), ConcurrencyGate(2), clock=ManualClock())
    async with gates.admit(), gates.admit():
        waiting = asyncio.create_task(gates.admit().__aenter__())
        await settle_tasks()
        snapshot = gates.snapshot()
        waiting.cancel()
    assert (snapshot.in_flight, snapshot.queued) == (2, 1)
    rpm_limit = snapshot.limit("rpm")
    assert (rpm_limit.limit, rpm_limit.used, rpm_limit.remaining) == (10, 2, 8)
    assert rpm_limit.window_seconds == 60
    assert snapshot.to_dict()["limits"][0]["name"] == "rpm"
    with pytest.raises(KeyError):
        snapshot.limit("tpm")


async def test_settling_down_lets_waiters_go_at_once() -> None:
    gates = GateSet(rpm(10), tpm(100), clock=ManualClock())
    async with gates.admit(tokens=100) as permit:
        waiting = asyncio.create_task(gates.admit(tokens=60).__aenter__())
        await settle_tasks()
        assert not waiting.done()
        permit.settle(tokens=40)
        await asyncio.wait_for(waiting, 1)


async def test_settling_up_makes_the_next_wait() -> None:
    clock = ManualClock()
    gate = tpm(100, clock=clock)
    permit = await gate.acquire(10)
    permit.settle(tokens=150)
    with pytest.raises(GateTimeout):
        await gate.admit(tokens=1, timeout=59).__aenter__()
    clock.advance(60)
    assert gate.snapshot().limits[0].used == 0


async def test_an_acquired_permit_settles_cancels_and_tells_of_no_wait() -> None:
    gate = tpm(100, clock=ManualClock())
    permit = await gate.acquire(100)
    assert (permit.wait_seconds, permit.waited_for) == (0.0, None)
    permit.settle(tokens=30)
    permit.settle(tokens=20, output_tokens=5)
    assert gate.snapshot().limits[0].used == 20
    permit.fail(ErrorInfo.of(ErrorType.TIMEOUT_CONNECT, "never sent"))
    permit.cancel()
    permit.settle(tokens=90)
    assert gate.snapshot().limits[0].used == 0
    assert gate.snapshot().in_flight == 0
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        permit.colour  # type: ignore[attr-defined]  # noqa: B018


async def test_acquire_waits_when_it_must_and_slots_are_released_by_hand() -> None:
    clock = ManualClock()
    gate = rpm(1, clock=clock)
    await gate.acquire()
    waiting = asyncio.create_task(gate.acquire())
    await clock.run_for(61)
    assert (await waiting).wait_seconds == pytest.approx(60)
    slots = ConcurrencyGate(1)
    permit = await slots.acquire()
    with pytest.raises(GateTimeout):
        await slots.admit(timeout=0).__aenter__()
    permit.release()
    slots.acquire_sync().release()
    both = GateSet(rpm(5), tpm(100))
    (await both.acquire(10)).settle(tokens=5)
    assert both.snapshot().limit("tpm").used == 5
    assert both.snapshot().in_flight == 0


def test_acquire_sync_waits_in_a_thread() -> None:
    gate = RpmGate(1, per_seconds=0.05, guard_seconds=0)
    gate.acquire_sync()
    assert gate.acquire_sync().wait_seconds > 0.03


def test_a_thread_waits_by_a_manual_clock() -> None:
    clock = ManualClock()
    gate = rpm(1, clock=clock)
    gate.acquire_sync()
    waiter = threading.Thread(target=gate.acquire_sync)
    waiter.start()
    while not gate.snapshot().queued:
        pass
    clock.advance(60)
    waiter.join(5)
    assert not waiter.is_alive()


async def test_input_and_output_tokens_have_limits_of_their_own() -> None:
    gates = GateSet(
        ItpmGate(1_000, guard_seconds=0), OtpmGate(100, guard_seconds=0), clock=ManualClock()
    )
    async with gates.admit(tokens=600, output_tokens=100) as permit:
        permit.settle(tokens=620, output_tokens=20)
    snapshot = gates.snapshot()
    assert snapshot.limit("itpm").used == 600
    assert snapshot.limit("otpm").used == 20
    async with gates.admit(tokens=400):
        assert gates.snapshot().limit("otpm").used == 20


async def test_a_call_heavier_than_a_limit_fails_at_once_with_the_numbers() -> None:
    gates = GateSet(rpm(10), tpm(100))
    with pytest.raises(CostExceedsLimit, match=r"tokens: got 101, but tpm never .* 100"):
        await gates.admit(tokens=101).__aenter__()


async def test_a_timeout_that_cannot_be_kept_fails_at_once_whoever_waits_before() -> None:
    clock = ManualClock()
    gate = rpm(2, clock=clock)
    for _ in range(2):
        await gate.acquire()
    waiting = [asyncio.create_task(gate.admit().__aenter__()) for _ in range(2)]
    await settle_tasks()
    # Two windows are needed: one for those in front.
    with pytest.raises(GateTimeout) as caught:
        await gate.admit(timeout=110).__aenter__()
    assert caught.value.retry_after == pytest.approx(120)
    patient = asyncio.create_task(gate.admit(timeout=130).__aenter__())
    await clock.run_for(121)
    await asyncio.gather(*waiting, patient)


async def test_limits_change_at_run_time_and_waiters_see_it() -> None:
    clock = ManualClock()
    requests, tokens = rpm(1, quantum_seconds=10), tpm(100)
    gates = GateSet(requests, tokens, clock=clock)
    async with gates.admit():
        pass
    waiting = asyncio.create_task(gates.admit(tokens=50).__aenter__())
    heavy = asyncio.create_task(gates.admit(tokens=80).__aenter__())
    await settle_tasks()
    requests.set_limit(60)
    await asyncio.wait_for(waiting, 1)
    tokens.set_limit(50)
    with pytest.raises(CostExceedsLimit):
        await heavy
    assert (requests.limit, tokens.limit) == (60, 50)
    with pytest.raises(InvalidValue, match="limit: got 0"):
        tokens.set_limit(0)
    slots = ConcurrencyGate(1)
    slots.set_limit(3)
    assert slots.limit == 3
    with pytest.raises(InvalidValue):
        slots.set_limit(0)


async def test_a_gate_in_a_set_admits_through_the_set() -> None:
    requests = rpm(1)
    gates = GateSet(requests, ConcurrencyGate(1))
    async with requests.admit():
        assert gates.snapshot().in_flight == 1
    with pytest.raises(ConfigurationError, match="belongs to another set"):
        GateSet(requests)
    assert repr(gates) == "<GateSet rpm 1, concurrency 1>"


async def test_the_time_stamp_is_that_of_leaving_not_of_the_grant() -> None:
    clock = ManualClock()
    gate = rpm(1, clock=clock)
    await gate.acquire()
    waiting = asyncio.create_task(gate.acquire())
    await settle_tasks()
    clock.advance(60)
    # The timer fires, the call is granted; the loop is busy and the waiter comes to run much later.
    gate._turnstile.pump()
    clock.advance(30)
    await waiting
    with pytest.raises(GateTimeout) as caught:
        await gate.admit(timeout=1).__aenter__()
    assert caught.value.retry_after == pytest.approx(60)


async def test_order_is_kept_among_calls_of_all_weights() -> None:
    clock = ManualClock()
    gates = GateSet(rpm(20), tpm(100), clock=clock)
    source = random.Random(1)
    order: list[int] = []

    async def call(number: int) -> None:
        async with gates.admit(tokens=source.randint(1, 100)):
            order.append(number)

    tasks = [asyncio.create_task(call(number)) for number in range(60)]
    await clock.run_for(60 * 61)
    await asyncio.gather(*tasks)
    assert order == sorted(order)


async def test_hundreds_of_waiters_cancelled_at_random_leak_nothing() -> None:
    clock = ManualClock()
    gates = GateSet(rpm(30), ConcurrencyGate(10), tpm(1_000), clock=clock)
    source = random.Random(2)

    async def call() -> None:
        async with gates.admit(tokens=source.randint(1, 50)) as permit:
            await clock.sleep(source.random())
            permit.settle(tokens=1)

    tasks = [asyncio.create_task(call()) for _ in range(300)]
    for _ in range(40):
        await clock.run_for(1)
        for task in source.sample(tasks, 5):
            task.cancel()
    await clock.run_for(60 * 15)
    await asyncio.gather(*tasks, return_exceptions=True)
    snapshot = gates.snapshot()
    assert (snapshot.in_flight, snapshot.queued) == (0, 0)
    assert all(limit.used == 0 for limit in snapshot.limits)


async def test_estimates_learn_what_calls_really_use() -> None:
    learned = LearnedEstimates(k=1.0)
    gates = GateSet(tpm(100_000), learned=learned, clock=ManualClock())
    for actual in (150, 250) * 10:
        async with gates.admit(tokens=100, key="a") as permit:
            permit.settle(tokens=actual)
    assert learned.factor("a") == pytest.approx(2.5, abs=0.1)
    async with gates.admit(tokens=100, key="a") as permit:
        assert permit.tokens == pytest.approx(250, abs=10)
    async with gates.admit(tokens=100, key="b") as permit:
        assert permit.tokens == 100


async def test_only_the_output_is_learned_where_it_is_given_and_never_beyond_the_limit() -> None:
    learned = LearnedEstimates(least_samples=2)
    gates = GateSet(OtpmGate(1_000, guard_seconds=0), learned=learned, clock=ManualClock())
    for _ in range(3):
        async with gates.admit(tokens=150, output_tokens=50) as permit:
            permit.settle(tokens=200, output_tokens=100)
    async with gates.admit(tokens=150, output_tokens=50) as permit:
        assert (permit.tokens, permit.output_tokens) == (200, 100)
        permit.cancel()
    async with gates.admit(tokens=600, output_tokens=600) as permit:
        assert permit.output_tokens == 600


def test_learning_is_bounded_and_checked() -> None:
    learned = LearnedEstimates(most_keys=2)
    for key in "abc":
        learned.learn(key, estimated=(10, None), actual=(20, None))
    learned.learn("c", estimated=(0, None), actual=(20, None))
    assert len(learned._ratios) == 2
    with pytest.raises(InvalidValue, match="k: got -1"):
        LearnedEstimates(k=-1)
    with pytest.raises(InvalidValue, match="memory"):
        LearnedEstimates(memory=1)


async def late_weights(k: float) -> tuple[float, float]:
    """Return the share of refused calls and the use of a token limit whose weights are known late."""
    clock = ManualClock()
    source = random.Random(11)
    limit, windows = 400_000, 6
    gates = GateSet(TpmGate(limit, guard_seconds=0), learned=LearnedEstimates(k=k), clock=clock)
    referee = Referee(limit)
    sent = 0

    async def worker() -> None:
        nonlocal sent
        while clock.monotonic_ns() < windows * 60e9 - 1e9:
            estimate = source.randint(200, 1_800)
            actual = round(estimate * max(source.gauss(0.9, 0.25), 0.1))
            async with gates.admit(tokens=estimate) as permit:
                now = clock.monotonic_ns() / 1e9
                if referee.arrive(now, actual) and now < windows * 60:
                    sent += actual
                await clock.sleep(source.uniform(0.5, 3))
                permit.settle(tokens=actual)

    workers = [asyncio.create_task(worker()) for _ in range(60)]
    await clock.run_for((windows + 1) * 60)
    await asyncio.gather(*workers)
    return referee.refused / (referee.refused + referee.accepted), sent / (limit * windows)


@pytest.mark.parametrize(("k", "use", "most_refused"), [(1.0, 0.95, 0.0), (0.6, 0.95, 0.001)])
async def test_a_weight_known_late_is_refused_never_or_hardly(
    k: float, use: float, most_refused: float
) -> None:
    refused, used = await late_weights(k)
    assert refused <= most_refused
    assert used >= use


@pytest.mark.parametrize("kind", ["sliding", "bucket", "fixed"])
def test_the_referee_refuses_what_is_too_much(kind: Any) -> None:
    referee = Referee(2, per_seconds=10, kind=kind)
    assert [referee.arrive(5) for _ in range(3)] == [True, True, False]
    assert (referee.accepted, referee.refused, referee.remaining) == (2, 1, 0)
    assert referee.arrive(15)


def test_presets_are_sets_of_the_limits_given() -> None:
    assert repr(presets.openai(rpm=5, tpm=10, rpd=7, tpd=9, concurrency=2)) == (
        "<GateSet rpm 5, tpm 10, rpd 7, tpd 9, concurrency 2>"
    )
    quantised = presets.anthropic(rpm=60, itpm=10, otpm=5, quantum_seconds=1)
    assert repr(quantised) == "<GateSet rpm 60, rpm, in 1 s 1, itpm 10, otpm 5>"
    assert quantised._turnstile.learned is not None
    assert repr(presets.azure_openai(tpm=10_000)) == "<GateSet rpm 60, rpm, in 10 s 10, tpm 10000>"
    assert repr(presets.gemini(rpm=5, tpm=10, rpd=20)) == "<GateSet rpm 5, itpm 10, rpd 20>"
    assert repr(presets.mistral(rps=2, tpm=10)) == "<GateSet rps 2, tpm 10>"
    assert repr(presets.groq(rpm=1, tpd=2)) == "<GateSet rpm 1, tpd 2>"
    assert repr(presets.cerebras(tpm=3)) == "<GateSet tpm 3>"
    with pytest.raises(ConfigurationError, match="no limit"):
        presets.groq()


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("limit", {"limit": 0}),
        ("per_seconds", {"per_seconds": 0}),
        ("guard_seconds", {"guard_seconds": -1}),
        ("quantum_seconds", {"quantum_seconds": 60}),
        ("algorithm", {"algorithm": "magic"}),
    ],
)
def test_wrong_options_are_refused_with_their_name(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=f"{field}: got"):
        RateGate(**{"limit": 5, **options})


def test_wrong_options_of_sets_are_refused() -> None:
    with pytest.raises(InvalidValue, match="max_queue"):
        GateSet(max_queue=-1)
    with pytest.raises(InvalidValue, match="aging_seconds"):
        GateSet(aging_seconds=0)
    with pytest.raises(InvalidValue, match="zone"):
        RpmGate(1, per_seconds=7, algorithm="fixed", zone=ZoneInfo("UTC"))
    assert RateGate(5, metric=Metric.TOKENS, per_seconds=2).snapshot().limits[0].name == (
        "tokens per 2 s"
    )


@pytest.mark.parametrize(
    "weights",
    [
        {"tokens": -1},
        {"tokens": float("nan")},
        {"tokens": 5, "output_tokens": -1},
        {"tokens": 5, "output_tokens": 6},
        {"cost": Decimal(-1)},
        {"cost": Decimal("NaN")},
        {"cost": 0.5},
    ],
)
def test_a_weight_that_would_make_room_or_spoil_the_sums_is_refused(weights: Any) -> None:
    gates = GateSet(tpm(100), BudgetGate(Decimal(1)), clock=ManualClock())
    with pytest.raises(InvalidValue):
        gates.admit(**weights)
    with pytest.raises(InvalidValue):
        gates.admit_sync(**weights)
    assert [limit.used for limit in gates.snapshot().limits] == [0, 0]


async def test_acquire_refuses_negative_tokens() -> None:
    gate = tpm(100)
    with pytest.raises(InvalidValue, match="tokens"):
        await gate.acquire(-1)
    with pytest.raises(InvalidValue, match="tokens"):
        gate.acquire_sync(-1)


async def test_a_wrong_settlement_changes_nothing() -> None:
    gate = tpm(100)
    async with gate.admit(tokens=40) as permit:
        with pytest.raises(InvalidValue, match="tokens"):
            permit.settle(tokens=-40)
        with pytest.raises(InvalidValue, match="output_tokens"):
            permit.settle(tokens=40, output_tokens=-1)
        with pytest.raises(InvalidValue, match="cost"):
            permit.settle(tokens=40, cost=Decimal(-1))
    assert gate.snapshot().limit("tpm").used == 40


async def test_settling_less_than_the_reserved_output_makes_no_room_for_input() -> None:
    gates = GateSet(ItpmGate(100), OtpmGate(100), clock=ManualClock())
    async with gates.admit(tokens=90, output_tokens=80) as permit:
        permit.settle(tokens=20)
    snapshot = gates.snapshot()
    assert (snapshot.limit("itpm").used, snapshot.limit("otpm").used) == (0, 20)


async def test_a_set_without_limits_can_still_be_held() -> None:
    clock = ManualClock()
    gates = GateSet(clock=clock)
    gates.hold(1)
    task = asyncio.create_task(gates.acquire(5))
    await settle_tasks()
    assert not task.done()
    clock.advance(1)
    await settle_tasks()
    assert (await task).wait_seconds == 1


async def test_a_timeout_counts_only_those_who_go_first() -> None:
    clock = ManualClock()
    gate = rpm(10, clock=clock)
    for _ in range(10):
        await gate.acquire()

    async def call(**options: Any) -> None:
        async with gate.admit(**options):
            pass

    waiting = [asyncio.create_task(call()) for _ in range(100)]
    await settle_tasks()
    urgent = asyncio.create_task(call(priority=1, timeout=61))
    await settle_tasks()
    with pytest.raises(GateTimeout):
        await gate.admit(timeout=61).__aenter__()
    clock.advance(60)
    await settle_tasks()
    assert urgent.done()
    await urgent
    assert sum(task.done() for task in waiting) == 9
    for task in waiting:
        task.cancel()


async def test_an_infinite_timeout_waits_for_ever() -> None:
    clock = ManualClock()
    gate = rpm(1, clock=clock)
    await gate.acquire()
    task = asyncio.create_task(gate.admit(timeout=math.inf).__aenter__())
    await settle_tasks()
    clock.advance(60)
    assert (await task).wait_seconds == 60


def test_a_changed_limit_is_a_whole_number() -> None:
    with pytest.raises(InvalidValue, match="limit"):
        rpm(5).set_limit(2.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="limit"):
        ConcurrencyGate(5).set_limit(2.5)  # type: ignore[arg-type]


async def test_a_set_within_a_set_goes_on_learning() -> None:
    learned = LearnedEstimates()
    for _ in range(9):
        learned.learn(None, estimated=(10, None), actual=(5, None))
    gates = GateSet(rpm(10), GateSet(tpm(100), learned=learned))
    async with gates.admit(tokens=10) as permit:
        assert permit.tokens == 5


@pytest.mark.parametrize("tokens", [True, 1.5, -1, math.nan, "7"])
async def test_tokens_are_whole_numbers(tokens: Any) -> None:
    gates = GateSet(rpm(10), tpm(100))
    with pytest.raises(InvalidValue, match=r"tokens: got .*expected a whole number"):
        gates.admit(tokens=tokens)
    with pytest.raises(InvalidValue):
        await gates.acquire(tokens)
    async with gates.admit(tokens=5) as permit:
        with pytest.raises(InvalidValue):
            permit.settle(tokens=tokens)
    assert gates.snapshot().limit("tpm").used == 5


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1])
def test_a_hold_is_a_finite_time(seconds: float) -> None:
    for gates in (rpm(10), KeyedGates(lambda key: rpm(10)), KeyedGates(rpm, parent=rpm(1))):  # type: ignore[arg-type]
        with pytest.raises(InvalidValue, match="seconds"):
            gates.hold(seconds)
        assert gates.snapshot().held_seconds == 0


async def test_a_timeout_is_a_number() -> None:
    gate = rpm(1)
    await gate.acquire()
    with pytest.raises(InvalidValue, match="timeout"):
        await gate.admit(timeout=math.nan).__aenter__()


@pytest.mark.parametrize("make", [RpmGate, ConcurrencyGate, BudgetGate])
def test_true_is_no_limit(make: Any) -> None:
    with pytest.raises(InvalidValue, match="limit: got True"):
        make(True)
    with pytest.raises(InvalidValue):
        make(3).set_limit(True)


async def test_a_gate_put_into_a_set_with_calls_in_flight_gives_back_to_the_set() -> None:
    slots = ConcurrencyGate(1)
    permit = await slots.admit().__aenter__()
    gates = GateSet(rpm(10), slots)
    waiting = asyncio.create_task(gates.acquire())
    await settle_tasks()
    assert not waiting.done()
    permit.release()
    (await asyncio.wait_for(waiting, 1)).release()
    assert gates.snapshot().limit("concurrency").used == 0


async def test_a_gate_at_which_calls_wait_is_not_put_into_a_set() -> None:
    slots = ConcurrencyGate(1)
    async with slots.admit():
        waiting = asyncio.create_task(slots.acquire())
        await settle_tasks()
        with pytest.raises(ConfigurationError, match="but 1 do"):
            GateSet(slots)
    (await waiting).release()
