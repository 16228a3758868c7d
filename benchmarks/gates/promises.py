"""What a gate promises, measured: waiters that cost little, order, nothing leaked, shared and late quotas, Redis."""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import itertools
import random
import sys
import time
import tracemalloc
import uuid
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

from benchmarks.harness import Finding
from benchmarks.harness.environments import ROOT

from llm_core import GateTimeout
from llm_gates import KeyedGates, RpmGate, TpmGate

TESTS = ROOT / "packages" / "llm-gates" / "tests"


async def promises(redis_url: str | None) -> list[Finding]:
    """Return what was measured of every promise; without a URL, nothing through Redis."""
    inversions, leaked, heavy = await order_and_cancellation()
    over = await tenants()
    found = [
        Finding(
            what="order inversions among 2,000",
            found=f"{inversions}",
            target="0",
            met=inversions == 0,
        ),
        Finding(what="leaked by 30 % cancelled", found=f"{leaked}", target="0", met=leaked == 0),
        Finding(
            what="heavy call among light ones",
            found=f"{heavy:.3f} windows",
            target="≤ 1.05",
            met=heavy <= 1.05,
        ),
        Finding(what="3,000 tenants: over their limit", found=f"{over}", target="0", met=over == 0),
        *await simulated(),
    ]
    return found if redis_url is None else [*found, *through_redis(redis_url)]


def through_redis(url: str) -> list[Finding]:
    """Return the promises of a limit that four processes share."""
    violations, use, trips, spread = redis_run(url)
    return [
        Finding(
            what="4 processes through Redis, 500 a second: violations, use",
            found=f"{violations}, {use:.1%}",
            target="0, ≥ 99.5 %",
            met=violations == 0 and use >= 0.995,
        ),
        Finding(
            what="… round trips an admission",
            found=f"{trips:.3f}",
            target="≤ 0.15",
            met=trips <= 0.15,
        ),
        Finding(
            what="… shares, most / least",
            found=f"{spread:.2f}",
            target="≤ 1.5",
            met=spread <= 1.5,
        ),
    ]


def cost_of_waiting(each: float, parked: float, drain: float, machine: float) -> list[Finding]:
    """Return the promises about 10,000 waiters on a machine that takes `machine` times the reference's time."""
    most = 0.15 * max(machine, 1)
    return [
        Finding(
            what="10,000 waiters: memory each",
            found=f"{each:.0f} B",
            target="≤ 1400 B",
            met=each <= 1_400,
        ),
        Finding(
            what="… CPU while parked", found=f"{parked:.4%}", target="< 0.05 %", met=parked < 0.0005
        ),
        Finding(
            what="… CPU to let all go",
            found=f"{drain:.3f} s",
            target=f"≤ {most:.3f} s",
            met=drain <= most,
        ),
    ]


async def waiters(count: int) -> tuple[float, float, float]:
    """Return bytes a waiter, CPU share while parked, and CPU seconds to let all of them go."""
    wait, open_gate = our_waiters()

    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.create_task(wait()) for _ in range(count)]
    await asyncio.sleep(0.5)
    gc.collect()
    each = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    cpu = time.process_time()
    await asyncio.sleep(2)
    parked = (time.process_time() - cpu) / 2
    cpu = time.process_time()
    open_gate()
    await asyncio.gather(*tasks)
    return each, parked, time.process_time() - cpu


def our_waiters() -> tuple[Callable[[], Coroutine[Any, Any, None]], Callable[[], None]]:
    gate = RpmGate(1, per_seconds=3_600)
    gate.acquire_sync()

    async def wait() -> None:
        await gate.acquire()

    return wait, lambda: gate.set_limit(100_000)


