"""Figures beside the targets that they must meet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.harness.pages import Table
from benchmarks.harness.rounds import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A line of a table: what was measured, what came out, and what should have."""

    what: str
    found: str
    target: str = ""
    """Empty for what is only told."""
    met: bool = True


def findings_table(
    title: str, findings: Iterable[Finding], note: str = "", *, found: str = "measured"
) -> Table:
    """Return a table of findings; `found` is the title of their column."""
    rows = [
        (one.what, one.found, one.target, ("yes" if one.met else "**no**") if one.target else "")
        for one in findings
    ]
    return Table(title, ("", found, "target", "met"), rows, note)


def missed_targets(findings: Iterable[Finding]) -> list[str]:
    """Return a sentence for each target that was not met."""
    return [f"{one.what}: {one.found}, target {one.target}" for one in findings if not one.met]


def spread(measured: Measured, digits: int, unit: str = "") -> str:
    """Return a median with its unit, and the middle half of the rounds in brackets."""
    low, high = measured.quartiles
    return f"{measured.median:,.{digits}f}{unit} ({low:,.{digits}f} – {high:,.{digits}f})"
