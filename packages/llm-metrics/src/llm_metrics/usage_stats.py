"""`UsageStats`: what was used and spent since the start or the last reset."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_core import (
    EMPTY,
    Cost,
    CostStatus,
    GenerationFinished,
    GenerationResult,
    InvocationAttempt,
    MissingDependencyError,
    Record,
    TelemetryEvent,
    Usage,
)

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["UsageRow", "UsageStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
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
    usage: Usage = Usage()  # noqa: RUF009 - frozen
    """Tokens by kind, of every attempt."""
    cost: Mapping[str, Cost] = EMPTY
    """Money by currency, of every attempt that used tokens."""
    unpriced_attempts: int = 0
    """Attempts that used tokens at an unknown price: `cost` is a lower bound if there are any."""
    gate_wait_seconds: float = 0.0
    """Waiting at our own gates, per call."""
    backoff_seconds: float = 0.0
    """Pauses between attempts, per call."""

    def plus_attempt(self, attempt: InvocationAttempt) -> UsageRow:
        """Return this row with one more attempt."""
        usage = attempt.usage or Usage()
        spent = attempt.cost
        cost = self.cost
        if spent is not None and spent.amount is not None:
            before = cost.get(spent.currency)
            cost = {**cost, spent.currency: before + spent if before else spent}
        unpriced = usage.total_tokens > 0 and (spent is None or spent.status is CostStatus.UNPRICED)
        return replace(
            self,
            attempts=self.attempts + 1,
            usage=self.usage + usage,
            cost=cost,
            unpriced_attempts=self.unpriced_attempts + unpriced,
        )

    def plus_call(self, result: GenerationResult[Any]) -> UsageRow:
        """Return this row with one more call; its attempts are added one by one."""
        return replace(
            self,
            calls=self.calls + 1,
            failures=self.failures + (not result.success),
            gate_wait_seconds=self.gate_wait_seconds + result.backoff.gate_wait_seconds,
            backoff_seconds=self.backoff_seconds + result.backoff.backoff_seconds,
        )


class UsageStats:
    """Adds up finished calls per operation and model; any thread may record.

    Also a telemetry backend: given to a service it records every call by itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str, str], UsageRow] = {}

    def record(self, result: GenerationResult[Any]) -> None:
        """Add one finished call: the call to the model it ended with, each attempt to its own."""
        operation = result.operation_name or ""
        last = result.attempts[-1] if result.attempts else None
        model = (last.model if last else result.model) or ""
        provider = (last.provider if last else result.provider) or ""
        with self._lock:
            for attempt in result.attempts:
                key = (operation, attempt.provider, attempt.model)
                self._rows[key] = self._row(key).plus_attempt(attempt)
            key = (operation, provider, model)
            self._rows[key] = self._row(key).plus_call(result)

    def emit(self, event: TelemetryEvent) -> None:
        """Record the result of a finished call."""
        if isinstance(event, GenerationFinished):
            self.record(event.result)

    def close(self, timeout: float | None = None) -> None:
        """Do nothing: there is nothing to deliver. What was recorded can still be read."""

    def rows(self) -> tuple[UsageRow, ...]:
        """Return the sums as they are now, sorted by operation, provider and model."""
        with self._lock:
            return tuple(self._rows[key] for key in sorted(self._rows))

    def reset(self) -> tuple[UsageRow, ...]:
        """Start again from zero; return what there was, so that no call is lost in between."""
        with self._lock:
            rows, self._rows = self._rows, {}
        return tuple(rows[key] for key in sorted(rows))

    def to_dict(self) -> dict[str, Any]:
        """Return the sums as JSON-able data: ``{"rows": [...]}``."""
        return {"rows": [row.to_dict() for row in self.rows()]}

    def table(self) -> Table:
        """Return the sums for people, as a rich table: `rich.print(stats.table())`.

        Raises MissingDependencyError without the extra `table`.
        """
        try:
            from rich.table import Table
        except ImportError as missing:
            message = "UsageStats.table needs rich: pip install 'llm-metrics[table]'"
            raise MissingDependencyError(message) from missing
        table = Table(title="LLM usage")
        for heading in ("operation", "model"):
            table.add_column(heading)
        for heading in _NUMBERS:
            table.add_column(heading, justify="right")
        for row in self.rows():
            table.add_row(row.operation or "-", f"{row.provider}/{row.model}", *_numbers(row))
        return table

    def _row(self, key: tuple[str, str, str]) -> UsageRow:
        operation, provider, model = key
        kept = self._rows.get(key)
        return kept or UsageRow(operation=operation, provider=provider, model=model)


_NUMBERS = (
    "calls",
    "failed",
    "attempts",
    "in",
    "cached",
    "out",
    "reasoning",
    "cost",
    "wait",
    "pause",
)


def _numbers(row: UsageRow) -> Iterable[str]:
    usage = row.usage
    yield from (str(number) for number in (row.calls, row.failures, row.attempts))
    yield from (f"{usage.input_tokens:,}", f"{usage.cache_read_tokens:,}")
    yield from (f"{usage.output_tokens:,}", f"{usage.reasoning_tokens:,}")
    money = " + ".join(f"{cost.amount:.6f} {name}" for name, cost in sorted(row.cost.items()))
    more = f" + {row.unpriced_attempts} unpriced" if row.unpriced_attempts else ""
    yield (money + more).removeprefix(" + ") or "-"
    yield from (f"{row.gate_wait_seconds:.1f} s", f"{row.backoff_seconds:.1f} s")
