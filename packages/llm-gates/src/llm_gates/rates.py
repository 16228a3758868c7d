"""Gates for one kind of limit each: requests, tokens, concurrency."""

from __future__ import annotations

import math
from datetime import tzinfo
from typing import ClassVar, Literal

from llm_core import Clock, InvalidValue
from llm_gates.bucket import TokenBucket
from llm_gates.calendar import CalendarWindow, Period
from llm_gates.fixed_window import FixedWindow
from llm_gates.gates import GateSet
from llm_gates.limits import ConcurrencyLimit, Limit, Metric
from llm_gates.sliding_log import SlidingLog
from llm_gates.weights import check_limit, check_seconds

__all__ = [
    "Algorithm",
    "ConcurrencyGate",
    "ItpmGate",
    "OtpmGate",
    "RateGate",
    "RpdGate",
    "RpmGate",
    "TpdGate",
    "TpmGate",
    "default_guard_seconds",
]

Algorithm = Literal["sliding", "bucket", "fixed"]
"""``sliding``: never more than the limit in any window, safe whatever the provider enforces.
``bucket``: the provider runs a token bucket; gains the burst after an idle time.
``fixed``: the provider counts from turn to turn, and the turns are known.
"""

_DAY = 86_400.0


def default_guard_seconds(per_seconds: float) -> float:
    """Return how much longer than the window a call is counted: a two-hundredth of it, at most 0.1 s.

    It covers how much longer one call may take to reach the provider than another. With 5 ms of such jitter and a
    window of 1 s no call was refused at 99.5 % of the limit; without a guard 15 to 25 of 6,000 were.
    """
    return min(per_seconds / 200, 0.1)


class RateGate(GateSet):
    """At most `limit` of a metric (requests) in any `per_seconds` (a minute).

    `algorithm` says how; the default is safe under every way in which providers enforce their limits.
    `guard_seconds` makes the window longer against jitter of the network (see `default_guard_seconds`).
    `quantum_seconds` divides the limit as providers do that enforce 60 a minute as one a second: no more than its
    share in any span of that length, besides the limit itself. A single call heavier than the share can not pass.
    `zone` makes a ``fixed`` window turn by the calendar there: at midnight for a day, at the full minute for a
    minute. Without it the window turns at multiples of its length, until the provider's headers say when.
    """

    default_metric: ClassVar[Metric] = Metric.REQUESTS
    default_seconds: ClassVar[float] = 60.0
    default_name: ClassVar[str] = ""

    def __init__(
        self,
        limit: int,
        *,
        metric: Metric | None = None,
        per_seconds: float | None = None,
        algorithm: Algorithm = "sliding",
        guard_seconds: float | None = None,
        quantum_seconds: float | None = None,
        zone: tzinfo | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        max_queue: int | None = None,
    ) -> None:
        metric = self.default_metric if metric is None else metric
        per_seconds = self.default_seconds if per_seconds is None else per_seconds
        _check_rate(limit, per_seconds, guard_seconds, quantum_seconds)
        name = name or self.default_name or f"{metric.name.lower()} per {per_seconds:g} s"
        limits = [
            _rate_limit(
                limit,
                metric=metric,
                per_seconds=per_seconds,
                algorithm=algorithm,
                guard_seconds=guard_seconds,
                zone=zone,
                name=name,
            )
        ]
        if quantum_seconds is not None:
            limits.append(
                _rate_limit(
                    max(int(limit * quantum_seconds / per_seconds), 1),
                    metric=metric,
                    per_seconds=quantum_seconds,
                    algorithm="sliding",
                    guard_seconds=guard_seconds,
                    zone=None,
                    name=f"{name}, in {quantum_seconds:g} s",
                )
            )
        self._quantum = None if quantum_seconds is None else quantum_seconds / per_seconds
        self._build(limits, clock=clock, max_queue=max_queue)

    @property
    def limit(self) -> int:
        """The limit in force."""
        return int(self._limits[0].capacity)

    def set_limit(self, limit: int) -> None:
        """Change the limit now, for waiters as well; who has become heavier than it fails."""
        check_limit(limit)
        self._turnstile.set_capacity(self._limits[0], limit)
        if self._quantum is not None:
            self._turnstile.set_capacity(self._limits[1], max(int(limit * self._quantum), 1))


