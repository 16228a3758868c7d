"""Rate limits as vendors enforce them: state machines that are told the time.

Four algorithms count the same limit in different ways:

    sliding     never more than the limit in any window that ends now
    bucket      a token bucket that holds the whole limit and refills evenly
    fixed       windows that start at multiples of their length
    quantised   fixed windows, and for requests also the limit's share of every quantum
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Protocol, get_args

from llm_core import Value, immutable
from llm_sim.errors import ConfigurationError

Algorithm = Literal["sliding", "bucket", "fixed", "quantised"]
LimitName = Literal["rpm", "rpd", "tpm", "itpm", "otpm", "concurrency"]

_DAY_MINUTES = 1440
_WINDOWED: tuple[LimitName, ...] = ("rpm", "rpd", "tpm", "itpm", "otpm")


@immutable
class Limits(Value):
    """What one API key may do; None is no limit."""

    rpm: int | None = None
    """Requests a minute."""
    rpd: int | None = None
    """Requests a day."""
    tpm: int | None = None
    """Tokens a minute, charged before the call as OpenAI does: the larger of the output limit
    that was asked for and a quarter of the prompt's characters, however short the reply is."""
    itpm: int | None = None
    """Input tokens a minute without those read from the cache, as Anthropic counts them."""
    otpm: int | None = None
    """Output tokens a minute, charged as they were produced; a call may overdraw it."""
    concurrency: int | None = None
    """Calls at the same time."""
    algorithm: Algorithm = "sliding"
    minute_seconds: float = 60.0
    """How long a minute is, so that tests need not wait for one; a day is 1440 of them."""
    quantum_seconds: float = 1.0
    """The short window of `quantised`."""
    charge_refused: bool = False
    """Whether refused requests count against rpm and rpd, as OpenAI says they do."""
    per_model: bool = False
    """Whether each model has limits of its own."""
    quota_usd: Decimal | None = None
    """Money after which a key's calls are refused for good (`insufficient_quota`)."""

    def __post_init__(self) -> None:
        for name in get_args(LimitName):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigurationError(f"{name} must be a whole number from 1 up, got {value!r}")
        if self.algorithm not in get_args(Algorithm):
            choices = ", ".join(get_args(Algorithm))
            raise ConfigurationError(f"algorithm must be one of {choices}, got {self.algorithm!r}")
        quota = self.quota_usd
        if quota is not None and not (
            isinstance(quota, Decimal) and quota.is_finite() and quota > 0
        ):
            raise ConfigurationError(f"quota_usd must be a Decimal above 0, got {quota!r}")
        for length in ("minute_seconds", "quantum_seconds"):
            if not 0 < getattr(self, length) < math.inf:
                raise ConfigurationError(f"{length} must be above 0, got {getattr(self, length)!r}")

    def window_seconds(self, name: LimitName) -> float:
        """Return the length of a limit's window."""
        return self.minute_seconds * (_DAY_MINUTES if name == "rpd" else 1)

    def windows(self) -> Iterator[tuple[LimitName, int, float]]:
        """Give the name, the amount and the window of every windowed limit that is set."""
        for name in _WINDOWED:
            amount = getattr(self, name)
            if amount is not None:
                yield name, amount, self.window_seconds(name)


class Meter(Protocol):
    """Counts one limit."""

    def wait(self, now: float, cost: int) -> float:
        """Return the seconds until `cost` fits: 0 if it does, infinity if it never will."""
        ...

    def take(self, now: float, cost: int) -> None:
        """Count `cost`, whether it fits or not."""
        ...

    def remaining(self, now: float) -> int:
        """Return what is left, 0 if it is overdrawn."""
        ...

    def reset_seconds(self, now: float) -> float:
        """Return the seconds until the whole limit is free again."""
        ...


