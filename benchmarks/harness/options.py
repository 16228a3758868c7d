"""The options that every benchmark has."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How to run."""

    rounds: int
    dry_run: bool
    """Print, and write no page."""
    peers: bool
    given: argparse.Namespace
    """What the benchmark itself asked for."""


def read_options(
    about: str | None, *, rounds: int, has_peers: bool = True, **own: dict[str, object]
) -> Options:
    """Read the command line: `--rounds`, `--dry-run`, `--no-peers`, and `own` options (name: argparse's settings).

    A run without peers writes no page, since the page would be without them.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns ({rounds})")
    parser.add_argument("--dry-run", action="store_true", help="print, and write no page")
    if has_peers:
        words = "ours alone; writes no page"
        parser.add_argument("--no-peers", action="store_true", help=words)
    for name, settings in own.items():
        parser.add_argument("--" + name.replace("_", "-"), **settings)  # type: ignore[arg-type]
    given = parser.parse_args()
    alone = has_peers and given.no_peers
    return Options(given.rounds, given.dry_run or alone, not alone, given)
