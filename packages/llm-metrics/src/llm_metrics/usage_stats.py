"""`UsageStats`: what was used and spent since the start or the last reset."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from operator import add, attrgetter
from typing import TYPE_CHECKING, Any, Final

from llm_core import (
    EMPTY,
    BackoffStats,
    Cost,
    CostStatus,
    GenerationFinished,
    GenerationResult,
    InvocationAttempt,
    MissingDependencyError,
    Record,
    TelemetryEvent,
    Usage,
    immutable,
)

if TYPE_CHECKING:
    from rich.table import Table

from llm_core.forks import begin_anew_in_children

__all__ = ["UsageRow", "UsageStats"]

_COUNTS = tuple(field.name for field in fields(Usage))
_counts_of = attrgetter(*_COUNTS)
_ZERO = Decimal(0)
# Before Python 3.12, to name an enum's member costs as much as to add up an attempt's tokens.
_UNPRICED = CostStatus.UNPRICED
_Key = tuple[str, str, str]
"""Operation, provider, model."""
_Call = tuple[str, str, str, tuple[InvocationAttempt, ...], bool, BackoffStats]
"""What is added of a call: its operation, provider, model, attempts, success and waits."""
_ADD_AT: Final = 64
"""How many calls at most wait to be added up."""


@immutable
class UsageRow(Record):
    """The sums of one operation and model."""

    operation: str
    """Empty for calls without an operation's name."""
    model: str
    provider: str
    calls: int = 0
    """Calls that ended with this model; a call that fell back counts at the model it ended with."""
    failures: int = 0
    """The part of `calls` that gave no usable content."""
    attempts: int = 0
    usage: Usage = Usage()
    """Tokens by kind, of every attempt."""
    cost: Mapping[str, Cost] = EMPTY
    """Money by currency, of every attempt that used tokens."""
    unpriced_attempts: int = 0
    """Attempts that used tokens at an unknown price: `cost` is a lower bound if there are any."""
    gate_wait_seconds: float = 0.0
    """Waiting at our own gates, per call."""
    backoff_seconds: float = 0.0
    """Pauses between attempts, per call."""


class _Sums:
    """What becomes a row: plain numbers, because a frozen one per addition would cost ten times."""

    __slots__ = ("attempts", "backoff", "calls", "costs", "failures", "tokens", "unpriced", "waits")

    def __init__(self) -> None:
        self.calls = self.failures = self.attempts = self.unpriced = 0
        self.waits = self.backoff = 0.0
        self.tokens = [0] * len(_COUNTS)
        """By kind; the last one counts the attempts with estimated usage."""
        self.costs: dict[tuple[str, CostStatus, str], Decimal] = {}

    def add_attempt(self, attempt: InvocationAttempt) -> None:
        self.attempts += 1
        usage, cost = attempt.usage, attempt.cost
        if usage is not None:
            self.tokens = list(map(add, self.tokens, _counts_of(usage)))
            if cost is None or cost.status is _UNPRICED:
                self.unpriced += usage.total_tokens > 0
        if cost is not None and cost.amount is not None:
            key = (cost.currency, cost.status, cost.source)
            self.costs[key] = self.costs.get(key, _ZERO) + cost.amount

    def add_call(self, success: bool, backoff: BackoffStats) -> None:
        self.calls += 1
        self.failures += not success
        self.waits += backoff.gate_wait_seconds
        self.backoff += backoff.backoff_seconds

    def row(self, operation: str, provider: str, model: str) -> UsageRow:
        costs: dict[str, Cost] = {}
        for (currency, status, source), amount in self.costs.items():
            cost = Cost(amount=amount, currency=currency, status=status, source=source)
            costs[currency] = costs[currency] + cost if currency in costs else cost
        tokens: dict[str, Any] = dict(zip(_COUNTS, self.tokens, strict=True))
        tokens["estimated"] = tokens["estimated"] > 0
        return UsageRow(
            operation=operation,
            model=model,
            provider=provider,
            calls=self.calls,
            failures=self.failures,
            attempts=self.attempts,
            usage=Usage(**tokens),
            cost=costs,
            unpriced_attempts=self.unpriced,
            gate_wait_seconds=self.waits,
            backoff_seconds=self.backoff,
        )


