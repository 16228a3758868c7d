"""The command group, and how every command ends."""

from __future__ import annotations

import sys

import click

from llm_service.cli.ask import ask
from llm_service.cli.demo import demo
from llm_service.cli.run import run

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="llm-service")
def commands() -> None:
    """Ask language models, one question or a whole file: limits kept, everything accounted for."""


commands.add_command(ask)
commands.add_command(demo)
commands.add_command(run)


def main() -> None:
    """Run the command; every failure is one line on stderr and an exit code."""
    try:
        sys.exit(commands(standalone_mode=False))
    except click.Abort:
        click.echo("llm-service: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        click.echo(f"llm-service: {error.format_message()}", err=True)
        sys.exit(2)
