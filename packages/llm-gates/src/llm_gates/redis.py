"""The same limits shared by any number of processes and machines, through Redis.

The waiters of a process stand in one line. One thread of the process (the `Courier`) takes their wishes, corrections
and renewals to the server, everything that has gathered while it was under way in one script call, and tells each
waiter when it may go.
"""

from __future__ import annotations

import atexit
import functools
import math
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, Self

from llm_core import ConfigurationError, InvalidValue, begin_anew_in_children
from llm_gates.gates import GateSet
from llm_gates.limits import Limit
from llm_gates.redis_script import redis_client
from llm_gates.shared_limits import SharedLimit
from llm_gates.shared_turnstile import SharedTurnstile
from llm_gates.sharing import RedisUnavailable, Sharing
from llm_gates.turnstile import Turnstile

__all__ = ["RedisGateSet", "RedisUnavailable"]


class RedisGateSet(GateSet):
    """Limits that hold for all processes with the same `prefix` on one Redis server.

    Takes the same gates as a `GateSet`: ``RedisGateSet(RpmGate(500), ConcurrencyGate(20), url=…, prefix="openai")``.
    All processes must give the same limits. The server's clock counts, so those of the machines need not agree.

    First come, first served within a process (by `priority`, as in a `GateSet`); processes that have somebody waiting
    take turns. A concurrency slot is a lease of `lease_seconds` that the process renews while it lives: after a crash
    the slots come back within that time.
    An admission tells when the call may go, up to `horizon_seconds` ahead.

    `set_limit` of a gate that was given, `hold` and the limits that headers tell (`observe`) concern all processes,
    at the latest when they next ask the server. A changed limit stays for as long as any process that knows it
    lives, and for a day after the last call; processes that were started with another limit keep theirs.
    What other programs use of the quota is not inferred from headers, as a `GateSet` does.

    `on_lost` says what happens when the server does not answer: ``fail_closed`` raises RedisUnavailable, ``local``
    admits by limits of this process alone, `local_share` of the common ones, and says so in the log and in
    ``gates.lost``. Either way the server is tried again, and nobody waits longer than about a second for it.

    The first admission starts a thread, which ends when there was nothing to do for a while; `close`, leaving
    ``with`` or the end of the program carries the last corrections. A forked child begins with a thread and a
    connection of its own; permits that it has inherited belong to the parent.
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
            ("aging_seconds", aging_seconds),
        ):
            if not 0 < value < math.inf:
                raise InvalidValue.of(field, value, "a finite number above 0")
        self._clock = None
        self._in_set = False
        self._members = gates
        turnstile = SharedTurnstile(
            [_origin(limit) for gate in gates for limit in gate._limits],
            Sharing(
                prefix=prefix,
                make_client=client or redis_client(url),
                lease_seconds=lease_seconds,
                horizon_seconds=horizon_seconds,
                stand_in=local_share if on_lost == "local" else None,
            ),
            max_queue=max_queue,
            aging_seconds=aging_seconds,
            learned=next((g._turnstile.learned for g in gates if g._turnstile.learned), None),
        )
        for gate in gates:
            gate._enter(turnstile)
        self._turnstile = turnstile
        self._limits = list(turnstile.limits)
        _bind(gates, turnstile)
        _living().add(self)
        begin_anew_in_children(self)

    _turnstile: SharedTurnstile

    def _enter(self, turnstile: Turnstile) -> None:
        raise ConfigurationError(
            f"gates: {self!r} cannot be put into another set or have a parent; "
            "give all limits that are shared to one RedisGateSet"
        )

    @property
    def lost(self) -> bool:
        """Whether the server did not answer the last time it was asked."""
        return self._turnstile.courier.lost

    @property
    def round_trips(self) -> int:
        """How many script calls this process has made."""
        return self._turnstile.courier.round_trips

    def close(self) -> None:
        """Carry the last corrections to the server and end the thread."""
        self._turnstile.courier.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _bind(gates: Iterable[GateSet], turnstile: SharedTurnstile) -> None:
    """Let the gates that were given speak to the common limits instead of their own."""
    twins = {id(limit.origin): limit for limit in turnstile.twins}
    for gate in gates:
        gate._turnstile = turnstile
        gate._limits = [twins[id(_origin(limit))] for limit in gate._limits]
        _bind(gate._members, turnstile)


def _origin(limit: Limit) -> Limit:
    return limit.origin if isinstance(limit, SharedLimit) else limit


@functools.cache
def _living() -> weakref.WeakSet[RedisGateSet]:
    # At first use, because importing registers nothing; the interpreter keeps such a function for good.
    sets: weakref.WeakSet[RedisGateSet] = weakref.WeakSet()

    def close() -> None:
        for gates in list(sets):
            gates.close()

    atexit.register(close)
    return sets
