"""`llm-service stats`: what a file of results amounts to."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from llm_service.cli.console import show
from llm_service.cli.tally import Tally, shown_cost

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Distribution", "ResultStats", "stats"]

_PERCENTILES = (50, 95, 99)
_DIMENSIONS = ("model", "provider", "operation_name", "tenant")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@click.option(
    "--by", "dimension", type=click.Choice(_DIMENSIONS), help="Show a row for each of these, too."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(files: Sequence[IO[bytes]], dimension: str | None, as_json: bool) -> int:
    """Sum up FILES of results, as run writes them; - is standard input.

    Calls, failures by type, tokens, cost, and percentiles (nearest rank) of how
    long a call took, how long its provider took, and how long it waited.

    Exit code: 0, or 2 for a file that holds something else.
    """
    whole = ResultStats()
    parts: dict[str, ResultStats] = {}
    for result in _results(files):
        whole.add(result)
        if dimension is not None:
            parts.setdefault(_value_of(result, dimension), ResultStats()).add(result)
    if as_json:
        written: dict[str, Any] = whole.to_dict()
        if dimension is not None:
            written[f"by_{dimension}"] = {name: part.to_dict() for name, part in parts.items()}
        click.echo(json.dumps(written))
    else:
        _print(whole, dimension, parts)
    return 0


class Distribution:
    """Durations in seconds: eight bytes for each, so that a million results are no burden."""

    def __init__(self) -> None:
        self._values = array("d")
        self._is_sorted = True

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._values.append(seconds)
        self._is_sorted = False

    def __len__(self) -> int:
        return len(self._values)

    @property
    def total(self) -> float:
        """The sum."""
        return math.fsum(self._values)

    def percentile(self, percent: int) -> float | None:
        """Return the smallest duration that `percent` of all do not exceed; None of none."""
        if not self._values:
            return None
        if not self._is_sorted:
            self._values = array("d", sorted(self._values))
            self._is_sorted = True
        return self._values[max(math.ceil(len(self._values) * percent / 100) - 1, 0)]

    def to_dict(self) -> dict[str, float | None]:
        """Return the percentiles as JSON values, in seconds."""
        return {f"p{percent}": self.percentile(percent) for percent in _PERCENTILES}


class ResultStats:
    """Totals and distributions over results in the form of `GenerationResult.to_dict`."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.distributions = {
            name: Distribution()
            for name in ("total", "provider", "first token", "gate wait", "back-off")
        }

    def add(self, result: Mapping[str, Any]) -> None:
        """Count one result."""
        self.tally.add(result)
        points = result.get("timestamps") or {}
        self._add("total", _seconds(points, "requested", "completed"))
        for attempt in result.get("attempts") or ():
            points = attempt.get("timestamps") or {}
            self._add("provider", _seconds(points, "started", "ended"))
            self._add("first token", _seconds(points, "started", "first_token"))
        waits = result.get("backoff") or {}
        self._add("gate wait", waits.get("gate_wait_seconds"))
        self._add("back-off", waits.get("backoff_seconds"))

    def _add(self, name: str, seconds: float | None) -> None:
        if seconds is not None:
            self.distributions[name].add(seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; money as text."""
        tally = self.tally
        return {
            "calls": tally.results,
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "failures": dict(tally.failures),
            "degraded": dict(tally.degraded),
            "cached": tally.cached,
            "attempts": tally.attempts,
            "input_tokens": tally.input_tokens,
            "output_tokens": tally.output_tokens,
            "cost": {currency: str(amount) for currency, amount in tally.costs.items()},
            "unpriced": tally.unpriced,
            "seconds": {
                name.replace(" ", "_").replace("-", "_"): values.to_dict()
                for name, values in self.distributions.items()
            },
        }


def _results(files: Sequence[IO[bytes]]) -> Iterator[Mapping[str, Any]]:
    for stream in files:
        name = getattr(stream, "name", "standard input")
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            place = f"{name}:{number}"
            try:
                result = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 text (byte {error.start})"
                raise click.ClickException(f"{place}: {reason}") from None
            except (ValueError, RecursionError) as error:
                raise click.ClickException(f"{place}: not JSON: {error}") from None
            if not isinstance(result, dict) or "success" not in result:
                raise click.ClickException(f"{place}: not a result, as run writes them")
            yield result


def _value_of(result: Mapping[str, Any], dimension: str) -> str:
    """Return what a result counts under; the tenant stands in its request only."""
    source = result.get("request") or {} if dimension == "tenant" else result
    return str(source.get(dimension) or "-")


def _seconds(points: Mapping[str, Any], start: str, end: str) -> float | None:
    begun, ended = points.get(start), points.get(end)
    return None if begun is None or ended is None else (ended - begun) / 1e9


def _print(whole: ResultStats, dimension: str | None, parts: Mapping[str, ResultStats]) -> None:
    show(_totals(whole.tally), "", _durations(whole.distributions))
    if dimension is not None:
        show("", _parts(dimension, parts))


def _totals(tally: Tally) -> Table:
    table = _table()
    rows: list[tuple[str, str]] = [
        ("calls", f"{tally.results:,}"),
        ("succeeded", f"{tally.succeeded:,}{_share(tally.succeeded, tally.results)}"),
        ("failed", f"{tally.failed:,}"),
        *_indented(tally.failures.most_common()),
        ("degraded", f"{tally.degraded.total():,}"),
        *_indented(tally.degraded.most_common()),
        ("from the cache", f"{tally.cached:,}"),
        ("attempts", f"{tally.attempts:,}"),
        ("tokens in", f"{tally.input_tokens:,}"),
        ("tokens out", f"{tally.output_tokens:,}"),
        ("cost", shown_cost(tally)),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _durations(distributions: Mapping[str, Distribution]) -> Table:
    table = _table("seconds", *[f"p{percent}" for percent in _PERCENTILES], "sum", "of")
    for name, values in distributions.items():
        if len(values):
            shown = [f"{values.percentile(percent) or 0.0:.3f}" for percent in _PERCENTILES]
            table.add_row(name, *shown, f"{values.total:,.1f}", f"{len(values):,}")
    return table


def _parts(dimension: str, parts: Mapping[str, ResultStats]) -> Table:
    table = _table(dimension, "calls", "failed", "tokens", "cost", "p50", "p95")
    for name, part in sorted(parts.items(), key=lambda item: -item[1].tally.results):
        tally, total = part.tally, part.distributions["total"]
        table.add_row(
            name,
            f"{tally.results:,}",
            f"{tally.failed:,}",
            f"{tally.total_tokens:,}",
            shown_cost(tally),
            f"{total.percentile(50) or 0.0:.3f}",
            f"{total.percentile(95) or 0.0:.3f}",
        )
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, show_header=bool(columns))
    for position, name in enumerate(columns or ("", "")):
        table.add_column(name, justify="right" if position else "left", overflow="fold")
    return table


def _indented(counts: Iterable[tuple[str, int]]) -> list[tuple[str, str]]:
    return [(f"  {name}", f"{count:,}") for name, count in counts]


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.1%})" if whole else ""
