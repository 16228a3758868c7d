"""The same limits shared by any number of processes and machines, through Redis.

The waiters of a process stand in one line. One thread of the process (the `Courier`) takes their wishes, corrections
and renewals to the server, everything that has gathered while it was under way in one script call, and tells each
waiter when it may go.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Self

from llm_core import CostExceedsLimit, ErrorInfo, InvalidValue, LLMError, QueueFull, RateLimitFacts
from llm_gates.courier import Courier, RedisUnavailable, Wish, redis_client
from llm_gates.gates import GateSet
from llm_gates.permit import GatePermit
from llm_gates.shared_limits import local_share, shared_limit
from llm_gates.snapshot import GateSnapshot, LimitSnapshot
from llm_gates.weights import check_weights

__all__ = [
    "RedisAdmission",
    "RedisGateSet",
    "RedisPermit",
    "RedisSyncAdmission",
    "RedisUnavailable",
]


class RedisGateSet:
    """Limits that hold for all processes with the same `prefix` on one Redis server; satisfies the `Gate` interface.

    Takes the same gates as a `GateSet`: ``RedisGateSet(RpmGate(500), ConcurrencyGate(20), url=…, prefix="openai")``.
    All processes must give the same limits. The server's clock counts, so those of the machines need not agree.

    First come, first served within a process (by `priority`, as in a `GateSet`); processes that have somebody waiting
    take turns. A concurrency slot is a lease of `lease_seconds` that the process renews while it lives: after a crash
    the slots come back within that time.
    An admission tells when the call may go, up to `horizon_seconds` ahead.

    `on_lost` says what happens when the server does not answer: ``fail_closed`` raises RedisUnavailable, ``local``
    admits by limits of this process alone, `local_share` of the common ones, and says so in the log and in
    ``gates.lost``. Either way the server is tried again, and nobody waits longer than about a second for it.

    The first admission starts a thread; `close` (or leaving ``with``) ends it.
    """

    def __init__(
        self,
        *gates: GateSet,
        prefix: str,
        url: str = "redis://127.0.0.1:6379/0",
        client: Callable[[], Any] | None = None,
        lease_seconds: float = 30.0,
        horizon_seconds: float = 0.1,
        on_lost: Literal["fail_closed", "local"] = "fail_closed",
        local_share: float = 0.25,
        max_queue: int | None = None,
        aging_seconds: float = 30.0,
    ) -> None:
        if not prefix:
            raise InvalidValue.of(
                "prefix", prefix, "a name that the sharing processes have in common"
            )
        if on_lost not in ("fail_closed", "local"):
            raise InvalidValue.of("on_lost", on_lost, "'fail_closed' or 'local'")
        if not 0 < local_share <= 1:
            raise InvalidValue.of("local_share", local_share, "a share above 0, at most 1")
        for field, value in (
            ("lease_seconds", lease_seconds),
            ("horizon_seconds", horizon_seconds),
        ):
            if not value > 0:
                raise InvalidValue.of(field, value, "a number above 0")
        self._limits = [shared_limit(limit) for gate in gates for limit in gate._limits]
        self._courier = Courier(
            client or redis_client(url),
            self._limits,
            prefix=prefix,
            lease_seconds=lease_seconds,
            horizon_seconds=horizon_seconds,
            local=on_lost == "local",
        )
        self._local_share = local_share
        self._max_queue = max_queue
        self._aging_ns = round(aging_seconds * 1e9)
        self._stand_in: GateSet | None = None
        self._lock = threading.Lock()
        self._in_flight = 0

    @property
    def lost(self) -> bool:
        """Whether the server did not answer the last time it was asked."""
        return self._courier.lost

    @property
    def round_trips(self) -> int:
        """How many script calls this process has made."""
        return self._courier.round_trips

    def admit(
        self,
        *,
        tokens: int = 0,
        output_tokens: int | None = None,
        cost: Decimal | None = None,
        key: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> RedisAdmission:
        """Wait for the right to make one call; as `GateSet.admit`, and RedisUnavailable if the server is gone."""
        return RedisAdmission(self, tokens, output_tokens, timeout, priority)

    def admit_sync(
        self,
        *,
        tokens: int = 0,
        output_tokens: int | None = None,
        cost: Decimal | None = None,
        key: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> RedisSyncAdmission:
        """Do the same from a thread, which blocks while it waits."""
        return RedisSyncAdmission(self, tokens, output_tokens, timeout, priority)

    def observe(self, facts: RateLimitFacts, *, permit: GatePermit | None = None) -> None:
        """Honour a Retry-After; what headers say of other users of the quota is not shared."""
        if facts.retry_after is not None:
            self.hold(facts.retry_after)

    def hold(self, seconds: float) -> None:
        """Admit nobody of this process for `seconds` from now."""
        self._courier.held_until = max(self._courier.held_until, time.monotonic() + seconds)

    def snapshot(self) -> GateSnapshot:
        """Return what this process knows without asking: its own calls in flight and in the queue."""
        return GateSnapshot(
            limits=tuple(
                LimitSnapshot(
                    name=limit.name,
                    metric=limit.metric.name.lower(),
                    limit=limit.capacity,
                    used=self._courier.held if limit.kind == "slots" else 0,
                    remaining=limit.capacity,
                    window_seconds=limit.window / 1e6 or None,
                )
                for limit in self._limits
            ),
            in_flight=self._in_flight,
            queued=self._courier.waiting,
            held_seconds=max(self._courier.held_until - time.monotonic(), 0),
        )

    def close(self) -> None:
        """Carry the last corrections to the server and end the thread."""
        self._courier.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _alone(self) -> GateSet:
        """Return the limits of this process alone."""
        with self._lock:
            if self._stand_in is None:
                self._stand_in = GateSet()
                self._stand_in._build(local_share(self._limits, self._local_share), clock=None)
            return self._stand_in

    def _wish(self, permit: RedisPermit, done: Callable[[], None]) -> Wish:
        costs = tuple([limit.cost(permit.tokens, permit.output_tokens) for limit in self._limits])
        for limit, cost in zip(self._limits, costs, strict=True):
            if cost > limit.capacity:
                raise CostExceedsLimit(
                    f"{limit.metric.name.lower()}: got {cost!r}, but {limit.name} never admits more "
                    f"than {limit.capacity!r} at once",
                    details={"limit": limit.name, "cost": cost, "capacity": limit.capacity},
                )
        if self._max_queue is not None and self._courier.waiting >= self._max_queue:
            raise QueueFull(
                f"the queue is full: {self._courier.waiting} calls wait already "
                f"(max_queue={self._max_queue})",
                details={"queued": self._courier.waiting, "max_queue": self._max_queue},
            )
        if error := self._courier.refuse_at_once():
            raise error
        rank = time.monotonic_ns() - permit.priority * self._aging_ns
        timeout = permit.timeout
        if timeout is not None and timeout == math.inf:
            timeout = None
        wish = Wish(costs, rank=rank, timeout=timeout, done=done)
        if self._courier.stands_in:
            wish.local = True
        return wish

    def _count(self, change: int) -> None:
        with self._lock:
            self._in_flight += change


class RedisPermit:
    """The right to make one call under shared limits; the `Permit` of llm-core."""

    __slots__ = (
        "_began",
        "_ended",
        "_gates",
        "_local",
        "_wait_seconds",
        "_wish",
        "output_tokens",
        "priority",
        "timeout",
        "tokens",
    )

    def __init__(
        self,
        gates: RedisGateSet,
        tokens: int,
        output_tokens: int | None,
        timeout: float | None,
        priority: int,
    ) -> None:
        check_weights(tokens, output_tokens, None)
        self._gates = gates
        self.tokens = tokens
        self.output_tokens = output_tokens
        self.timeout = timeout
        self.priority = priority
        self._wish: Wish | None = None
        self._local: GatePermit | None = None
        self._ended = False
        self._began = 0.0
        self._wait_seconds = 0.0

    @property
    def wait_seconds(self) -> float:
        """Time spent in the queue, the way to the server included."""
        return self._wait_seconds

    @property
    def waited_for(self) -> str | None:
        """The name of the limit that was waited for; None if there was no wait."""
        if self._local is not None:
            return self._local.waited_for
        return None if self._wish is None else self._wish.waited_for

    def settle(
        self, *, tokens: int, output_tokens: int | None = None, cost: Decimal | None = None
    ) -> None:
        """Correct the reservation; it travels with the next call to the server, within milliseconds."""
        check_weights(tokens, output_tokens, cost)
        if self._local is not None:
            self._local.settle(tokens=tokens, output_tokens=output_tokens, cost=cost)
            return
        wish = self._wish
        if wish is None or not wish.entries:
            return
        self.tokens = tokens
        if output_tokens is not None:
            self.output_tokens = output_tokens
        elif self.output_tokens is not None and self.output_tokens > tokens:
            self.output_tokens = tokens
        limits = self._gates._limits
        after = tuple([limit.cost(tokens, self.output_tokens) for limit in limits])
        for place, limit in enumerate(limits):
            before = wish.costs[place]
            if limit.kind != "slots" and before != after[place]:
                self._gates._courier.correct(place, wish.entries[place], before, after[place])
        wish.costs = after

    def fail(self, error: ErrorInfo) -> None:
        """Say that the call failed; what the provider may have counted stays counted."""
        if not error.type.traits.consumes_quota:
            self.cancel()

    def cancel(self) -> None:
        """Give everything back: the call was never sent."""
        if self._local is not None:
            self._local.cancel()
        elif self._wish is not None and self._wish.entries:
            self._gates._courier.take_back(self._wish)
            self._wish.entries = []
            self._wish.lease = ""

    def release(self) -> None:
        """End the call: concurrency slots go back. Leaving the context manager does this by itself."""
        if self._ended:
            return
        self._ended = True
        self._gates._count(-1)
        if self._local is not None:
            self._local.release()
        elif self._wish is not None and self._wish.lease:
            self._gates._courier.release(self._wish.lease)

    def _entered(self) -> None:
        now = time.monotonic()
        self._wait_seconds = now - self._began
        if self._wish is not None and not self._wish.local:
            self._gates._courier.left(self._wish, now)
        self._gates._count(1)

    def _give_up(self, wish: Wish) -> None:
        if not self._gates._courier.give_up(wish) and wish.entries:
            self._gates._courier.take_back(wish)


class RedisAdmission(RedisPermit):
    """A permit that is entered by `async with`, once."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        self._began = time.monotonic()
        loop = asyncio.get_running_loop()
        decided: asyncio.Future[None] = loop.create_future()
        wish = self._wish = self._gates._wish(self, lambda: _resolve_soon(loop, decided))
        if not wish.local:
            self._gates._courier.send(wish)
            try:
                await decided
                if wish.error is not None:
                    raise wish.error
                if not wish.local and (delay := wish.due - time.monotonic()) > 0:
                    await asyncio.sleep(delay)
            except LLMError:
                raise
            except BaseException:
                self._give_up(wish)
                raise
        if wish.local:
            self._local = await self._gates._alone().admit(**_local_options(self)).__aenter__()
        self._entered()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class RedisSyncAdmission(RedisPermit):
    """A permit that is entered by `with`, once, from a thread."""

    __slots__ = ()

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        decided = threading.Event()
        wish = self._wish = self._gates._wish(self, decided.set)
        if not wish.local:
            self._gates._courier.send(wish)
            try:
                decided.wait()
                if wish.error is not None:
                    raise wish.error
                if not wish.local and (delay := wish.due - time.monotonic()) > 0:
                    time.sleep(delay)
            except LLMError:
                raise
            except BaseException:
                self._give_up(wish)
                raise
        if wish.local:
            self._local = self._gates._alone().admit_sync(**_local_options(self)).__enter__()
        self._entered()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _local_options(permit: RedisPermit) -> dict[str, Any]:
    timeout = permit.timeout
    if timeout is not None:
        timeout = max(timeout - (time.monotonic() - permit._began), 0.0)
    return {
        "tokens": permit.tokens,
        "output_tokens": permit.output_tokens,
        "timeout": timeout,
        "priority": permit.priority,
    }


def _resolve_soon(loop: asyncio.AbstractEventLoop, decided: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, decided)
    except RuntimeError:
        # The loop is closed: nobody is left to be told.
        return


def _resolve(decided: asyncio.Future[None]) -> None:
    if not decided.done():
        decided.set_result(None)
