"""Local gates in forked children: nothing hangs, nothing of the parent's calls is held, what was sent counts."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from llm_core import (
    BudgetDenied,
    CircuitOpen,
    ConfigurationError,
    ErrorInfo,
    ErrorType,
    GateTimeout,
    RateLimitFacts,
    RateLimitWindow,
    SystemClock,
)
from llm_gates import (
    AdaptiveConcurrencyGate,
    BreakerPolicy,
    BreakerState,
    BudgetGate,
    CircuitBreaker,
    ConcurrencyGate,
    GateSet,
    KeyedGates,
    RpmGate,
    TpmGate,
)
from llm_gates.limits import Metric
from llm_gates.permit import SyncAdmission
from llm_gates.sliding_log import SlidingLog

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # Forking beside threads is what is tried here.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

OVERLOADED = ErrorInfo.of(ErrorType.OVERLOADED, "busy")


def in_child(work: Callable[[], Any]) -> Any:
    """Run `work` in a forked child and return what it returns; a child that hangs is ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(15)
            os.write(writer, pickle.dumps(work()))
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the test shall show it
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        told = answer.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return pickle.loads(told)


def passes(gates: GateSet | KeyedGates, **needs: Any) -> bool:
    """Whether a call may go at once; it ends at once as well."""
    try:
        with gates.admit_sync(timeout=0, **needs):
            return True
    except (GateTimeout, BudgetDenied, CircuitOpen):
        return False


