"""Limits that are counted in Redis, as one process sees them, and their local stand-ins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from llm_core import ConfigurationError, ErrorInfo
from llm_gates.bucket import TokenBucket
from llm_gates.calendar import CalendarWindow, next_start
from llm_gates.fixed_window import FixedWindow
from llm_gates.limits import ConcurrencyLimit, Limit, Metric
from llm_gates.outbox import Outbox
from llm_gates.sliding_log import FINE_ENTRIES, GRAINS, SlidingLog

__all__ = ["SharedLimit", "local_share", "shared_limit"]


class SharedLimit(Limit):
    """One limit that is counted in Redis: it passes corrections on, and knows what the last answer told.

    An entry is the number that the script gave, or a lease.
    """

    __slots__ = ("_outbox", "_seen_at", "_wanted", "kind", "life_us", "origin", "place", "revision", "told")  # fmt: skip

    def __init__(self, origin: Limit, *, kind: str, place: int, outbox: Outbox) -> None:
        super().__init__(
            origin.capacity,
            metric=origin.metric,
            name=origin.name,
            window_ns=origin.window_ns,
            guard_ns=origin.guard_ns,
        )
        self.origin = origin
        """The limit as the user built it."""
        self.kind = kind
        """``log``, ``bucket``, ``fixed`` or ``slots``, as in the script."""
        self.place = place
        """Its number in the script, from 1 on."""
        self.life_us = ((origin.window_ns or 0) + origin.guard_ns) // 1_000
        self.revision = 0
        """When the limit was last changed at run time, by the server's clock; 0 if never."""
        self.told = 0
        """What the provider's headers say the limit is; 0 if they said nothing."""
        self._wanted = origin.capacity
        self._outbox = outbox
        self._seen_at = 0.0

    def words(self) -> list[Any]:
        """Return what the script gets of it."""
        # A call may be heavy, so that only a limit on requests says beforehand how many entries there can be.
        many = self.metric == Metric.REQUESTS and self.origin.capacity > FINE_ENTRIES
        fine = 0 if many else FINE_ENTRIES
        window_us = (self.window_ns or 0) // 1_000
        turns = self._turns()
        return [
            *(self.kind, self.origin.capacity, self._wanted, self.revision),
            *(window_us, self.life_us, self.life_us // GRAINS, fine, len(turns), *turns),
        ]

    def _turns(self) -> list[int]:
        return []

    def adopt(self, other: SharedLimit) -> None:
        """Take what `other`, of the same kind, knows of changes at run time."""
        self._wanted, self.revision, self.told = other._wanted, other.revision, other.told
        self._set_capacity()

    def learn(self, wanted: int, revision: int, told: int, used: int) -> None:
        """Take what the server says of it."""
        if revision > self.revision:
            self.revision, self._wanted = revision, wanted
        self.told = told
        self.used = used
        self._seen_at = time.monotonic()
        self._set_capacity()

    def _set_capacity(self) -> None:
        # Never above what the user has set, and back to it when the provider allows it again.
        self.capacity = min(self.told, self._wanted) if self.told else self._wanted

    def set_capacity(self, capacity: Any) -> None:
        """Change the limit for all processes; here at once, elsewhere with their next call to the server."""
        self._wanted = capacity
        self._set_capacity()
        self._outbox.change("limit", self.place, capacity)

    def tell(self, capacity: int) -> None:
        """Pass on what the provider's headers say the limit is."""
        if capacity != self.told:
            self.told = capacity
            self._set_capacity()
            self._outbox.change("told", self.place, capacity)

    def settle(self, entry: Any, before: Any, after: Any, now: int) -> None:
        """Correct the weight of a call with the next call to the server."""
        self._outbox.change("settle", self.place, entry, before, after)

    def usage(self, now: int) -> Any:
        """Return what the server counted when it was last asked; 0 if all of that has expired."""
        expired = time.monotonic() - self._seen_at > self.life_us / 1e6
        return 0 if expired else self.used


class SharedCalendar(SharedLimit):
    """A window that turns by the calendar, which the process works out for the script."""

    __slots__ = ("_known_turns",)

    def __init__(self, origin: CalendarWindow, *, kind: str, place: int, outbox: Outbox) -> None:
        super().__init__(origin, kind=kind, place=place, outbox=outbox)
        self._known_turns: list[int] = []

    def _turns(self) -> list[int]:
        """Return the turns around the present, the server's clock being a little ahead or behind."""
        known = self._known_turns
        now = datetime.now(UTC)
        if not known or not known[1] <= now.timestamp() * 1e6 < known[2]:
            assert isinstance(self.origin, CalendarWindow)
            known = self._known_turns = turns_around(now, self.origin)
        return known


class SharedSlots(SharedLimit):
    """Concurrency slots; an entry is the lease."""

    __slots__ = ()

    holds = True

    def settle(self, entry: Any, before: Any, after: Any, now: int) -> None:
        """Do nothing: a slot is a slot until the call ends."""

    def finish(self, entry: Any, cost: Any, now: int, error: ErrorInfo | None) -> None:
        """Give the lease back with the next call to the server."""
        self._outbox.release(entry)

    def usage(self, now: int) -> Any:
        """Return how many the server counted, or this process holds now."""
        return max(self.used, len(self._outbox.leases))


def turns_around(now: datetime, limit: CalendarWindow) -> list[int]:
    """Return four turns, in microseconds since 1970, of which the middle two enclose `now`."""
    longest = {"minute": 1 / 24 / 60, "hour": 1 / 24, "day": 1.1, "month": 31}[limit.period.value]
    turn = now - 2 * timedelta(days=longest)
    turns: list[datetime] = []
    while len(turns) < 3 or turns[-2] <= now:
        turn = next_start(limit.period, turn.astimezone(limit.zone))
        turns.append(turn)
    return [round(turn.timestamp() * 1e6) for turn in turns[-4:]]


def shared_limit(limit: Limit, *, place: int, outbox: Outbox) -> SharedLimit:
    """Make the twin of `limit`, which is number `place` in the script; ConfigurationError if it can have none."""
    if type(limit) is ConcurrencyLimit:
        return SharedSlots(limit, kind="slots", place=place, outbox=outbox)
    if limit.metric < Metric.COST and isinstance(limit, CalendarWindow):
        return SharedCalendar(limit, kind="fixed", place=place, outbox=outbox)
    kinds = {SlidingLog: "log", TokenBucket: "bucket", FixedWindow: "fixed"}
    if limit.metric < Metric.COST and type(limit) in kinds:
        return SharedLimit(limit, kind=kinds[type(limit)], place=place, outbox=outbox)
    raise ConfigurationError(
        f"gates: {limit.name!r} cannot be shared through Redis; request, token and concurrency limits "
        "can. Pass a GateSet of breakers, budgets and adaptive limits first, then the shared one"
    )


def local_share(limits: Sequence[SharedLimit], share: float) -> list[Limit]:
    """Return limits for this process alone, each `share` of the common one and at least 1."""
    return [_alone(limit, share_of(limit.capacity, share)) for limit in limits]


def share_of(capacity: int, share: float) -> int:
    """Return `share` of a limit, and at least 1."""
    return max(int(capacity * share), 1)


def _alone(limit: SharedLimit, capacity: int) -> Limit:
    origin = limit.origin
    if limit.kind == "slots":
        return ConcurrencyLimit(capacity, metric=limit.metric, name=limit.name)
    if isinstance(origin, CalendarWindow):
        return CalendarWindow(
            capacity,
            period=origin.period,
            zone=origin.zone,
            metric=limit.metric,
            name=limit.name,
            guard_ns=limit.guard_ns,
        )
    assert limit.window_ns is not None
    # A sliding log keeps the promise of all the others.
    return SlidingLog(
        capacity,
        window_ns=limit.window_ns,
        guard_ns=limit.guard_ns,
        metric=limit.metric,
        name=limit.name,
    )
