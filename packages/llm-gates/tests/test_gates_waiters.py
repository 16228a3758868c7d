"""Waiters whose surroundings fail: event loops that stop, destructors that run at a bad moment."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator

import pytest

from llm_core import GateTimeout
from llm_core.testing import ManualClock
from llm_gates import ConcurrencyGate, GatePermit, GateSet, KeyedGates, RpmGate, TpmGate


async def rest() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A second event loop, which runs only while it is told to."""
    loop = asyncio.new_event_loop()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(rest())
    loop.close()


def gate_or_tenants(tenants: bool, gate: GateSet) -> GateSet | KeyedGates:
    return KeyedGates(lambda key: RpmGate(1_000), parent=gate) if tenants else gate


@pytest.mark.parametrize("tenants", [False, True])
def test_waiters_of_a_stopped_event_loop_hold_nobody_up_and_keep_their_place(
    tenants: bool, loop: asyncio.AbstractEventLoop
) -> None:
    gates = gate_or_tenants(tenants, ConcurrencyGate(1))
    order: list[str] = []

    async def call(name: str) -> None:
        async with gates.admit():
            order.append(name)

    with gates.admit_sync() as held:
        first = loop.create_task(call("first"))
        second = loop.create_task(call("second"))
        loop.run_until_complete(rest())
        held.release()
        # The loop does not run any more: whoever comes now need not wait for it.
        with gates.admit_sync(timeout=1):
            order.append("passing")
        assert gates.snapshot(**({"key": ""} if tenants else {})).queued == 2
    loop.run_until_complete(asyncio.gather(first, second))
    assert order == ["passing", "first", "second"]


@pytest.mark.parametrize("tenants", [False, True])
def test_when_the_loop_of_the_first_waiter_stops_the_others_go_on(
    tenants: bool, loop: asyncio.AbstractEventLoop
) -> None:
    gates = gate_or_tenants(tenants, RpmGate(1, per_seconds=0.2, guard_seconds=0))

    async def call() -> None:
        async with gates.admit():
            pass

    async def first_in_line() -> asyncio.Task[None]:
        await call()
        waiting = loop.create_task(call())
        await rest()
        return waiting

    waiting = loop.run_until_complete(first_in_line())
    stopped = threading.Event()

    async def later() -> None:
        stopped.set()
        await asyncio.wait_for(call(), 5)

    async def while_the_other_waits() -> None:
        await asyncio.to_thread(stopped.wait, 5)

    # Both loops run when the second waiter comes; then the first loop, in which the timer is, stops.
    thread = threading.Thread(target=lambda: asyncio.run(later()))
    thread.start()
    loop.run_until_complete(while_the_other_waits())
    began = time.monotonic()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - began < 2
    loop.run_until_complete(asyncio.wait_for(waiting, 5))


def test_a_waiter_that_was_away_too_long_times_out(loop: asyncio.AbstractEventLoop) -> None:
    clock = ManualClock()
    gate = RpmGate(1, per_seconds=10, guard_seconds=0, clock=clock)

    async def call() -> None:
        async with gate.admit(timeout=15):
            pass

    async def first_in_line() -> asyncio.Task[None]:
        await call()
        waiting = loop.create_task(call())
        await rest()
        return waiting

    waiting = loop.run_until_complete(first_in_line())
    clock.advance(10)
    with gate.admit_sync(timeout=30):
        pass
    clock.advance(10)
    with pytest.raises(GateTimeout):
        loop.run_until_complete(waiting)
    assert gate.snapshot().queued == 0


def grant_and_stop(held: GatePermit, loop: asyncio.AbstractEventLoop) -> None:
    """Release a slot in the last turn of a loop, so that whoever it goes to there does not wake up any more."""
    loop.call_soon(loop.stop)
    loop.call_soon(held.release)
    loop.run_forever()