class SlidingLog:
    """At most `limit` in any window; an entry leaves exactly one window after it came."""

    __slots__ = ("_entries", "_limit", "_used", "_window")

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._entries: deque[tuple[float, int]] = deque()
        self._used = 0

    def wait(self, now: float, cost: int) -> float:
        """Return the seconds until `cost` fits."""
        self._expire(now)
        if self._used + cost <= self._limit:
            return 0.0
        if cost > self._limit:
            return math.inf
        used = self._used
        for at, amount in self._entries:
            used -= amount
            if used + cost <= self._limit:
                # Rounding may make it 0, which would say that the cost fits already.
                return max(at + self._window - now, 1e-9)
        return self._window

    def take(self, now: float, cost: int) -> None:
        """Count `cost`."""
        self._expire(now)
        self._entries.append((now, cost))
        self._used += cost

    def remaining(self, now: float) -> int:
        """Return what is left."""
        self._expire(now)
        return max(self._limit - self._used, 0)

    def reset_seconds(self, now: float) -> float:
        """Return the seconds until the log is empty."""
        self._expire(now)
        return self._entries[-1][0] + self._window - now if self._entries else 0.0

    def _expire(self, now: float) -> None:
        edge = now - self._window
        while self._entries and self._entries[0][0] <= edge:
            self._used -= self._entries.popleft()[1]


class TokenBucket:
    """A bucket that starts full with `limit` and refills it evenly in a window."""

    __slots__ = ("_at", "_level", "_limit", "_rate")

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._rate = limit / window_seconds
        self._level = float(limit)
        self._at = -math.inf

    def wait(self, now: float, cost: int) -> float:
        """Return the seconds until `cost` fits."""
        self._refill(now)
        if cost > self._limit:
            return math.inf
        # Refilling adds up rounding errors; a billionth of a unit is not a refusal.
        missing = cost - self._level
        return missing / self._rate if missing > 1e-9 else 0.0

    def take(self, now: float, cost: int) -> None:
        """Count `cost`."""
        self._refill(now)
        self._level -= cost

    def remaining(self, now: float) -> int:
        """Return what is left."""
        self._refill(now)
        return max(int(self._level + 1e-9), 0)

    def reset_seconds(self, now: float) -> float:
        """Return the seconds until the bucket is full."""
        self._refill(now)
        return (self._limit - self._level) / self._rate

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._limit, self._level + (now - self._at) * self._rate)
            self._at = now


class FixedWindow:
    """At most `limit` between two multiples of the window's length."""

    __slots__ = ("_limit", "_start", "_used", "_window")

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._start = -math.inf
        self._used = 0

    def wait(self, now: float, cost: int) -> float:
        """Return the seconds until `cost` fits."""
        self._turn(now)
        if self._used + cost <= self._limit:
            return 0.0
        return math.inf if cost > self._limit else self._start + self._window - now

    def take(self, now: float, cost: int) -> None:
        """Count `cost`."""
        self._turn(now)
        self._used += cost

    def remaining(self, now: float) -> int:
        """Return what is left."""
        self._turn(now)
        return max(self._limit - self._used, 0)

    def reset_seconds(self, now: float) -> float:
        """Return the seconds until the next window, 0 if nothing was used."""
        self._turn(now)
        return self._start + self._window - now if self._used else 0.0

    def _turn(self, now: float) -> None:
        start = now // self._window * self._window
        if start > self._start:
            self._start = start
            self._used = 0


class Both:
    """Two meters that must both let a cost pass."""

    __slots__ = ("_long", "_short")

    def __init__(self, long: Meter, short: Meter) -> None:
        self._long = long
        self._short = short

    def wait(self, now: float, cost: int) -> float:
        """Return the seconds until `cost` fits in both."""
        return max(self._long.wait(now, cost), self._short.wait(now, cost))

    def take(self, now: float, cost: int) -> None:
        """Count `cost` in both."""
        self._long.take(now, cost)
        self._short.take(now, cost)

    def remaining(self, now: float) -> int:
        """Return what is left in the long window."""
        return self._long.remaining(now)

    def reset_seconds(self, now: float) -> float:
        """Return the seconds until the long window is free."""
        return self._long.reset_seconds(now)


