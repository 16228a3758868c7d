"""`llm-service doctor`: what works, what does not, and what to install."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_service.cli.console import show
from llm_service.cli.letting_go import run_letting_go
from llm_service.cli.options import config_option, env_file_option
from llm_service.environment import load_environment

if TYPE_CHECKING:
    from llm_service.cli.checks import Finding

__all__ = ["doctor"]

_MARKS = {"works": ("✓", "green"), "absent": ("·", "dim"), "faulty": ("✗", "red")}


@click.command()
@click.option("--offline", is_flag=True, help="Send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
@env_file_option
def doctor(offline: bool, as_json: bool, config_file: Path | None, env_file: str) -> int:
    """Look at the configuration, keys, extras, devices, services, clock and limits.

    Each key is tried by asking for the vendor's list of models, which costs
    nothing; keys and passwords are never printed.

    Exit code: 0, 1 if something that is configured does not work, 2 not carried
    out, 130 interrupted, which ends it at once.
    """
    from llm_service.cli.checks import State, devices, examine

    has_file = load_environment(env_file)
    sound = devices()
    findings = run_letting_go(
        lambda: examine(
            os.environ, config_file=config_file, env_file=env_file, offline=offline, sound=sound
        )
    )
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in findings]))
    else:
        _print(findings, f"{env_file}: {'read' if has_file else 'no such file'}")
    return 1 if any(finding.state is State.FAULTY for finding in findings) else 0


def _print(findings: Sequence[Finding], note: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for area, some in groupby(findings, key=lambda finding: finding.area):
        table.add_row("", Text(area, style="bold"), note if area == "keys" else "")
        for finding in some:
            mark, style = _MARKS[finding.state]
            said = Text(finding.said)
            if finding.advice:
                said.append(f"\n→ {finding.advice}", style="bold" if style == "red" else "")
            table.add_row(Text(mark, style=style), finding.subject, said)
    faults = sum(finding.state == "faulty" for finding in findings)
    verdict = f"{faults} configured and not working" if faults else "all that is configured works"
    show(table, "", Text(verdict, style="red" if faults else "green"))
