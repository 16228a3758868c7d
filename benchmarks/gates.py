"""What llm-gates costs and keeps, beside aiolimiter, pyrate-limiter, limits, throttled-py and langchain-core.

    python benchmarks/gates.py             # about two minutes; writes docs/benchmarks/gates.md
    python benchmarks/gates.py --dry-run   # the same, without writing
    python benchmarks/gates.py --no-redis  # without the four processes on Redis

    pip install aiolimiter pyrate-limiter limits throttled-py langchain-core

Costs are the best of many short rounds in which all candidates take turns, so that other programs disturb all alike,
and are given as ratios to `aiolimiter`'s uncontended acquire in the same run. Peers that are not installed are left
out. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.metadata
import importlib.util
import itertools
import os
import platform
import random
import sys
import threading
import time
import tracemalloc
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from llm_core import GateTimeout
from llm_gates import GateSet, KeyedGates, RpmGate, TpmGate

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "packages" / "llm-gates" / "tests"
PAGE = ROOT / "docs" / "benchmarks" / "gates.md"
REFERENCE_MICROSECONDS = 0.80
"""What aiolimiter's uncontended acquire took on the machine for which the targets are given."""
HUGE = 10**9
CALLS = 1_000
PEERS = ("aiolimiter", "pyrate-limiter", "limits", "throttled-py", "langchain-core")

Round = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    target: str
    met: bool | None
    peers: str = ""


# ------------------------------------------------------------------------------------------ costs
def peers() -> dict[str, Callable[[], Round]]:
    """Return makers of rounds for the peers that are installed."""
    makers: dict[str, Callable[[], Round]] = {
        "aiolimiter": aiolimiter_round,
        "pyrate-limiter": pyrate_round,
        "limits": limits_round,
        "throttled-py": throttled_round,
        "langchain-core": langchain_round,
    }
    installed = {name: maker for name, maker in makers.items() if version_of(name) is not None}
    if "aiolimiter" not in installed:
        sys.exit("benchmarks/gates.py: aiolimiter is the yardstick; pip install aiolimiter")
    return installed


def version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def aiolimiter_round() -> Round:
    limiter = importlib.import_module("aiolimiter").AsyncLimiter(HUGE, 60)

    async def run(calls: int) -> None:
        for _ in range(calls):
            await limiter.acquire()

    return run


def pyrate_round() -> Round:
    module = importlib.import_module("pyrate_limiter")
    limiter = module.Limiter(module.Rate(HUGE, module.Duration.MINUTE))

    async def run(calls: int) -> None:
        for _ in range(calls):
            await limiter.try_acquire_async("x")

    return run


def limits_round() -> Round:
    module = importlib.import_module("limits")
    importlib.import_module("limits.aio")
    limiter = module.aio.strategies.MovingWindowRateLimiter(module.aio.storage.MemoryStorage())
    item = module.RateLimitItemPerMinute(HUGE)

    async def run(calls: int) -> None:
        for _ in range(calls):
            await limiter.hit(item, "x")

    return run


def throttled_round() -> Round:
    module = importlib.import_module("throttled.asyncio")
    limiter = module.Throttled(key="x", quota=module.per_min(HUGE, burst=HUGE))

    async def run(calls: int) -> None:
        for _ in range(calls):
            await limiter.limit()

    return run


def langchain_round() -> Round:
    module = importlib.import_module("langchain_core.rate_limiters")
    limiter = module.InMemoryRateLimiter(requests_per_second=HUGE, max_bucket_size=HUGE)
    limiter._consume()
    time.sleep(0.001)

    async def run(calls: int) -> None:
        for _ in range(calls):
            await limiter.aacquire()

    return run


def our_acquire() -> Round:
    gate = RpmGate(HUGE)

    async def run(calls: int) -> None:
        for _ in range(calls):
            await gate.acquire()

    return run


def our_admit() -> Round:
    gate = RpmGate(HUGE)

    async def run(calls: int) -> None:
        for _ in range(calls):
            async with gate.admit():
                pass

    return run


def our_pair() -> Round:
    gates = GateSet(RpmGate(HUGE), TpmGate(HUGE * 1_000))

    async def run(calls: int) -> None:
        for _ in range(calls):
            permit = await gates.acquire(1_200)
            permit.settle(tokens=900)

    return run


def our_pair_admit() -> Round:
    gates = GateSet(RpmGate(HUGE), TpmGate(HUGE * 1_000))

    async def run(calls: int) -> None:
        for _ in range(calls):
            async with gates.admit(tokens=1_200) as permit:
                permit.settle(tokens=900)

    return run


OURS: dict[str, Callable[[], Round]] = {
    "acquire": our_acquire,
    "admit": our_admit,
    "acquire+settle": our_pair,
    "admit+settle": our_pair_admit,
}


