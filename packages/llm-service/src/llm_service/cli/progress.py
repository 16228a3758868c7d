"""What a person sees of a long run while it lasts: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llm_service.cli.console import tell
from llm_service.cli.tally import Tally, shown_cost, shown_count

__all__ = ["LINE_SECONDS", "run_progress"]

LINE_SECONDS = 30.0
"""How often a line is written where stderr is no terminal."""


@contextmanager
def run_progress(tally: Tally, total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show on stderr how far `tally` is on the way to `total`; yields what is to be called at each change."""
    if quiet:
        yield lambda: None
    elif sys.stderr.isatty():
        with _bar(tally, total) as update:
            yield update
    else:
        yield _Lines(tally, total).update


@contextmanager
def _bar(tally: Tally, total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
    )
    pace = _Pace(tally)
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        task = bar.add_task("", total=total, completed=tally.results, rate="", spent="")

        def update() -> None:
            spent = _spent(tally)
            bar.update(task, completed=tally.results, rate=f"{pace.rate():.1f}/s", spent=spent)

        yield update


class _Lines:
    """Writes a line every `LINE_SECONDS`, for logs."""

    def __init__(self, tally: Tally, total: int) -> None:
        self._tally = tally
        self._total = total
        self._pace = _Pace(tally)
        self._due = time.monotonic() + LINE_SECONDS

    def update(self) -> None:
        """Write a line if it is time for one."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LINE_SECONDS
        rate = self._pace.rate()
        left = (self._total - self._tally.results) / rate if rate else 0.0
        tell(
            f"{self._tally.results} of {self._total}, {rate:.1f}/s, {left:.0f} s left, "
            f"{_spent(self._tally)}"
        )


class _Pace:
    """Results per second since it was made."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._before = tally.results
        self._began = time.monotonic()

    def rate(self) -> float:
        """Return results per second; 0 before any time has passed."""
        seconds = time.monotonic() - self._began
        return (self._tally.results - self._before) / seconds if seconds > 0 else 0.0


def _spent(tally: Tally) -> str:
    words = [f"{shown_count(tally.total_tokens)} tok"]
    if tally.costs:
        words.append(shown_cost(tally))
    if tally.failed:
        words.append(f"{tally.failed} failed")
    return ", ".join(words)