def meter(limits: Limits, name: LimitName, amount: int, window_seconds: float) -> Meter:
    """Make the meter of one limit by the algorithm that is set."""
    if limits.algorithm == "sliding":
        return SlidingLog(amount, window_seconds)
    if limits.algorithm == "bucket":
        return TokenBucket(amount, window_seconds)
    whole = FixedWindow(amount, window_seconds)
    if limits.algorithm == "fixed" or name not in ("rpm", "rpd"):
        return whole
    # A quantum's share is at least one request: for few a minute the quantum is longer.
    quantum = max(limits.quantum_seconds, window_seconds / amount)
    return Both(whole, FixedWindow(max(int(amount * quantum / window_seconds), 1), quantum))


@immutable
class Exceeded(Value):
    """Why a request is refused."""

    name: LimitName
    allowed: int
    used: int
    requested: int
    wait_seconds: float
    """Infinite if the request alone is larger than the limit."""


@immutable
class Reading(Value):
    """How a limit stands, as response headers tell it."""

    allowed: int
    remaining: int
    reset_seconds: float


@immutable
class Charge(Value):
    """What a request costs before it is answered."""

    tokens: int
    input_tokens: int
    """Without those read from the prompt cache."""

    def of(self, name: LimitName) -> int:
        """Return the cost in a limit's unit; output is charged afterwards."""
        if name == "tpm":
            return self.tokens
        if name == "itpm":
            return self.input_tokens
        return 0 if name == "otpm" else 1


@dataclass(slots=True)
class _Account:
    meters: dict[LimitName, Meter]
    running: int = 0
    refused: dict[LimitName, int] = field(default_factory=dict)


class LimitBook:
    """The accounts of all keys under one set of limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._accounts: dict[str, _Account] = {}

    def account_name(self, key: str, model: str) -> str:
        """Name the account that a call is counted on."""
        return f"{key} {model}" if self.limits.per_model else key

    def admit(self, account_name: str, charge: Charge, now: float) -> Exceeded | None:
        """Count a request on every limit, or on none and say which one it would exceed."""
        account = self._account(account_name)
        worst: Exceeded | None = None
        for name, meter_ in account.meters.items():
            cost = charge.of(name)
            wait = meter_.wait(now, max(cost, 1))
            if wait > 0 and (worst is None or wait > worst.wait_seconds):
                allowed = getattr(self.limits, name)
                worst = Exceeded(
                    name=name,
                    allowed=allowed,
                    used=allowed - meter_.remaining(now),
                    requested=max(cost, 1),
                    wait_seconds=wait,
                )
        most = self.limits.concurrency
        if worst is None and most is not None and account.running >= most:
            worst = Exceeded(
                name="concurrency", allowed=most, used=most, requested=1, wait_seconds=1.0
            )
        for name, meter_ in account.meters.items():
            if worst is None or (self.limits.charge_refused and name in ("rpm", "rpd")):
                meter_.take(now, charge.of(name))
        if worst is None:
            account.running += 1
        return worst

    def settle(self, account_name: str, now: float, *, output_tokens: int) -> None:
        """Count the output that was really produced."""
        meters = self._account(account_name).meters
        if output_tokens and "otpm" in meters:
            meters["otpm"].take(now, output_tokens)

    def leave(self, account_name: str) -> None:
        """End a call that was admitted."""
        self._account(account_name).running -= 1

    def readings(self, account_name: str, now: float) -> Mapping[LimitName, Reading]:
        """Read every windowed limit of an account."""
        return {
            name: Reading(
                allowed=getattr(self.limits, name),
                remaining=meter_.remaining(now),
                reset_seconds=meter_.reset_seconds(now),
            )
            for name, meter_ in self._account(account_name).meters.items()
        }

    def _account(self, name: str) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            meters = {
                limit: meter(self.limits, limit, amount, window)
                for limit, amount, window in self.limits.windows()
            }
            account = self._accounts[name] = _Account(meters)
        return account
