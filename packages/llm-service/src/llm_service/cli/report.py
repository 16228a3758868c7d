"""What a person sees of many results: a progress bar, a table, a line of totals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_core import GenerationResult

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["answers_table", "progress_bar", "summary_line"]


@contextmanager
def progress_bar(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show on stderr how many of `total` are done; yields the function that counts one more."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def answers_table(rows: Sequence[tuple[str, str, GenerationResult[Any]]]) -> Table:
    """Return a table of (question, wanted answer, result); it fits into 80 columns."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("question", overflow="ellipsis", no_wrap=True)
    table.add_column("answer", overflow="ellipsis", no_wrap=True, max_width=16)
    for name in ("tokens", "answered", "queued"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for question, wanted, result in rows:
        right = result.success and result.content == wanted
        said = str(result.content) if result.success else str(result.error and result.error.type)
        table.add_row(
            question,
            said,
            str(result.usage.total_tokens),
            _milliseconds(result.timestamps.call_seconds),
            _milliseconds(result.backoff.gate_wait_seconds),
            "[green]✓[/]" if right else f"[red]✗ {wanted}[/]",
        )
    return table


def summary_line(results: Sequence[GenerationResult[Any]]) -> str:
    """Return the totals of many results in one line."""
    succeeded = sum(result.success for result in results)
    tokens_in = sum(result.usage.input_tokens for result in results)
    tokens_out = sum(result.usage.output_tokens for result in results)
    attempts = sum(len(result.attempts) for result in results)
    return (
        f"{succeeded} of {len(results)} answered in {_span(results):.1f} s, {attempts} attempts, "
        f"{tokens_in} tokens in, {tokens_out} out"
    )


def _span(results: Sequence[GenerationResult[Any]]) -> float:
    """Return the seconds from the first request to the last answer."""
    starts = [result.timestamps.requested for result in results]
    ends = [result.timestamps.completed or result.timestamps.requested for result in results]
    return (max(ends) - min(starts)) / 1e9


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
