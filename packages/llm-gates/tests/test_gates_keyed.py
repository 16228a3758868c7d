"""KeyedGates: a gate per tenant, fair shares under a common limit, idle keys forgotten."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from llm_core import (
    CircuitOpen,
    ConfigurationError,
    CostExceedsLimit,
    ErrorInfo,
    ErrorType,
    Gate,
    GateTimeout,
    InvalidValue,
    QueueFull,
    RateLimitFacts,
    RateLimitWindow,
)
from llm_core.testing import ManualClock
from llm_gates import (
    BreakerPolicy,
    CircuitBreaker,
    ConcurrencyGate,
    GateSet,
    KeyedGates,
    LearnedEstimates,
    RpmGate,
    TpmGate,
)


def rpm(limit: int, **options: object) -> RpmGate:
    return RpmGate(limit, per_seconds=1, guard_seconds=0, **options)  # type: ignore[arg-type]


async def rest() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_each_key_has_its_own_limit_and_queue() -> None:
    gates = KeyedGates(lambda key: rpm(2), clock=ManualClock())
    assert isinstance(gates, Gate)
    for key in ("a", "b"):
        for _ in range(2):
            async with gates.admit(key=key, timeout=0):
                pass
        with pytest.raises(GateTimeout):
            await gates.admit(key=key, timeout=0).__aenter__()
    assert len(gates) == 2


async def test_three_thousand_tenants_and_none_over_its_limit() -> None:
    clock = ManualClock()
    gates = KeyedGates(lambda key: rpm(2, clock=clock), most_keys=100, clock=clock)
    passed: Counter[str] = Counter()
    for _ in range(3):
        for tenant in range(3_000):
            try:
                async with gates.admit(key=str(tenant), timeout=0):
                    passed[str(tenant)] += 1
            except GateTimeout:
                pass
    assert len(passed) == 3_000
    assert set(passed.values()) == {2}


async def test_idle_keys_are_forgotten_and_live_ones_never() -> None:
    clock = ManualClock()
    gates = KeyedGates(
        lambda key: (
            RpmGate(1, per_seconds=3600, guard_seconds=0, clock=clock)
            if key == "live"
            else rpm(1, clock=clock)
        ),
        most_keys=10,
        clock=clock,
    )
    await gates.gate("live").acquire()
    for number in range(50):
        clock.advance(61)
        async with gates.admit(key=str(number)):
            pass
    assert len(gates) <= 21
    with pytest.raises(GateTimeout):
        await gates.admit(key="live", timeout=0).__aenter__()


async def test_a_flood_does_not_starve_another_tenant() -> None:
    clock = ManualClock()
    gates = KeyedGates(lambda key: GateSet(), parent=rpm(10), clock=clock)
    order: list[str] = []

    async def call(key: str) -> None:
        async with gates.admit(key=key):
            order.append(key)

    tasks = [asyncio.create_task(call("flood")) for _ in range(200)]
    await rest()
    tasks += [asyncio.create_task(call("small")) for _ in range(10)]
    await clock.run_for(2.5)
    assert order.count("small") == 10
    await clock.run_for(30)
    await asyncio.gather(*tasks)
    assert order.count("flood") == 200


async def test_shares_follow_the_weights() -> None:
    clock = ManualClock()
    gates = KeyedGates(lambda key: GateSet(), parent=rpm(10), weights={"big": 3.0}, clock=clock)
    order: list[str] = []

    async def call(key: str) -> None:
        async with gates.admit(key=key):
            order.append(key)

    tasks = [asyncio.create_task(call(key)) for _ in range(100) for key in ("big", "small")]
    await clock.run_for(8.5)
    shares = Counter(order[10:])
    assert 2.5 <= shares["big"] / shares["small"] <= 3.5
    for task in tasks:
        task.cancel()


async def test_shares_are_of_tokens_where_tokens_are_scarce() -> None:
    clock = ManualClock()
    parent = TpmGate(1_000, per_seconds=1, guard_seconds=0)
    gates = KeyedGates(lambda key: GateSet(), parent=parent, clock=clock)
    used: Counter[str] = Counter()

    async def call(key: str, tokens: int) -> None:
        async with gates.admit(key=key, tokens=tokens):
            used[key] += tokens

    tasks = [asyncio.create_task(call("heavy", 500)) for _ in range(100)]
    tasks += [asyncio.create_task(call("light", 50)) for _ in range(1_000)]
    await clock.run_for(20)
    assert 0.8 <= used["heavy"] / used["light"] <= 1.25
    for task in tasks:
        task.cancel()


async def test_a_lane_held_by_its_own_limit_delays_nobody() -> None:
    clock = ManualClock()
    gates = KeyedGates(
        lambda key: RpmGate(1, per_seconds=100, guard_seconds=0) if key == "slow" else GateSet(),
        parent=rpm(10),
        clock=clock,
    )
    done: list[str] = []

    async def call(key: str) -> None:
        async with gates.admit(key=key):
            done.append(key)

    tasks = [asyncio.create_task(call("slow")) for _ in range(2)]
    await rest()
    tasks += [asyncio.create_task(call("fast")) for _ in range(15)]
    await clock.run_for(1.5)
    assert done.count("fast") == 15
    await clock.run_for(100)
    await asyncio.gather(*tasks)
    assert done.count("slow") == 2


async def test_slots_of_the_parent_pass_from_lane_to_lane() -> None:
    clock = ManualClock()
    gates = KeyedGates(lambda key: ConcurrencyGate(1), parent=ConcurrencyGate(2), clock=clock)
    running = peak = 0

    async def call(key: str) -> None:
        nonlocal running, peak
        async with gates.admit(key=key, tokens=1) as permit:
            running += 1
            peak = max(peak, running)
            permit.settle(tokens=2)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(call(key) for _ in range(10) for key in "abc"))
    assert peak == 2
    assert gates.snapshot().in_flight == gates.snapshot().queued == 0
    assert gates.snapshot().limits[0].remaining == 2
    assert gates.snapshot(key="a").limits[0].remaining == 1


async def test_timeouts_holds_and_cancellation_work_in_lanes() -> None:
    clock = ManualClock()
    gates = KeyedGates(lambda key: GateSet(max_queue=5), parent=rpm(1), clock=clock)
    async with gates.admit(key="a") as permit:
        permit.cancel()
    async with gates.admit(key="a"):
        pass
    with pytest.raises(GateTimeout, match=r"rpm needs at least"):
        await gates.admit(key="a", timeout=0.5).__aenter__()
    late = asyncio.create_task(gates.admit(key="a", timeout=1.5).__aenter__())
    gone = asyncio.create_task(gates.admit(key="b").__aenter__())
    last = asyncio.create_task(gates.admit(key="b").__aenter__())
    await rest()
    gone.cancel()
    gates.observe(RateLimitFacts(retry_after=2))
    with pytest.raises(GateTimeout, match="hold"):
        await late
    await clock.run_for(2.1)
    assert (await last).waited_for in ("hold", "rpm")
    gates.hold(5, key="c")
    with pytest.raises(GateTimeout):
        await gates.admit(key="c", timeout=1).__aenter__()


async def test_a_parent_that_shrinks_refuses_what_has_become_too_heavy() -> None:
    clock = ManualClock()
    parent = TpmGate(100, per_seconds=1, guard_seconds=0)
    gates = KeyedGates(lambda key: GateSet(), parent=parent, clock=clock)
    async with gates.admit(key="a", tokens=100):
        pass
    heavy = asyncio.create_task(gates.admit(key="b", tokens=80).__aenter__())
    light = asyncio.create_task(gates.admit(key="c", tokens=40).__aenter__())
    await rest()
    parent.set_limit(50)
    with pytest.raises(CostExceedsLimit):
        await heavy
    await clock.run_for(1.1)
    await light


def test_threads_share_fairly_too() -> None:
    gates = KeyedGates(lambda key: GateSet(), parent=ConcurrencyGate(2))
    done: Counter[str] = Counter()

    def work(key: str) -> None:
        for _ in range(50):
            with gates.admit_sync(key=key):
                done[key] += 1

    threads = [threading.Thread(target=work, args=(key,)) for key in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert set(done.values()) == {50}


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InvalidValue, match="most_keys"):
        KeyedGates(lambda key: GateSet(), most_keys=0)
    with pytest.raises(InvalidValue, match=r"weights\['a'\]: got -1"):
        KeyedGates(lambda key: GateSet(), parent=rpm(1), weights=lambda key: -1).gate("a")
    parent = rpm(1)
    KeyedGates(lambda key: GateSet(), parent=parent)
    with pytest.raises(ConfigurationError, match="another set"):
        GateSet(parent)


async def test_headers_correct_the_common_limits_by_the_calls_of_all_keys() -> None:
    clock = ManualClock()
    gates = KeyedGates(lambda key: rpm(50), parent=RpmGate(100), clock=clock)
    for key in "ab":
        for _ in range(10):
            async with gates.admit(key=key):
                clock.advance(0.01)
    clock.advance(0.5)
    async with gates.admit(key="a") as permit:
        window = RateLimitWindow(limit=100, remaining=79)
        gates.observe(RateLimitFacts(requests=window), permit=permit)
    assert 75 <= gates.snapshot().limits[0].remaining <= 79
    async with gates.admit(key="b") as permit:
        clock.advance(1)
        window = RateLimitWindow(limit=100, remaining=30)
        gates.observe(RateLimitFacts(requests=window), permit=permit, key="b")
    assert 20 <= gates.snapshot().limits[0].remaining <= 30


def test_keys_can_be_used_from_threads_and_held_without_a_parent() -> None:
    gates = KeyedGates(lambda key: rpm(5))
    with gates.admit_sync(key="a"):
        assert gates.snapshot().in_flight == 1
        assert gates.snapshot().limits == ()
    gates.hold(30)
    gates.observe(RateLimitFacts(retry_after=40))
    with pytest.raises(GateTimeout, match="hold"), gates.admit_sync(key="a", timeout=1):
        pass
    gates.observe(RateLimitFacts(retry_after=50), key="a")
    assert gates.snapshot(key="a").held_seconds > 45


async def test_commonly_held_keys_say_so_and_common_limits_change_at_run_time() -> None:
    clock = ManualClock()
    parent = ConcurrencyGate(1)
    gates = KeyedGates(lambda key: GateSet(), parent=parent, clock=clock)
    permit = await gates.gate("a").acquire()
    waiting = asyncio.create_task(gates.gate("b").acquire())
    await rest()
    parent.set_limit(2)
    await asyncio.wait_for(waiting, 1)
    permit.release()
    gates.hold(4)
    assert gates.snapshot().held_seconds == 4


async def test_a_tenant_wakes_after_another_that_slept_before_it_has_given_up() -> None:
    clock = ManualClock()
    gates = KeyedGates(lambda key: rpm(1, clock=clock), parent=GateSet(rpm(1_000)), clock=clock)

    async def call(key: str) -> None:
        async with gates.admit(key=key):
            pass

    await call("early")
    clock.advance(0.1)
    await call("late")
    early, late = asyncio.create_task(call("early")), asyncio.create_task(call("late"))
    await rest()
    early.cancel()
    await rest()
    clock.advance(1)
    await rest()
    assert early.cancelled()
    assert late.done()


@pytest.mark.parametrize("tenants", [True, False])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_closed_event_loop_with_waiters_stops_nobody_else(tenants: bool) -> None:
    clock = ManualClock()
    gates = (
        KeyedGates(lambda key: rpm(10), parent=GateSet(rpm(1)), clock=clock)
        if tenants
        else rpm(1, clock=clock)
    )

    async def call(key: str) -> None:
        async with gates.admit(key=key):
            pass

    async def fill() -> asyncio.Task[None]:
        await call("a")
        waiter = asyncio.create_task(call("b"))
        await rest()
        return waiter

    loop = asyncio.new_event_loop()
    waiter = loop.run_until_complete(fill())
    loop.close()

    async def another() -> bool:
        task = asyncio.create_task(call("c"))
        await rest()
        clock.advance(1)
        await rest()
        return task.done()

    assert asyncio.run(another())
    assert not waiter.done()
    waiter._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_a_hold_holds_keys_that_come_later() -> None:
    clock = ManualClock()
    gates = KeyedGates(lambda key: rpm(5, clock=clock), clock=clock)
    gates.hold(10)
    with pytest.raises(GateTimeout, match="hold"):
        await gates.admit(key="new", timeout=5).__aenter__()
    clock.advance(10)
    async with gates.admit(key="new", timeout=0):
        pass


async def test_a_key_whose_breaker_is_open_is_not_forgotten() -> None:
    clock = ManualClock()
    policy = BreakerPolicy(least_calls=1, open_seconds=200, jitter=0)
    gates = KeyedGates(lambda key: CircuitBreaker(policy, clock=clock), most_keys=2, clock=clock)
    async with gates.admit(key="down") as permit:
        permit.fail(ErrorInfo.of(ErrorType.SERVER_ERROR, "down"))
    clock.advance(61)
    for number in range(5):
        async with gates.admit(key=f"up {number}"):
            pass
    with pytest.raises(CircuitOpen):
        await gates.admit(key="down").__aenter__()


@pytest.mark.parametrize("place", ["key", "parent"])
async def test_estimates_are_learned_under_common_limits_too(place: str) -> None:
    learned = LearnedEstimates()
    for _ in range(9):
        learned.learn(None, estimated=(10, None), actual=(5, None))
    own = learned if place == "key" else None
    common = learned if place == "parent" else None
    gates = KeyedGates(
        lambda key: GateSet(TpmGate(100), learned=own),
        parent=GateSet(TpmGate(1_000), learned=common),
        clock=ManualClock(),
    )
    async with gates.admit(tokens=10) as permit:
        assert permit.tokens == 5


async def test_the_parents_queue_is_bounded_for_all_keys_together() -> None:
    parent = GateSet(rpm(1), clock=ManualClock(), max_queue=2)
    gates = KeyedGates(lambda key: rpm(10), parent=parent)
    async with gates.admit(key="a"):
        waiting = [asyncio.create_task(gates.admit(key=key).__aenter__()) for key in "bc"]
        await rest()
        with pytest.raises(QueueFull):
            await gates.admit(key="d").__aenter__()
    for task in waiting:
        task.cancel()
    await rest()
    assert gates.snapshot().queued == 0


async def test_the_parents_aging_orders_the_calls_of_a_key() -> None:
    clock = ManualClock()
    parent = GateSet(rpm(1), clock=clock, aging_seconds=0.1)
    gates = KeyedGates(lambda key: rpm(10), parent=parent)
    order: list[int] = []

    async def call(priority: int) -> None:
        async with gates.admit(key="a", priority=priority):
            order.append(priority)

    await call(9)
    tasks = [asyncio.create_task(call(0))]
    await rest()
    clock.advance(0.5)
    tasks.append(asyncio.create_task(call(1)))
    await rest()
    for _ in range(3):
        clock.advance(1)
        await rest()
    await asyncio.gather(*tasks)
    assert order == [9, 0, 1]