async def order_and_cancellation() -> tuple[int, int, float]:
    """Return inversions and leaks among 2,000 waiters of which 30 % give up, and the wait of a heavy call in windows."""
    gate = RpmGate(700, per_seconds=0.3)
    source = random.Random(4)
    arrived: list[int] = []

    async def call(number: int) -> None:
        async with gate.admit():
            arrived.append(number)

    tasks = [asyncio.create_task(call(number)) for number in range(2_000)]
    for task in tasks:
        if source.random() < 0.3:
            asyncio.get_running_loop().call_later(source.uniform(0, 0.5), task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    inversions = sum(later < first for first, later in itertools.pairwise(arrived))
    snapshot = gate.snapshot()
    await asyncio.sleep(0.31)
    leaked = snapshot.queued + snapshot.in_flight + int(gate.snapshot().limits[0].used)

    heavy_gate = TpmGate(100, per_seconds=1)
    light: list[asyncio.Task[object]] = []

    async def stream() -> None:
        while True:
            light.append(asyncio.create_task(heavy_gate.acquire(1)))
            await asyncio.sleep(0.015)

    streaming = asyncio.create_task(stream())
    await asyncio.sleep(1.2)
    heavy = await heavy_gate.acquire(100)
    streaming.cancel()
    await asyncio.gather(*light)
    return inversions, leaked, heavy.wait_seconds


async def tenants(count: int = 3_000) -> int:
    """Return how many of `count` tenants got more than their two calls a minute."""
    gates = KeyedGates(lambda key: RpmGate(2), most_keys=500)
    passed: dict[str, int] = {}
    for _ in range(4):
        for tenant in range(count):
            try:
                async with gates.admit(key=str(tenant), timeout=0):
                    passed[str(tenant)] = passed.get(str(tenant), 0) + 1
            except GateTimeout:
                continue
    return sum(calls > 2 for calls in passed.values())


async def simulated() -> list[Finding]:
    """Return the rows that are simulated in virtual time, with the code of the tests."""
    feedback = load_test("test_gates_feedback")
    late = load_test("test_gates_sets")
    rows: list[Finding] = []
    for kind in ("sliding", "bucket"):
        refused, use = await feedback.simulate(kind, kind, 150.0, 10)
        rows.append(
            Finding(
                what=f"quota shared with an unseen consumer ({kind}): refused, total use",
                found=f"{refused:.2%}, {use:.1%}",
                target="≤ 0.5 %, ≥ 98 %",
                met=refused <= 0.005 and use >= 0.98,
            )
        )
    for k, least, most in ((1.0, 0.95, 0.0), (0.6, 0.98, 0.001)):
        refused, use = await late.late_weights(k)
        rows.append(
            Finding(
                what=f"TPM, weight known late, learned, k = {k}: refused, use",
                found=f"{refused:.2%}, {use:.1%}",
                target=f"≤ {most:.1%}, ≥ {least:.0%}",
                met=refused <= most and use >= least,
            )
        )
    return rows


def load_test(name: str) -> ModuleType:
    """Import a module of the tests, whose simulations in virtual time are used here as well."""
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def redis_run(url: str) -> tuple[int, float, float, float]:
    """Return violations, use, round trips an admission and the ratio of the shares of four processes."""
    prefix = f"llm-gates-bench-{uuid.uuid4().hex[:8]}"
    results = load_test("test_gates_redis").run_workers(url, prefix, 6)
    stamps = sorted(stamp for result in results for stamp in result["stamps"])
    violations = sum(
        later - first < 1 - 0.005 for first, later in zip(stamps, stamps[500:], strict=False)
    )
    # The workers keep a guard of 6 ms, so that six windows begin in six seconds.
    use = len(stamps) / (500 * 6)
    trips = sum(result["round_trips"] for result in results) / len(stamps)
    shares = [sum(s > stamps[0] + 0.9 for s in result["stamps"]) for result in results]
    return violations, use, trips, max(shares) / min(shares)


def redis_answers(url: str) -> bool:
    """Return whether a Redis server answers at `url`."""
    try:
        client = importlib.import_module("redis").Redis.from_url(url, socket_connect_timeout=1)
        return bool(client.ping())
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not there
        return False