@pytest.mark.parametrize("tenants", [False, True])
def test_what_was_granted_in_a_loop_that_stopped_goes_to_the_next(
    tenants: bool, loop: asyncio.AbstractEventLoop
) -> None:
    gates = gate_or_tenants(tenants, ConcurrencyGate(1))
    order: list[str] = []

    async def call(name: str) -> None:
        async with gates.admit():
            order.append(name)

    with gates.admit_sync() as held:
        first = loop.create_task(call("first"))
        loop.run_until_complete(rest())
        grant_and_stop(held, loop)
    with gates.admit_sync(timeout=1):
        order.append("passing")
    loop.run_until_complete(first)
    assert order == ["passing", "first"]
    assert gates.snapshot().in_flight == gates.snapshot().queued == 0


def test_a_thread_that_waits_already_gets_what_was_granted_in_a_loop_that_stopped(
    loop: asyncio.AbstractEventLoop,
) -> None:
    gate = ConcurrencyGate(1)

    def in_a_thread() -> None:
        with gate.admit_sync():
            pass

    async def acquire() -> None:
        (await gate.acquire()).release()

    thread = threading.Thread(target=in_a_thread)
    with gate.admit_sync() as held:
        first = loop.create_task(acquire())
        loop.run_until_complete(rest())
        thread.start()
        while gate.snapshot().queued < 2:
            time.sleep(0.001)
        grant_and_stop(held, loop)
    thread.join(5)
    assert not thread.is_alive()
    loop.run_until_complete(asyncio.wait_for(first, 5))
    assert gate.snapshot().limits[0].used == 0


def test_the_last_loop_that_runs_is_served_when_all_others_stop() -> None:
    gate = RpmGate(1, per_seconds=0.2, guard_seconds=0)
    loops = [asyncio.new_event_loop() for _ in range(3)]
    threads = [threading.Thread(target=loop.run_forever) for loop in loops]
    for thread in threads:
        thread.start()

    async def call() -> None:
        async with gate.admit():
            pass

    asyncio.run_coroutine_threadsafe(call(), loops[0]).result(5)
    waiting = []
    for loop in loops:
        waiting.append(asyncio.run_coroutine_threadsafe(call(), loop))
        asyncio.run_coroutine_threadsafe(rest(), loop).result(5)
    for loop, thread in zip(loops[:2], threads[:2], strict=True):
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
    waiting[2].result(5)
    for loop in loops[:2]:
        loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop)))
    loops[2].call_soon_threadsafe(loops[2].stop)
    threads[2].join(5)
    for loop in loops:
        loop.close()


def waiting_call(gates: GateSet, loop: asyncio.AbstractEventLoop) -> object:
    """Return a coroutine that waits at the gate, which nobody but its owner knows."""
    coroutine = gates.admit(tokens=1).__aenter__()
    asyncio._set_running_loop(loop)
    try:
        coroutine.send(None)
    finally:
        asyncio._set_running_loop(None)
    return coroutine


def test_a_waiter_destroyed_while_its_thread_is_inside_the_gate_does_no_harm(
    loop: asyncio.AbstractEventLoop,
) -> None:
    gates = ConcurrencyGate(1)
    with gates.admit_sync():
        coroutine = waiting_call(gates, loop)
        assert gates.snapshot().queued == 1
        # As the garbage collector does it when it runs in the middle of an admission.
        with gates._turnstile.door:
            del coroutine
            gc.collect()
        assert gates.snapshot().queued == 0
    assert gates.snapshot().limits[0].used == 0


def test_a_call_that_ends_while_its_thread_is_inside_the_gate_gives_its_slot_back() -> None:
    gates = GateSet(TpmGate(1_000), ConcurrencyGate(2))
    one, other = gates.admit_sync(tokens=100), gates.admit_sync(tokens=100)
    one.__enter__()
    other.__enter__()
    with gates._turnstile.door:
        one.settle(tokens=50)
        one.settle(tokens=20)
        one.release()
        other.cancel()
    snapshot = gates.snapshot()
    assert (snapshot.in_flight, snapshot.limit("concurrency").used) == (0, 0)
    assert snapshot.limit("tpm").used == 20