def _check_rate(
    limit: int, per_seconds: float, guard_seconds: float | None, quantum_seconds: float | None
) -> None:
    check_limit(limit)
    if not 0 < per_seconds < math.inf:
        raise InvalidValue.of("per_seconds", per_seconds, "a finite number above 0")
    if guard_seconds is not None:
        check_seconds("guard_seconds", guard_seconds)
    if quantum_seconds is not None and not 0 < quantum_seconds < per_seconds:
        raise InvalidValue.of(
            "quantum_seconds", quantum_seconds, f"a number between 0 and {per_seconds!r}"
        )


def _rate_limit(
    limit: int,
    *,
    metric: Metric,
    per_seconds: float,
    algorithm: str,
    guard_seconds: float | None,
    zone: tzinfo | None,
    name: str,
) -> Limit:
    if guard_seconds is None:
        guard_seconds = default_guard_seconds(per_seconds)
    window_ns = round(per_seconds * 1e9)
    guard_ns = round(guard_seconds * 1e9)
    if algorithm == "sliding":
        return SlidingLog(limit, window_ns=window_ns, guard_ns=guard_ns, metric=metric, name=name)
    if algorithm == "bucket":
        return TokenBucket(limit, window_ns=window_ns, guard_ns=guard_ns, metric=metric, name=name)
    if algorithm == "fixed" and zone is not None:
        period = {60.0: Period.MINUTE, 3600.0: Period.HOUR, _DAY: Period.DAY}.get(per_seconds)
        if period is None:
            raise InvalidValue.of("zone", zone, "none, or a window of a minute, an hour or a day")
        return CalendarWindow(
            limit, period=period, zone=zone, guard_ns=guard_ns, metric=metric, name=name
        )
    if algorithm == "fixed":
        return FixedWindow(limit, window_ns=window_ns, guard_ns=guard_ns, metric=metric, name=name)
    raise InvalidValue.of("algorithm", algorithm, "'sliding', 'bucket' or 'fixed'")


class RpmGate(RateGate):
    """At most `limit` requests a minute; see `RateGate` for the rest."""

    default_name = "rpm"


class TpmGate(RateGate):
    """At most `limit` tokens a minute, input and output together; see `RateGate` for the rest."""

    default_metric = Metric.TOKENS
    default_name = "tpm"


class ItpmGate(RateGate):
    """At most `limit` input tokens a minute; see `RateGate` for the rest."""

    default_metric = Metric.INPUT_TOKENS
    default_name = "itpm"


class OtpmGate(RateGate):
    """At most `limit` output tokens a minute; see `RateGate` for the rest."""

    default_metric = Metric.OUTPUT_TOKENS
    default_name = "otpm"


class RpdGate(RateGate):
    """At most `limit` requests a day; see `RateGate` for the rest."""

    default_seconds = _DAY
    default_name = "rpd"


class TpdGate(RateGate):
    """At most `limit` tokens a day, input and output together; see `RateGate` for the rest."""

    default_metric = Metric.TOKENS
    default_seconds = _DAY
    default_name = "tpd"


class ConcurrencyGate(GateSet):
    """At most `limit` calls between leaving the gate and ending."""

    def __init__(
        self,
        limit: int,
        *,
        name: str = "concurrency",
        clock: Clock | None = None,
        max_queue: int | None = None,
    ) -> None:
        check_limit(limit)
        slots = ConcurrencyLimit(limit, metric=Metric.REQUESTS, name=name)
        self._build([slots], clock=clock, max_queue=max_queue)

    @property
    def limit(self) -> int:
        """The limit in force."""
        return int(self._limits[0].capacity)

    def set_limit(self, limit: int) -> None:
        """Change the limit now; if more calls run than it allows, they run to their end."""
        check_limit(limit)
        self._turnstile.set_capacity(self._limits[0], limit)
