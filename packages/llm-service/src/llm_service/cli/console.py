"""Writing to where a person or a program reads: tables on stdout, lines on stderr, whatever state these are in."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["discard_output", "prepare_streams", "show", "tell"]

_WIDEST = 10_000


def show(*parts: RenderableType, fold: bool = False) -> None:
    """Print tables and lines on stdout, in colour on a terminal.

    With `fold` no table is wider than the terminal, as names too long for it go on in the next line.
    Raises what a stream raises: rich by itself would take a reader that has gone for the end of the program.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    console = Console(highlight=False)
    with console.capture() as captured:
        for part in parts:
            if isinstance(part, Table) and not fold:
                # Where names alone are wider than the terminal, a wrapped line is better than half a name.
                wide = console.options.update_width(_WIDEST)
                console.width = max(console.width, Measurement.get(console, wide, part).minimum)
            console.print(part)
    click.echo(captured.get(), nl=False)


def tell(text: str) -> None:
    """Write a line on stderr; one that nobody can read any more stops no work."""
    with contextlib.suppress(OSError):
        click.echo(f"llm-service: {text}", err=True)


def prepare_streams() -> None:
    """Make standard streams that are there, and take every letter.

    One that was closed before the start has its place taken: a file that is opened later could else get the number
    of stdout, and with it whatever is printed. Stdin is empty then, stderr takes everything, and stdout fails when it
    is written to, as an answer that nobody gets is none. What a terminal has no letters for (and half of a surrogate
    pair, which models write at times) is printed as an escape.
    """
    for name, mode, opened in (
        ("stdin", "r", os.O_RDONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            stream = open(os.open(os.devnull, opened), mode, encoding="utf-8")  # noqa: SIM115 - as long as the process
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Drop what stdout still holds, as Python would fail to write it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