def entered(gates: GateSet | KeyedGates, **needs: Any) -> SyncAdmission:
    return gates.admit_sync(**needs).__enter__()


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` in a thread beside the body, and wait for it afterwards."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(20)
        assert not thread.is_alive()


# ---------------------------------------------------------------------------- slots
def test_slots_that_the_parents_threads_hold_are_free_in_the_child() -> None:
    gate = ConcurrencyGate(1)
    held, done = threading.Event(), threading.Event()

    def call() -> None:
        with gate.admit_sync():
            held.set()
            done.wait(20)

    def work() -> tuple[int, bool, bool]:
        before = gate.snapshot().in_flight
        with gate.admit_sync(timeout=5):
            return before, passes(gate), gate.snapshot().limits[0].remaining == 0

    with in_thread(call):
        held.wait(20)
        assert in_child(work) == (0, False, True)
        assert not passes(gate)
        done.set()
    assert passes(gate)


@pytest.mark.parametrize(
    "end",
    [
        lambda permit: permit.release(),
        lambda permit: permit.cancel(),
        lambda permit: permit.fail(ErrorInfo.of(ErrorType.CONNECTION, "no such host")),
        lambda permit: permit.__exit__(None, None, None),
    ],
    ids=["release", "cancel", "fail", "exit"],
)
def test_a_permit_of_the_parent_gives_nothing_back_in_the_child(
    end: Callable[[SyncAdmission], None],
) -> None:
    gates = GateSet(ConcurrencyGate(2), TpmGate(100, guard_seconds=0))
    permit = entered(gates, tokens=60)

    def work() -> tuple[bool, bool, int]:
        with gates.admit_sync(timeout=5), gates.admit_sync(timeout=5):
            end(permit)
            permit.settle(tokens=1)
            free = passes(gates)
        return free, passes(gates, tokens=41), gates.snapshot().in_flight

    assert in_child(work) == (False, False, 0)
    permit.settle(tokens=10)
    permit.release()
    assert passes(gates, tokens=90)


def test_a_permit_of_the_parent_that_is_garbage_in_the_child_gives_nothing_back() -> None:
    gate = ConcurrencyGate(1)

    async def call() -> None:
        async with gate.admit():
            await asyncio.Event().wait()

    async def main() -> tuple[int, bool]:
        tasks = [asyncio.create_task(call())]
        await asyncio.sleep(0)

        def work() -> tuple[int, bool]:
            with gate.admit_sync(timeout=5):
                coroutine = tasks.pop().get_coro()
                assert coroutine is not None
                coroutine.close()
                gc.collect()
                return gate.snapshot().in_flight, passes(gate)

        facts: tuple[int, bool] = in_child(work)
        tasks[0].cancel()
        return facts

    assert asyncio.run(main()) == (1, False)


def test_a_call_that_was_let_in_before_its_gate_joined_a_set_gives_nothing_back() -> None:
    gate = ConcurrencyGate(1)
    permit = entered(gate)
    gates = GateSet(gate, RpmGate(10, guard_seconds=0))

    def work() -> bool:
        with gates.admit_sync(timeout=5):
            permit.release()
            return passes(gates)

    assert not in_child(work)
    permit.release()
    assert passes(gates)


def test_a_grandchild_begins_anew_too() -> None:
    gate = ConcurrencyGate(1)
    permit = entered(gate)

    def work() -> bool:
        with gate.admit_sync(timeout=5):

            def again() -> bool:
                permit.release()
                with gate.admit_sync(timeout=5):
                    return not passes(gate)

            return bool(in_child(again)) and not passes(gate)

    assert in_child(work)
    permit.release()


def test_slots_that_were_found_by_trying_are_kept_and_free() -> None:
    gate = AdaptiveConcurrencyGate(start=1, ceiling=8)
    with gate.admit_sync():
        pass
    permits = [entered(gate) for _ in range(2)]

    def work() -> tuple[int, int]:
        with gate.admit_sync(timeout=5), gate.admit_sync(timeout=5):
            return gate.limit, gate.snapshot().in_flight

    assert in_child(work) == (2, 2)
    for permit in permits:
        permit.release()


# ---------------------------------------------------------------------------- what was sent
@pytest.mark.parametrize("algorithm", ["sliding", "bucket", "fixed"])
def test_what_was_sent_counts_in_the_child_and_what_waits_does_not(algorithm: Any) -> None:
    gate = TpmGate(100, per_seconds=3600, algorithm=algorithm, guard_seconds=0)
    slot = ConcurrencyGate(1)
    gates = GateSet(gate, slot)

    async def call() -> None:
        async with gates.admit(tokens=10):
            pass

    async def main() -> tuple[bool, bool]:
        async with gates.admit(tokens=50):
            waiting = [asyncio.create_task(call()) for _ in range(2)]
            await asyncio.sleep(0)
        # One of them was told to go and has not gone yet.
        facts: tuple[bool, bool] = in_child(
            lambda: (passes(gates, tokens=50), passes(gates, tokens=5))
        )
        await asyncio.gather(*waiting)
        return facts

    assert asyncio.run(main()) == (True, False)
    assert passes(gates, tokens=30)
    assert not passes(gates, tokens=5)


def test_a_log_that_a_thread_was_writing_to_is_in_order_in_its_twin() -> None:
    log = SlidingLog(100, window_ns=1_000, metric=Metric.TOKENS, name="tokens")
    for now in range(3):
        log.try_take(now, 10)
    # Counted and numbered, but written into one of the two rows only; and expired from one of them.
    log.used += 10
    log._next += 1
    log._stamps.append(3)
    twin = log.anew()
    assert (twin.used, list(twin._stamps), list(twin._weights or [])) == (30, [0, 1, 2], [10] * 3)
    log._stamps = deque([1, 2])
    twin = log.anew()
    assert (twin.used, list(twin._stamps)) == (20, [1, 2])
    entry = twin.try_take(3, 80)
    assert twin.try_take(3, 1) is None
    twin.settle(entry, 80, 40, 4)
    assert twin.usage(1_001) == 50


def test_a_log_of_many_calls_goes_on_in_grains() -> None:
    log = SlidingLog(100, window_ns=256_000, metric=Metric.REQUESTS, name="r", fine_entries=10)
    for now in range(40):
        assert log.try_take(now, 1) is not None
    twin = log.anew()
    for now in range(40, 100):
        assert twin.try_take(now, 1) is not None
    assert twin.try_take(100, 1) is None
    assert (len(twin), len(log), log.used) == (11, 11, 40)


def test_what_is_spent_and_reserved_counts_in_the_child() -> None:
    gate = BudgetGate(Decimal(10), per="total", per_key=True)
    with gate.admit_sync(cost=Decimal(4), key="a") as permit:
        permit.settle(tokens=1, cost=Decimal(3))
    permit = entered(gate, cost=Decimal(5), key="a")

    def work() -> tuple[bool, ...]:
        permit.settle(tokens=1, cost=Decimal(0))
        return tuple(passes(gate, cost=Decimal(cost), key="a") for cost in (3, 2, 1))

    assert in_child(work) == (False, True, False)
    permit.settle(tokens=1, cost=Decimal(0))
    assert passes(gate, cost=Decimal(7), key="a")


def test_a_hold_is_kept_in_the_child() -> None:
    gate = RpmGate(10)
    gate.hold(60)
    assert in_child(lambda: (passes(gate), 50 < gate.snapshot().held_seconds <= 60)) == (
        False,
        True,
    )


@pytest.mark.parametrize("keyed", [False, True])
def test_a_limit_that_headers_lowered_stays_lower_until_they_say_otherwise(keyed: bool) -> None:
    gate = RpmGate(100)
    gates = KeyedGates(lambda key: GateSet(), parent=gate) if keyed else gate
    assert passes(gates, key="a")

    def tell(limit: int) -> None:
        gates.observe(RateLimitFacts(requests=RateLimitWindow(limit=limit, remaining=limit - 1)))

    tell(5)

    def work() -> tuple[int, int]:
        lowered = gate.limit
        assert passes(gates, key="a")
        tell(200)
        return lowered, gate.limit

    assert in_child(work) == (5, 100)
    assert gate.limit == 5


def test_a_limit_that_is_changed_in_the_child_holds_there_alone() -> None:
    gate = RpmGate(1, per_seconds=3600)
    gates = GateSet(gate, ConcurrencyGate(5))
    assert passes(gates)

    def work() -> tuple[bool, bool, bool]:
        before = passes(gates)
        gate.set_limit(2)
        return before, passes(gates), passes(gates)

    assert in_child(work) == (False, True, False)
    assert not passes(gates)


# ---------------------------------------------------------------------------- breakers
def test_an_open_breaker_is_open_in_the_child() -> None:
    breaker = CircuitBreaker(BreakerPolicy(least_calls=1, open_seconds=60))
    with breaker.admit_sync() as permit:
        permit.fail(OVERLOADED)
    assert in_child(lambda: (breaker.state, passes(breaker))) == (BreakerState.OPEN, False)


def test_the_child_sends_a_probe_of_its_own_and_judges_by_itself() -> None:
    changes: list[BreakerState] = []
    breaker = CircuitBreaker(
        BreakerPolicy(least_calls=2, open_seconds=1e-9),
        on_change=lambda change: changes.append(change.after),
    )
    for _ in range(2):
        with breaker.admit_sync() as permit:
            permit.fail(OVERLOADED)
    probe = entered(breaker)
    assert not passes(breaker)

    def work() -> tuple[bool, BreakerState, list[BreakerState]]:
        changes.clear()
        probe.fail(OVERLOADED)
        probe.release()
        return passes(breaker), breaker.state, changes

    assert in_child(work) == (True, BreakerState.CLOSED, [BreakerState.CLOSED])
    assert breaker.state is BreakerState.HALF_OPEN
    probe.release()


# ---------------------------------------------------------------------------- locks and queues
class Stuck(SystemClock):
    """A clock at which one thread stops, in the middle of whatever asks for the time."""

    def __init__(self) -> None:
        self.victim = 0
        self.stopped, self.go_on = threading.Event(), threading.Event()

    def monotonic_ns(self) -> int:
        if threading.get_ident() == self.victim:
            self.stopped.set()
            self.go_on.wait(20)
        return super().monotonic_ns()


@pytest.mark.parametrize(
    "build",
    [
        lambda clock: RpmGate(10, clock=clock),
        lambda clock: GateSet(
            RpmGate(10, clock=clock), TpmGate(1000, clock=clock), ConcurrencyGate(5, clock=clock)
        ),
        lambda clock: KeyedGates(lambda key: RpmGate(10, clock=clock), clock=clock),
        lambda clock: KeyedGates(
            lambda key: RpmGate(10, clock=clock), parent=RpmGate(10, clock=clock), clock=clock
        ),
    ],
    ids=["alone", "set", "keys", "lanes"],
)
def test_a_child_does_not_hang_on_a_lock_that_a_thread_of_the_parent_has(
    build: Callable[[Stuck], Any],
) -> None:
    clock = Stuck()
    gates = build(clock)
    assert passes(gates, key="a")
    inherited = gates.admit_sync(key="a")

    def stop_inside() -> None:
        clock.victim = threading.get_ident()
        assert passes(gates, key="a")

    def work() -> tuple[bool, bool, int]:
        with pytest.raises(ConfigurationError, match="before the process forked"):
            inherited.__enter__()
        return passes(gates, key="a"), passes(gates, key="b"), gates.snapshot().in_flight

    with in_thread(stop_inside):
        assert clock.stopped.wait(20)
        assert in_child(work) == (True, True, 0)
        clock.go_on.set()
    assert passes(gates, key="a")


def test_a_key_that_a_thread_was_making_is_made_in_the_child() -> None:
    began, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    def factory(key: str) -> GateSet:
        if key == "slow" and os.getpid() == parent:
            began.set()
            go_on.wait(20)
        return ConcurrencyGate(1)

    gates = KeyedGates(factory, parent=RpmGate(100), most_keys=1)

    def work() -> tuple[bool, bool, int]:
        return passes(gates, key="other"), passes(gates, key="slow"), len(gates)

    with in_thread(lambda: passes(gates, key="slow")):
        assert began.wait(20)
        assert in_child(work) == (True, True, 2)
        go_on.set()


@pytest.mark.parametrize("keyed", [False, True])
def test_who_waits_in_the_parent_is_neither_queued_nor_woken_in_the_child(keyed: bool) -> None:
    gate = ConcurrencyGate(1)
    gates = KeyedGates(lambda key: GateSet(), parent=gate) if keyed else gate
    permit = entered(gates, key="a")
    loop = asyncio.new_event_loop()

    async def call() -> bool:
        async with gates.admit(key="b"):
            return True

    with in_thread(loop.run_forever):
        waiting = asyncio.run_coroutine_threadsafe(call(), loop)
        while not gates.snapshot().queued:
            os.sched_yield()

        def work() -> tuple[int, int, bool, bool]:
            woken: list[object] = []
            loop.call_soon_threadsafe = lambda *call: woken.append(call)  # type: ignore[assignment, misc]
            queued = gates.snapshot().queued
            permit.release()
            free = passes(gates, key="a")
            return queued, len(woken), waiting.done(), free

        assert in_child(work) == (0, 0, False, True)
        assert not waiting.done()
        permit.release()
        assert waiting.result(20)
        loop.call_soon_threadsafe(loop.stop)
    loop.close()


def test_a_tenant_of_the_child_has_slots_and_shares_the_common_limit() -> None:
    gates = KeyedGates(lambda key: ConcurrencyGate(1), parent=RpmGate(3, per_seconds=3600))
    permits = [entered(gates, key=key) for key in ("a", "b")]

    def work() -> tuple[bool, bool, int, float | None]:
        with gates.admit_sync(key="a", timeout=5):
            permits[0].release()
            in_flight = gates.snapshot().in_flight
            own = passes(gates, key="a")
        return own, passes(gates, key="b"), in_flight, gates.snapshot().limits[0].remaining

    assert in_child(work) == (False, False, 1, 0)
    for permit in permits:
        permit.release()
    assert passes(gates, key="b")


@pytest.mark.skipif(
    "COVERAGE_PROCESS_CONFIG" in os.environ,
    reason="coverage writes its data in the child, under locks that a thread of the parent may have held",
)
def test_a_child_is_safe_whatever_the_parents_threads_are_doing() -> None:
    limits = RpmGate(1_000_000), TpmGate(1_000_000_000), ConcurrencyGate(3)
    gates = GateSet(*limits, CircuitBreaker(), BudgetGate(Decimal(10**9)))
    keyed = KeyedGates(lambda key: ConcurrencyGate(1), parent=RpmGate(1_000_000))
    stop = threading.Event()

    def flood(number: int) -> None:
        while not stop.is_set():
            with gates.admit_sync(tokens=10, cost=Decimal(1)) as permit:
                permit.settle(tokens=5, cost=Decimal(2))
            with keyed.admit_sync(key=str(number % 3)):
                pass

    def work() -> bool:
        for _ in range(3):
            with gates.admit_sync(tokens=10, timeout=5), gates.admit_sync(timeout=5):
                assert gates.snapshot().in_flight == 2
        with keyed.admit_sync(key="0", timeout=5):
            return not passes(keyed, key="0") and keyed.snapshot().in_flight == 1

    threads = [threading.Thread(target=flood, args=[number], daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert all(in_child(work) for _ in range(20))
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