async def costs(rounds: int = 120) -> dict[str, float]:
    """Return microseconds a call, the best of rounds in turn; every 8 rounds all begin with an empty window."""
    makers = {**OURS, **peers()}
    best = dict.fromkeys(makers, float("inf"))
    running: dict[str, Round] = {}
    for number in range(rounds):
        if number % 8 == 0:
            running = {name: maker() for name, maker in makers.items()}
        for name, run in running.items():
            # The slow ones need no more rounds to be known to be slow.
            calls = CALLS if best[name] < 20 or number == 0 else CALLS // 20
            started = time.perf_counter_ns()
            await run(calls)
            best[name] = min(best[name], (time.perf_counter_ns() - started) / calls / 1e3)
    return best


def contention(threads: int = 8, calls: int = 1_000, rounds: int = 30) -> tuple[float, float]:
    """Return microseconds an acquire of threads that contend for one limit: ours, and pyrate-limiter's."""
    module = importlib.import_module("pyrate_limiter") if version_of("pyrate-limiter") else None

    def ours() -> Callable[[], object]:
        return RpmGate(HUGE).acquire_sync

    def pyrate() -> Callable[[], object]:
        assert module is not None
        limiter = module.Limiter(module.Rate(HUGE, module.Duration.MINUTE))
        return lambda: limiter.try_acquire("x")

    def once(make: Callable[[], Callable[[], object]], count: int) -> float:
        acquire = make()
        gate = threading.Barrier(threads + 1)

        def work() -> None:
            gate.wait()
            for _ in range(count):
                acquire()

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        gate.wait()
        started = time.perf_counter_ns()
        for worker in workers:
            worker.join()
        return (time.perf_counter_ns() - started) / (threads * count) / 1e3

    our_best = min(once(ours, calls) for _ in range(rounds))
    theirs = min(once(pyrate, 300) for _ in range(3)) if module else float("nan")
    return our_best, theirs


# ---------------------------------------------------------------------------------------- waiters
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


