"""Rate limiters under one interface, ours among them: `python -m benchmarks.peers.limiters NAME`.

Each imports its own library when it is asked for, as only that one is installed in its environment.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.peers.worker import Batch, repeated, serve

HUGE = 10**9
Acquire = Callable[[], Awaitable[Any]]


def llm_gates(limit: int, seconds: float) -> Acquire:
    from llm_gates import RpmGate

    return RpmGate(limit, per_seconds=seconds).acquire


def aiolimiter(limit: int, seconds: float) -> Acquire:
    from aiolimiter import AsyncLimiter

    acquire: Acquire = AsyncLimiter(limit, seconds).acquire
    return acquire


def pyrate_limiter(limit: int, seconds: float) -> Acquire:
    from pyrate_limiter import Limiter, Rate

    limiter = Limiter(Rate(limit, int(seconds * 1_000)))
    return lambda: limiter.try_acquire_async("x")


def throttled_py(limit: int, seconds: float) -> Acquire:
    from datetime import timedelta

    from throttled.asyncio import Throttled, rate_limiter

    quota = rate_limiter.per_duration(timedelta(seconds=seconds), limit, burst=limit)
    acquire: Acquire = Throttled(key="x", quota=quota, timeout=HUGE).limit
    return acquire


def langchain_core(limit: int, seconds: float) -> Acquire:
    from langchain_core.rate_limiters import InMemoryRateLimiter

    return InMemoryRateLimiter(
        requests_per_second=limit / seconds, max_bucket_size=limit, check_every_n_seconds=0.01
    ).aacquire


def limits(limit: int, seconds: float) -> Acquire:
    """Its acquire answers no instead of waiting."""
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(MemoryStorage())
    item = RateLimitItemPerSecond(limit, int(seconds))
    return lambda: limiter.hit(item, "x")


def token_throttle(limit: int, seconds: float) -> Acquire:
    from token_throttle import (
        MemoryBackendBuilder,
        PerModelConfig,
        Quota,
        RateLimiter,
        UsageQuotas,
    )

    quota = Quota(metric="requests", limit=limit, per_seconds=int(seconds))
    limiter = RateLimiter(
        PerModelConfig(quotas=UsageQuotas([quota])), backend=MemoryBackendBuilder()
    )
    used = {"requests": 1}

    async def acquire() -> None:
        # It counts what is in flight, so that a reservation must be closed.
        reservation = await limiter.acquire_capacity(model="x", usage=used)
        await limiter.refund_capacity(actual_usage=used, reservation=reservation)

    return acquire


LIMITERS: dict[str, Callable[[int, float], Acquire]] = {
    "llm-gates": llm_gates,
    "aiolimiter": aiolimiter,
    "pyrate-limiter": pyrate_limiter,
    "throttled-py": throttled_py,
    "langchain-core": langchain_core,
    "limits": limits,
    "token-throttle": token_throttle,
}


def our_admit() -> Batch:
    from llm_gates import RpmGate

    gate = RpmGate(HUGE)

    async def call() -> None:
        async with gate.admit():
            pass

    return repeated(call)


def our_pair() -> Batch:
    from llm_gates import GateSet, RpmGate, TpmGate

    gates = GateSet(RpmGate(HUGE), TpmGate(HUGE * 1_000))

    async def run(times: int) -> int:
        for _ in range(times):
            permit = await gates.acquire(1_200)
            permit.settle(tokens=900)
        return times

    return run


def our_pair_admit() -> Batch:
    from llm_gates import GateSet, RpmGate, TpmGate

    gates = GateSet(RpmGate(HUGE), TpmGate(HUGE * 1_000))

    async def run(times: int) -> int:
        for _ in range(times):
            async with gates.admit(tokens=1_200) as permit:
                permit.settle(tokens=900)
        return times

    return run


def token_throttle_pair() -> Batch:
    from token_throttle import (
        MemoryBackendBuilder,
        PerModelConfig,
        Quota,
        RateLimiter,
        UsageQuotas,
    )

    quotas = UsageQuotas(
        [
            Quota(metric="requests", limit=HUGE, per_seconds=60),
            Quota(metric="tokens", limit=HUGE * 1_000, per_seconds=60),
        ]
    )
    limiter = RateLimiter(PerModelConfig(quotas=quotas), backend=MemoryBackendBuilder())
    asked, used = {"requests": 1, "tokens": 1_200}, {"requests": 1, "tokens": 900}

    async def run(times: int) -> int:
        for _ in range(times):
            reservation = await limiter.acquire_capacity(model="x", usage=asked)
            await limiter.refund_capacity(actual_usage=used, reservation=reservation)
        return times

    return run


def contended(name: str) -> Batch:
    """Return a batch of acquires by eight threads at once; a unit is one acquire."""
    threads = 8
    if name == "llm-gates":
        from llm_gates import RpmGate

        acquire: Callable[[], object] = RpmGate(HUGE).acquire_sync
    else:
        from pyrate_limiter import Duration, Limiter, Rate

        limiter = Limiter(Rate(HUGE, Duration.MINUTE))
        acquire = lambda: limiter.try_acquire("x")  # noqa: E731

    async def run(times: int) -> int:
        barrier = threading.Barrier(threads)

        def work() -> None:
            barrier.wait()
            for _ in range(times):
                acquire()

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return threads * times

    return run


def flood(given: dict[str, Any]) -> list[float]:
    """Return when calls went, by a monotonic clock, with twice as many callers as the limit always waiting."""
    limit, seconds = given["limit"], given["seconds"]
    acquire = LIMITERS[given["name"]](limit, 1)
    stamps: list[float] = []

    async def call() -> None:
        while True:
            await acquire()
            stamps.append(time.monotonic())

    async def run() -> None:
        workers = [asyncio.create_task(call()) for _ in range(2 * limit)]
        await asyncio.sleep(seconds)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    gc.collect()
    asyncio.run(run())
    return stamps


def main(name: str) -> None:
    works: dict[str, Callable[[], Batch]] = {"acquire": lambda: repeated(LIMITERS[name](HUGE, 60))}
    if name == "llm-gates":
        works |= {
            "admit": our_admit,
            "acquire and settle": our_pair,
            "admit and settle": our_pair_admit,
        }
    if name == "token-throttle":
        works["acquire and settle"] = token_throttle_pair
    if name in {"llm-gates", "pyrate-limiter"}:
        works["contended"] = lambda: contended(name)
    serve(works, {"flood": lambda given: flood({**given, "name": name})})


if __name__ == "__main__":
    main(sys.argv[1])
