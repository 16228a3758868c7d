"""The referee: what the client did, whatever it says about itself.

It counts apart from the limits that are enforced: a limit is violated when more than its amount was
*sent* within any window of its length, also where a bucket or a fixed window let it pass.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

from llm_core import Value, immutable
from llm_sim.errors import Refusal
from llm_sim.exchange import Call, Usage
from llm_sim.limits import Charge, Exceeded, LimitName, Limits
from llm_sim.prices import PriceList

_REMEMBERED_CALLS = 1000
_REMEMBERED_FAILURES = 4096
_LOG_STEPS = 1000


@immutable
class LimitReport(Value):
    """How a client used one limit on one account."""

    account: str
    """The API key, and the model if limits are per model."""
    name: str
    allowed: int
    window_seconds: float
    peak: int
    """The most that was sent within any window (for `concurrency`: at the same time)."""
    violations: int
    """Requests that came when the window before them, with them, held more than is allowed."""
    refused: int
    """Requests that this limit refused."""
    utilisation: float
    """From 0 to 1: the shortest time in which the limit lets pass what was let pass, by the time
    from the first request to the last one. What fits into one window at once takes no time; it
    counts as its share of the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the client did since the start or the last reset."""

    calls: int
    running: int
    seconds: float
    """From the first call's arrival to the last one's."""
    by_status: Mapping[int, int]
    by_operation: Mapping[str, int]
    by_model: Mapping[str, int]
    by_fault: Mapping[str, int]
    """Calls that were given a fault."""
    limits: tuple[LimitReport, ...]
    peak_concurrency: int
    retries: int
    """Calls with the same key, path and body as one that had failed: refused, broken by a fault,
    or left by the client before a plain answer came."""
    early_retries: int
    """Retries that came before the Retry-After of the failure had passed."""
    futile_retries: int
    """Retries of what cannot succeed: invalid requests, wrong keys, an empty account."""
    streams: int
    streams_abandoned: int
    """Streams that the client left before their end; one that stalled is not among them."""
    batched: int
    """Requests that were answered in batches; they are no calls of their own."""
    usage: Usage
    """Tokens of all calls and batched requests."""
    cost_usd: Decimal
    """By the price list; batched requests at half the price, as OpenAI and Anthropic bill them."""
    unpriced_models: tuple[str, ...]
    """Models that were used and are in no price list; their cost counts as 0."""

    @property
    def violations(self) -> int:
        """Violations of all limits together."""
        return sum(limit.violations for limit in self.limits)

    def to_dict(self) -> dict[str, Any]:
        """Write the report as JSON values; money as text."""
        return {
            "calls": self.calls,
            "running": self.running,
            "seconds": round(self.seconds, 6),
            "by_status": {str(status): count for status, count in self.by_status.items()},
            "by_operation": dict(self.by_operation),
            "by_model": dict(self.by_model),
            "by_fault": dict(self.by_fault),
            "violations": self.violations,
            "limits": [
                {each.name: getattr(limit, each.name) for each in fields(limit)}
                for limit in self.limits
            ],
            "peak_concurrency": self.peak_concurrency,
            "retries": self.retries,
            "early_retries": self.early_retries,
            "futile_retries": self.futile_retries,
            "streams": self.streams,
            "streams_abandoned": self.streams_abandoned,
            "batched": self.batched,
            "usage": {name: getattr(self.usage, name) for name in Usage.__slots__},
            "cost_usd": str(self.cost_usd),
            "unpriced_models": list(self.unpriced_models),
        }


class _Watch:
    """Counts what was sent within a window, in a log of bounded length.

    In windows above an hour, entries closer together than a thousandth of the window are counted
    as one that came at the earlier time: the log stays short and is never too strict.
    """

    __slots__ = ("_entries", "_step", "_used", "_window", "passed", "peak", "refused", "violations")

    def __init__(self, window_seconds: float) -> None:
        self._window = window_seconds
        self._step = window_seconds / _LOG_STEPS if window_seconds > 3600 else 0.0
        self._entries: deque[list[float]] = deque()
        self._used = 0
        self.peak = 0
        self.passed = 0
        self.refused = 0
        self.violations = 0

    def count(self, now: float, cost: int, allowed: int) -> None:
        edge = now - self._window
        entries = self._entries
        while entries and entries[0][0] <= edge:
            self._used -= int(entries.popleft()[1])
        if entries and now - entries[-1][0] < self._step:
            entries[-1][1] += cost
        else:
            entries.append([now, cost])
        self._used += cost
        if self._used > self.peak:
            self.peak = self._used
        if self._used > allowed:
            self.violations += 1


@dataclass(slots=True)
class _Tally:
    """Everything that is summed up."""

    first_at: float = 0.0
    last_at: float = 0.0
    calls: int = 0
    peak_running: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    by_operation: Counter[str] = field(default_factory=Counter)
    by_fault: Counter[str] = field(default_factory=Counter)
    by_model: dict[str, list[int]] = field(default_factory=dict)
    """Calls, then the sums of the fields of Usage in their order."""
    batched: dict[str, tuple[int, Usage]] = field(default_factory=dict)
    """Batched requests of each model and their usage."""
    watches: dict[tuple[str, LimitName], _Watch] = field(default_factory=dict)
    running: dict[str, list[int]] = field(default_factory=dict)
    """Running, peak, violations and refusals of concurrency of each account."""
    retries: int = 0
    early_retries: int = 0
    futile_retries: int = 0
    streams: int = 0
    streams_abandoned: int = 0


class Referee:
    """Watches every call. Memory is bounded: it grows with keys and models, not with calls."""

    def __init__(self, limits: Limits, prices: PriceList) -> None:
        self._limits = limits
        self._windows = tuple(limits.windows())
        self._prices = prices
        self._tally = _Tally()
        self._failed: OrderedDict[int, tuple[float, bool]] = OrderedDict()
        self._running = 0
        self.calls: deque[Call] = deque(maxlen=_REMEMBERED_CALLS)

    def arrive(self, call: Call) -> None:
        """A request has come, whole."""
        tally = self._tally
        if not tally.calls:
            tally.first_at = call.at
        tally.calls += 1
        tally.last_at = call.at
        self._running += 1
        if self._running > tally.peak_running:
            tally.peak_running = self._running
        self.calls.append(call)
        if self._failed:
            self._judge_retry(call)

    def charge(self, call: Call, account: str, charge: Charge, refused_by: Exceeded | None) -> None:
        """A request was weighed against the limits, and let pass or refused."""
        for name, allowed, window_seconds in self._windows:
            if name != "otpm":
                watch = self._watch(account, name, window_seconds)
                watch.count(call.at, charge.of(name), allowed)
                if refused_by is None:
                    watch.passed += charge.of(name)
        if refused_by is not None and refused_by.name != "concurrency":
            window_seconds = self._limits.window_seconds(refused_by.name)
            self._watch(account, refused_by.name, window_seconds).refused += 1
        most = self._limits.concurrency
        if most is not None:
            running = self._tally.running.setdefault(account, [0, 0, 0, 0])
            running[0] += 1
            running[1] = max(running[1], running[0])
            running[2] += running[0] > most
            running[3] += refused_by is not None and refused_by.name == "concurrency"
            if refused_by is not None:
                running[0] -= 1

    def end(self, call: Call, now: float, refusal: Refusal | None) -> None:
        """A call is over, however it ended."""
        tally = self._tally
        self._running -= 1
        tally.by_status[call.status] += 1
        tally.by_operation[call.operation or call.path] += 1
        if call.fault is not None:
            tally.by_fault[call.fault] += 1
        if call.streamed and refusal is None:
            tally.streams += 1
            tally.streams_abandoned += call.ended == "abandoned"
        # Who leaves before a plain answer has timed out; of a stream he may have had enough.
        timed_out = call.ended == "abandoned" and not call.streamed
        if refusal is not None or call.ended == "broken" or timed_out:
            self._remember_failure(call, refusal)
        if refusal is None and call.model:
            # Also of answers that did not arrive: the vendor has made them, and bills them.
            self._add_usage(call, now)
        if call.account is not None and call.account in tally.running:
            running = tally.running[call.account]
            running[0] = max(running[0] - 1, 0)

    def count_batched(self, model: str, usage: Usage) -> None:
        """A request of a batch was answered."""
        count, used = self._tally.batched.get(model, (0, Usage()))
        self._tally.batched[model] = (count + 1, used + usage)

    def cost(self, key_usage: Mapping[str, Usage]) -> Decimal:
        """Price the usage of several models."""
        found = ((self._prices.find(model), usage) for model, usage in key_usage.items())
        return sum((price.of(usage) for price, usage in found if price), Decimal(0))

    def report(self) -> Report:
        """Sum up."""
        tally = self._tally
        usage = {model: _usage(sums) for model, (_, *sums) in tally.by_model.items()}
        batched = {model: used for model, (_, used) in tally.batched.items()}
        return Report(
            calls=tally.calls,
            running=self._running,
            seconds=tally.last_at - tally.first_at,
            by_status=dict(sorted(tally.by_status.items())),
            by_operation=dict(tally.by_operation),
            by_model={model: sums[0] for model, sums in tally.by_model.items()},
            by_fault=dict(tally.by_fault),
            limits=tuple(self._limit_reports()),
            peak_concurrency=tally.peak_running,
            retries=tally.retries,
            early_retries=tally.early_retries,
            futile_retries=tally.futile_retries,
            streams=tally.streams,
            streams_abandoned=tally.streams_abandoned,
            batched=sum(count for count, _ in tally.batched.values()),
            usage=sum((*usage.values(), *batched.values()), Usage()),
            cost_usd=self.cost(usage) + self.cost(batched) / 2,
            unpriced_models=tuple(
                model for model in {**usage, **batched} if self._prices.find(model) is None
            ),
        )

    def _limit_reports(self) -> list[LimitReport]:
        tally = self._tally
        reports = []
        for (account, name), watch in sorted(tally.watches.items()):
            allowed: int = getattr(self._limits, name)
            window_seconds = self._limits.window_seconds(name)
            reports.append(
                LimitReport(
                    account=account,
                    name=name,
                    allowed=allowed,
                    window_seconds=window_seconds,
                    peak=watch.peak,
                    violations=watch.violations,
                    refused=watch.refused,
                    utilisation=round(self._utilisation(watch.passed, allowed, window_seconds), 4),
                )
            )
        for account, (_, peak, violations, refused) in sorted(tally.running.items()):
            allowed = self._limits.concurrency or 1
            reports.append(
                LimitReport(
                    account=account,
                    name="concurrency",
                    allowed=allowed,
                    window_seconds=0.0,
                    peak=peak,
                    violations=violations,
                    refused=refused,
                    utilisation=round(min(peak / allowed, 1.0), 4),
                )
            )
        return reports

    def _utilisation(self, passed: int, allowed: int, window_seconds: float) -> float:
        if passed <= allowed:
            return passed / allowed
        first_at, last_at = self._tally.first_at, self._tally.last_at
        if self._limits.algorithm == "bucket":
            shortest = (passed / allowed - 1) * window_seconds
        else:
            shortest = (math.ceil(passed / allowed) - 1) * window_seconds
            if self._limits.algorithm != "sliding":  # the first window had begun already
                shortest -= first_at % window_seconds
        return min(shortest / (last_at - first_at), 1.0) if last_at > first_at else 1.0

    def _judge_retry(self, call: Call) -> None:
        failure = self._failed.pop(call.fingerprint, None)
        if failure is None:
            return
        not_before, final = failure
        tally = self._tally
        tally.retries += 1
        tally.early_retries += call.at < not_before
        tally.futile_retries += final

    def _remember_failure(self, call: Call, refusal: Refusal | None) -> None:
        wait = 0.0 if refusal is None else refusal.retry_after_seconds or 0.0
        self._failed[call.fingerprint] = (call.at + wait, refusal is not None and refusal.final)
        if len(self._failed) > _REMEMBERED_FAILURES:
            self._failed.popitem(last=False)

    def _add_usage(self, call: Call, now: float) -> None:
        row = self._tally.by_model.get(call.model)
        if row is None:
            row = self._tally.by_model[call.model] = [0] * (1 + len(Usage.__slots__))
        row[0] += 1
        for place, value in enumerate(_sums(call.usage), start=1):
            row[place] += value
        if self._limits.otpm is not None and call.account is not None:
            watch = self._watch(call.account, "otpm", self._limits.minute_seconds)
            watch.count(now, call.usage.output_tokens, self._limits.otpm)
            watch.passed += call.usage.output_tokens

    def _watch(self, account: str, name: LimitName, window_seconds: float) -> _Watch:
        watch = self._tally.watches.get((account, name))
        if watch is None:
            watch = self._tally.watches[account, name] = _Watch(window_seconds)
        return watch


def _sums(usage: Usage) -> list[int]:
    return [getattr(usage, name) for name in Usage.__slots__]


def _usage(sums: list[int]) -> Usage:
    return Usage(**dict(zip(Usage.__slots__, sums, strict=False)))