# ------------------------------------------------------------------------------------- the promise
async def flood(
    acquire: Callable[[], Awaitable[object]], limit: int, seconds: float
) -> tuple[int, float]:
    """Return violations of a strict sliding window of 1 s (5 ms of mercy) after a rest, and the use."""
    stamps: list[float] = []
    end = time.monotonic() + seconds

    async def call() -> None:
        while time.monotonic() < end:
            await acquire()
            stamps.append(time.monotonic())

    workers = [asyncio.create_task(call()) for _ in range(2 * limit)]
    await asyncio.sleep(seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    violations = sum(
        later - first < 1 - 0.005 for first, later in zip(stamps, stamps[limit:], strict=False)
    )
    # As many windows as begin within the time may be full.
    return violations, len(stamps) / (limit * (int(seconds) + 1))


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


# ------------------------------------------------------------------------------------------ table
async def measure(*, redis_url: str | None) -> tuple[list[Row], float]:
    """Run everything; return the table and aiolimiter's acquire in microseconds."""
    # First, because some peers start threads that stay.
    each, parked, drain = await waiters(10_000)
    best = await costs()
    yardstick = best["aiolimiter"]
    rows: list[Row] = []

    def others(digits: int = 2) -> str:
        found = [f"{name} {best[name] / yardstick:.{digits}f}" for name in PEERS if name in best]
        return ", ".join(found)

    def ratio(what: str, value: float, microseconds: float, peers: str = "") -> None:
        """Add a row whose target is given in microseconds on the machine of the reference."""
        target = microseconds / REFERENCE_MICROSECONDS
        met = value / yardstick <= target
        ours = f"{value / yardstick:.2f} ({value:.2f} µs)"
        rows.append(Row(what=what, ours=ours, target=f"≤ {target:.2f}", met=met, peers=peers))

    ratio("uncontended acquire, one limit", best["acquire"], 0.5, others())
    rows.append(
        Row(
            what="the same as `async with gate.admit()`",
            ours=f"{best['admit'] / yardstick:.2f} ({best['admit']:.2f} µs)",
            target="",
            met=None,
        )
    )
    ratio("acquire + settle, RPM and TPM together", best["acquire+settle"], 2.5)
    rows.append(
        Row(
            what="the same as `async with gates.admit(tokens=…)`",
            ours=f"{best['admit+settle'] / yardstick:.2f} ({best['admit+settle']:.2f} µs)",
            target="",
            met=None,
        )
    )
    ours, pyrate = contention()
    ratio("8 threads contending, one limit", ours, 1.0, f"pyrate-limiter {pyrate / yardstick:.1f}")

    rows += [
        Row(
            what="10,000 waiters: memory each",
            ours=f"{each:.0f} B",
            target="≤ 1400 B",
            met=each <= 1_400,
        ),
        Row(
            what="… CPU while parked", ours=f"{parked:.4%}", target="< 0.05 %", met=parked < 0.0005
        ),
        Row(
            what="… CPU to let all go",
            ours=f"{drain:.3f} s",
            target=f"≤ {0.15 * yardstick / REFERENCE_MICROSECONDS:.3f} s (0.15 s x yardstick)",
            met=drain <= 0.15 * max(yardstick / REFERENCE_MICROSECONDS, 1),
        ),
    ]
    for limit in (50, 500):
        violations, use = await flood(RpmGate(limit, per_seconds=1).acquire, limit, 3.5)
        their_limiter = importlib.import_module("aiolimiter").AsyncLimiter(limit, 1)
        theirs = await flood(their_limiter.acquire, limit, 3.5)
        rows.append(
            Row(
                what=f"flood and cold start, {limit} a second: violations, use",
                ours=f"{violations}, {use:.1%}",
                target="0, ≥ 99.5 %",
                met=violations == 0 and use >= 0.995,
                peers=f"aiolimiter {theirs[0]} violations",
            )
        )
    inversions, leaked, heavy = await order_and_cancellation()
    over = await tenants()
    rows += [
        Row(
            what="order inversions among 2,000",
            ours=f"{inversions}",
            target="0",
            met=inversions == 0,
        ),
        Row(what="leaked by 30 % cancelled", ours=f"{leaked}", target="0", met=leaked == 0),
        Row(
            what="heavy call among light ones",
            ours=f"{heavy:.3f} windows",
            target="≤ 1.05",
            met=heavy <= 1.05,
        ),
        Row(what="3,000 tenants: over their limit", ours=f"{over}", target="0", met=over == 0),
    ]
    rows += await simulated()
    if redis_url is not None:
        violations, use, trips, spread = redis_run(redis_url)
        rows += [
            Row(
                what="4 processes through Redis, 500 a second: violations, use",
                ours=f"{violations}, {use:.1%}",
                target="0, ≥ 99.5 %",
                met=violations == 0 and use >= 0.995,
            ),
            Row(
                what="… round trips an admission",
                ours=f"{trips:.3f}",
                target="≤ 0.15",
                met=trips <= 0.15,
            ),
            Row(
                what="… shares, most / least",
                ours=f"{spread:.2f}",
                target="≤ 1.5",
                met=spread <= 1.5,
            ),
        ]
    return rows, yardstick


async def simulated() -> list[Row]:
    """Return the rows that are simulated in virtual time, with the code of the tests."""
    feedback = load_test("test_gates_feedback")
    late = load_test("test_gates_sets")
    rows: list[Row] = []
    for kind in ("sliding", "bucket"):
        refused, use = await feedback.simulate(kind, kind, 150.0, 10)
        rows.append(
            Row(
                what=f"quota shared with an unseen consumer ({kind}): refused, total use",
                ours=f"{refused:.2%}, {use:.1%}",
                target="≤ 0.5 %, ≥ 98 %",
                met=refused <= 0.005 and use >= 0.98,
            )
        )
    for k, least, most in ((1.0, 0.95, 0.0), (0.6, 0.98, 0.001)):
        refused, use = await late.late_weights(k)
        rows.append(
            Row(
                what=f"TPM, weight known late, learned, k = {k}: refused, use",
                ours=f"{refused:.2%}, {use:.1%}",
                target=f"≤ {most:.1%}, ≥ {least:.0%}",
                met=refused <= most and use >= least,
            )
        )
    return rows


def page(rows: list[Row], yardstick: float) -> str:
    """Return the table as Markdown, with how it came to be."""
    versions = ", ".join(f"{name} {version_of(name)}" for name in PEERS if version_of(name))
    lines = [
        "# llm-gates: cost and promise",
        "",
        "Written by `benchmarks/gates.py`; numbers without a unit are ratios to aiolimiter's uncontended acquire "
        f"in the same run ({yardstick:.2f} µs).",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} when written. Versions: {versions}.",
        "",
        "| quantity | ours | target | met | others |",
        "|---|---|---|---|---|",
    ]
    marks = {True: "yes", False: "**no**", None: ""}
    lines += [f"| {r.what} | {r.ours} | {r.target} | {marks[r.met]} | {r.peers} |" for r in rows]
    lines += [
        "",
        "Costs: the best of 120 rounds of 1,000 calls in which all candidates take turns; others' programs ran on the "
        "machine at the same time. Memory by `tracemalloc`, the waiting tasks included. Violations: more calls than "
        "the limit in any window of 1 s, with 5 ms of mercy for scheduling. A use of 100 % is all calls that the "
        "physics allow, cold start included. The shared quota and the late weights run in virtual time with the "
        "simulations of the tests.",
        "",
    ]
    return "\n".join(lines)


def redis_answers(url: str) -> bool:
    """Return whether a Redis server answers at `url`."""
    try:
        client = importlib.import_module("redis").Redis.from_url(url, socket_connect_timeout=1)
        return bool(client.ping())
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not there
        return False


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measure llm-gates beside its peers.")
    parser.add_argument(
        "--dry-run", action="store_true", help="do not write docs/benchmarks/gates.md"
    )
    parser.add_argument("--no-redis", action="store_true", help="leave out the processes on Redis")
    options = parser.parse_args()
    url = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
    use_redis = not options.no_redis and redis_answers(url)
    rows, yardstick = asyncio.run(measure(redis_url=url if use_redis else None))
    text = page(rows, yardstick)
    print(text)
    if not options.dry_run:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