class UsageStats:
    """Adds up finished calls per operation and model; any thread may record.

    Also a telemetry backend: given to a service it records every call by itself.
    A forked child begins at zero, so that the sums of all processes are those of all calls.
    """

    wanted = (GenerationFinished,)

    def __init__(self) -> None:
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Start from zero, whoever is recording."""
        self._lock = threading.Lock()
        # Added up by the dozen, so that a call pays for no more than a place in the queue.
        self._pending: deque[_Call] = deque()
        self._sums: defaultdict[_Key, _Sums] = defaultdict(_Sums)

    def record(self, result: GenerationResult[Any]) -> None:
        """Add one finished call: the call to the model it ended with, each attempt to its own."""
        # Without its content, which may be large.
        self._pending.append(
            (
                result.operation_name or "",
                result.provider or "",
                result.model or "",
                result.attempts,
                result.success,
                result.backoff,
            )
        )
        if len(self._pending) >= _ADD_AT:
            with self._lock:
                self._add_up()

    def emit(self, event: TelemetryEvent) -> None:
        """Record the result of a finished call."""
        if isinstance(event, GenerationFinished):
            self.record(event.result)

    def _add_up(self) -> None:
        """Add what is pending to the sums; the caller holds the lock."""
        take, sums = self._pending.popleft, self._sums
        for _ in range(len(self._pending)):
            operation, provider, model, attempts, success, backoff = take()
            asked = None
            for attempt in attempts:
                asked = sums[operation, attempt.provider, attempt.model]
                asked.add_attempt(attempt)
            ended_with = asked or sums[operation, provider, model]
            ended_with.add_call(success, backoff)

    def close(self, timeout: float | None = None) -> None:
        """Do nothing: there is nothing to deliver. What was recorded can still be read."""

    def rows(self) -> tuple[UsageRow, ...]:
        """Return the sums as they are now, sorted by operation, provider and model."""
        with self._lock:
            self._add_up()
            return _rows(self._sums)

    def reset(self) -> tuple[UsageRow, ...]:
        """Start again from zero; return what there was, so that no call is lost in between."""
        with self._lock:
            self._add_up()
            sums, self._sums = self._sums, defaultdict(_Sums)
        return _rows(sums)

    def to_dict(self) -> dict[str, Any]:
        """Return the sums as JSON-able data: ``{"rows": [...]}``."""
        return {"rows": [row.to_dict() for row in self.rows()]}

    def table(self) -> Table:
        """Return the sums for people, as a rich table: `rich.print(stats.table())`.

        Raises MissingDependencyError without the extra `table`.
        """
        try:
            from rich.box import HORIZONTALS
            from rich.table import Table
        except ImportError as missing:
            message = "UsageStats.table needs rich: install the extra llm-metrics[table]"
            raise MissingDependencyError(message) from missing
        table = Table(title="LLM usage", box=HORIZONTALS, show_lines=True, padding=(0, 1, 0, 0))
        table.add_column("\n".join(_NAMES), overflow="fold")
        for headings in _NUMBERS:
            table.add_column("\n".join(headings), justify="right", no_wrap=True)
        for row in self.rows():
            names = (row.operation or "-", row.provider or "-", row.model or "-")
            table.add_row(*map("\n".join, (names, *_numbers(row))))
        return table


def _rows(sums: Mapping[_Key, _Sums]) -> tuple[UsageRow, ...]:
    return tuple(sums[key].row(*key) for key in sorted(sums))


# Related figures stand below each other, as twelve columns do not fit a terminal of 80 characters.
_NAMES = ("operation", "provider", "model")
_NUMBERS = (
    ("calls", "attempts", "failed"),
    ("in", "cached"),
    ("out", "reasoning"),
    ("cost",),
    ("wait", "pause"),
)


def _numbers(row: UsageRow) -> Iterable[tuple[str, ...]]:
    usage = row.usage
    yield f"{row.calls:,}", f"{row.attempts:,}", f"{row.failures:,}"
    yield f"{usage.input_tokens:,}", f"{usage.cache_read_tokens:,}"
    yield f"{usage.output_tokens:,}", f"{usage.reasoning_tokens:,}"
    money = [f"{cost.amount:.6f} {name}" for name, cost in sorted(row.cost.items())]
    unpriced = [f"{row.unpriced_attempts:,} unpriced"] if row.unpriced_attempts else []
    yield tuple(money + unpriced) or ("-",)
    yield f"{row.gate_wait_seconds:,.1f} s", f"{row.backoff_seconds:,.1f} s"
