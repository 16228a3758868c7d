"""ConcurrencyGate and GateSet: slots, order, timeouts, cancellation, threads and several loops."""

from __future__ import annotations

import asyncio
import threading

import pytest

from llm_core import (
    CostExceedsLimit,
    ErrorInfo,
    ErrorType,
    Gate,
    GateTimeout,
    InvalidValue,
    Permit,
    QueueFull,
)
from llm_core.testing import ManualClock
from llm_gates import ConcurrencyGate, GateSet


async def settle_tasks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_gate_satisfies_the_interfaces_of_core() -> None:
    gate = ConcurrencyGate(1)
    assert isinstance(gate, Gate)
    async with gate.admit() as permit:
        assert isinstance(permit, Permit)


async def test_never_more_than_the_limit_run_at_once_and_all_run() -> None:
    gate = ConcurrencyGate(3)
    running = peak = done = 0

    async def call() -> None:
        nonlocal running, peak, done
        async with gate.admit():
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0)
            running -= 1
            done += 1

    await asyncio.gather(*(call() for _ in range(50)))
    assert (peak, done) == (3, 50)


async def test_waiters_go_in_the_order_they_came() -> None:
    gate = ConcurrencyGate(1)
    order: list[int] = []

    async def call(number: int) -> None:
        async with gate.admit():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_permit_tells_how_long_it_waited_and_for_what() -> None:
    clock = ManualClock()
    gate = ConcurrencyGate(1, name="slots", clock=clock)
    first = gate.admit()
    permit = await first.__aenter__()
    assert (permit.wait_seconds, permit.waited_for) == (0.0, None)
    second = gate.admit()
    waiting = asyncio.create_task(second.__aenter__())
    await settle_tasks()
    clock.advance(1.5)
    await first.__aexit__(None, None, None)
    later = await waiting
    assert (later.wait_seconds, later.waited_for) == (1.5, "slots")


async def test_a_timeout_is_raised_when_it_passes_and_leaves_nothing() -> None:
    clock = ManualClock()
    gate = GateSet(ConcurrencyGate(1), clock=clock)
    async with gate.admit():
        waiting = asyncio.create_task(gate.admit(timeout=2).__aenter__())
        await clock.run_for(1.9)
        assert not waiting.done()
        await clock.run_for(0.2)
        with pytest.raises(GateTimeout, match="concurrency"):
            await waiting
    async with gate.admit(timeout=0):
        pass


async def test_a_timeout_of_zero_fails_at_once_when_there_is_no_room() -> None:
    gate = ConcurrencyGate(1)
    async with gate.admit():
        with pytest.raises(GateTimeout):
            await gate.admit(timeout=0).__aenter__()


async def test_a_full_queue_refuses_at_once() -> None:
    gate = ConcurrencyGate(1, max_queue=1)
    async with gate.admit():
        waiting = asyncio.create_task(gate.admit().__aenter__())
        await settle_tasks()
        with pytest.raises(QueueFull, match="max_queue=1"):
            await gate.admit().__aenter__()
        waiting.cancel()


async def test_a_permit_is_entered_once() -> None:
    admission = ConcurrencyGate(1).admit()
    async with admission:
        pass
    with pytest.raises(RuntimeError, match="once"):
        await admission.__aenter__()


def test_a_limit_below_one_is_refused_with_its_name() -> None:
    with pytest.raises(InvalidValue, match="limit: got 0"):
        ConcurrencyGate(0)


async def test_a_cancelled_waiter_delays_nobody_behind_it() -> None:
    gate = ConcurrencyGate(1)
    async with gate.admit():
        first = asyncio.create_task(gate.admit().__aenter__())
        second = asyncio.create_task(gate.admit().__aenter__())
        await settle_tasks()
        first.cancel()
        await settle_tasks()
    await asyncio.wait_for(second, 1)


async def test_a_waiter_cancelled_after_the_grant_passes_it_on() -> None:
    gate = ConcurrencyGate(1)
    holder = gate.admit()
    await holder.__aenter__()
    first = asyncio.create_task(gate.admit().__aenter__())
    second = asyncio.create_task(gate.admit().__aenter__())
    await settle_tasks()
    await holder.__aexit__(None, None, None)
    first.cancel()
    await asyncio.wait_for(second, 1)
    assert first.cancelled()


async def test_a_hold_stops_everybody_until_it_is_over() -> None:
    clock = ManualClock()
    gate = GateSet(ConcurrencyGate(5), clock=clock)
    gate.hold(3)
    patient = asyncio.create_task(gate.admit(timeout=10).__aenter__())
    with pytest.raises(GateTimeout, match="hold"):
        await gate.admit(timeout=2).__aenter__()
    await clock.run_for(2.9)
    assert not patient.done()
    await clock.run_for(0.2)
    permit = await patient
    assert permit.waited_for == "hold"
    async with gate.admit(timeout=0):
        pass


async def test_a_higher_priority_goes_first_but_not_for_ever() -> None:
    clock = ManualClock()
    gate = GateSet(ConcurrencyGate(1), clock=clock, aging_seconds=10)
    order: list[str] = []

    async def call(name: str, priority: int) -> None:
        async with gate.admit(priority=priority):
            order.append(name)

    holder = gate.admit()
    await holder.__aenter__()
    tasks = [asyncio.create_task(call("low", 0))]
    await settle_tasks()
    clock.advance(5)
    tasks.append(asyncio.create_task(call("high", 1)))
    await settle_tasks()
    clock.advance(6)
    tasks.append(asyncio.create_task(call("high, much later", 1)))
    await settle_tasks()
    await holder.__aexit__(None, None, None)
    await asyncio.gather(*tasks)
    assert order == ["high", "low", "high, much later"]


def test_threads_and_several_loops_stand_in_one_queue() -> None:
    gate = ConcurrencyGate(2)
    lock = threading.Lock()
    running = peak = done = 0

    def step(change: int) -> None:
        nonlocal running, peak, done
        with lock:
            running += change
            peak = max(peak, running)
            done += change < 0

    def in_thread() -> None:
        for _ in range(50):
            with gate.admit_sync():
                step(1)
                step(-1)

    async def in_loop() -> None:
        async def call() -> None:
            async with gate.admit():
                step(1)
                await asyncio.sleep(0)
                step(-1)

        await asyncio.gather(*(call() for _ in range(50)))

    threads = [threading.Thread(target=in_thread) for _ in range(3)]
    threads += [threading.Thread(target=asyncio.run, args=(in_loop(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert (peak <= 2, done) == (True, 300)


def test_a_thread_can_time_out() -> None:
    gate = ConcurrencyGate(1)
    with gate.admit_sync(), pytest.raises(GateTimeout), gate.admit_sync(timeout=0.02):
        pass


async def test_an_empty_set_admits_everybody() -> None:
    async with GateSet().admit(tokens=10**9) as permit:
        assert permit.wait_seconds == 0


async def test_settle_and_fail_leave_the_slot_to_the_exit_and_cancel_does_not() -> None:
    gate = ConcurrencyGate(1)
    async with gate.admit(tokens=5) as permit:
        permit.settle(tokens=3)
        permit.fail(ErrorInfo.of(ErrorType.SERVER_ERROR, "broken"))
        with pytest.raises(GateTimeout):
            await gate.admit(timeout=0).__aenter__()
        permit.cancel()
        async with gate.admit(timeout=0):
            assert gate.snapshot().in_flight == 1
    assert gate.snapshot().in_flight == 0


def test_cost_exceeds_limit_is_a_value_error() -> None:
    assert issubclass(CostExceedsLimit, ValueError)
