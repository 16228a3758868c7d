"""Tables in the terminal, pages in docs/benchmarks/, and the index over them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.environments import ROOT
from benchmarks.harness.machine import conditions
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Measured
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

FOLDER = ROOT / "docs" / "benchmarks"
COLUMNS = 80
_SUMMARY = "| in short | ours | others |"
_MISSED = "## Targets that were missed"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head; the first column is words, the others are figures."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A row of the page's summary, which the index shows too."""

    what: str
    ours: str
    others: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a benchmark found."""

    name: str
    """Of the script, the page and the picture."""
    title: str
    summary: Sequence[Headline]
    tables: Sequence[Table]
    better: Sequence[str] | None
    """Where a peer is better, a sentence each; None for a page on which there are no peers."""
    method: str
    versions: str
    has_picture: bool = True
    picture_says: str = ""
    missed: Sequence[str] = ()
    """Targets that were not met."""


def compared(
    title: str,
    measured: Sequence[Measured],
    yardstick: str,
    *,
    unit: str,
    digits: int = 0,
    note: str = "",
) -> Table:
    """Return a table of medians, quartiles and ratios to one contender."""
    base = next(one for one in measured if one.name == yardstick)
    rows = []
    for one in measured:
        low, high = one.quartiles
        ratio = one.over(base)
        least, most = ratio.quartiles
        rows.append(
            (
                f"**{one.name}**" if one.is_ours else one.name,
                f"{one.median:,.{digits}f}",
                f"{low:,.{digits}f} – {high:,.{digits}f}",
                f"{ratio.median:.2f}",
                "" if one is base else f"{least:.2f} – {most:.2f}",
            )
        )
    words = f"Ratios are to {yardstick}, each within one round. {note}".strip()
    return Table(title, ("", unit, "middle half", "ratio", "middle half"), rows, words)


def against(measured: Sequence[Measured], ours: str) -> str:
    """Return how many times ours each peer took, as words for a summary."""
    base = next(one for one in measured if one.name == ours)
    peers = [one.over(base) for one in measured if not one.is_ours]
    return "; ".join(f"{peer.name} × {peer.median:.2g}" for peer in peers)


def where_peers_are_better(
    measured: Sequence[Measured], ours: str, *, at: str, more_is_better: bool = False
) -> list[str]:
    """Return a sentence that names the peers whose median is better than ours, if there are any."""
    base = next(one for one in measured if one.name == ours)
    words = [
        f"{peer.name} {peer.over(base).median:.2f}"
        for peer in measured
        if not peer.is_ours
        and (peer.median > base.median if more_is_better else peer.median < base.median)
    ]
    return (
        [f"{at[0].upper()}{at[1:]}, as multiples of {ours}: {', '.join(words)}."] if words else []
    )


def publish(page: Page, options: Options) -> int:
    """Print a page and, unless it is a dry run, write it and the index; return 1 if a target was missed."""
    console = Console(width=COLUMNS)
    console.print(f"[bold]{page.title}[/]\n")
    for table in page.tables:
        _print(table, console)
    for sentence in page.better or ():
        console.print(f"* {_plain(sentence)}", highlight=False, markup=False)
    for target in page.missed:
        console.print(f"missed: {target}", style="bold red", markup=False)
    if not options.dry_run:
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{page.name}.md").write_text(_markdown(page), encoding="utf-8")
        write_index()
        console.print(f"written: docs/benchmarks/{page.name}.md")
    return int(bool(page.missed))


def write_index() -> None:
    """Write docs/benchmarks/README.md from the summaries of all pages."""
    rows = []
    for path in sorted(FOLDER.glob("*.md")):
        text = path.read_text("utf-8")
        if _SUMMARY in text:
            table = text.partition(_SUMMARY)[2].strip().partition("\n\n")[0].splitlines()[1:]
            rows += [f"{row} [{path.stem}]({path.name}) |" for row in table]
    (FOLDER / "README.md").write_text(
        "# Benchmarks\n\n"
        "What the packages cost beside their peers, which are the releases on PyPI, each in an environment of its own.\n"
        "All contenders of a page take turns in one run, against one server on the same machine.\n"
        "Figures are medians; ratios carry over to other machines better than times do.\n"
        "`× 3` at a peer means three times ours.\n"
        "Where the others are empty there is nothing to compare with, and the targets are what counts.\n"
        "Each page says where a peer is better, which targets were missed, and how to repeat it.\n\n"
        "| | ours | others | page |\n|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "`hatch run bench NAME` measures one page again and writes it, `hatch run bench all` all of them.\n"
        "No benchmark is part of the tests, and nothing leaves the machine but uv for the peers' packages.\n\n"
        "<!-- contents: * -->\n",
        encoding="utf-8",
    )


def missed_on(page: Path) -> list[str]:
    """Return the targets that a written page names as missed."""
    section = page.read_text("utf-8").partition(_MISSED)[2].strip().partition("\n\n")[0]
    return [line.removeprefix("- ") for line in section.splitlines()]


def _markdown(page: Page) -> str:
    parts = [f"# {page.title}", _SUMMARY + "\n|---|---|---|"]
    parts[1] += "".join(f"\n| {row.what} | {row.ours} | {row.others} |" for row in page.summary)
    if page.has_picture:
        parts.append(f"![{page.picture_says or page.title}]({page.name}.png)")
    for table in page.tables:
        parts += [f"## {table.title}", _markdown_table(table)]
        if table.note:
            parts.append(table.note)
    if page.better is not None:
        parts += ["## Where a peer is better"]
        parts.append(_listed(page.better) or "In nothing that is measured here.")
    if page.missed:
        parts += [_MISSED, _listed(page.missed)]
    parts += [
        "## How it was measured",
        page.method,
        f"{conditions()}.\nVersions: {page.versions}." if page.versions else f"{conditions()}.",
        f"To repeat it: `hatch run bench {page.name}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [f"| {' | '.join(table.head)} |", "|---" + "|---:" * (len(table.head) - 1) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join(lines)


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _print(table: Table, console: Console) -> None:
    shown = RichTable(title=_plain(table.title), title_justify="left", box=SIMPLE_HEAD)
    for number, name in enumerate(table.head):
        shown.add_column(_plain(name), justify="right" if number else "left")
    for row in table.rows:
        style = "bold" if row[0].startswith("**") else ""
        shown.add_row(*(Text(_plain(cell)) for cell in row), style=style)
    console.print(shown)
    if table.note:
        console.print(_plain(table.note), markup=False, highlight=False)
    console.print()


def _plain(text: str) -> str:
    return re.sub(r"\*\*|`", "", text)


def picture(name: str) -> Path:
    """Return where the picture of a page goes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER / f"{name}.png"
