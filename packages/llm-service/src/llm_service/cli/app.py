"""The command group, and how every command ends."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

import click

from llm_core import LLMError

__all__ = ["COMMANDS", "PROGRAM", "LazyCommand", "commands", "main"]

PROGRAM = "llm-service"


class LazyCommand(NamedTuple):
    """A command that is imported when it is used."""

    place: str
    """``module:attribute``."""
    summary: str
    """Its line in the list of commands."""


COMMANDS: Mapping[str, LazyCommand] = {
    "ask": LazyCommand("llm_service.cli.ask:ask", "Ask one question and print the answer."),
    "chat": LazyCommand("llm_service.cli.chat:chat", "Talk with a model, turn by turn."),
    "completion": LazyCommand(
        "llm_service.cli.completion:completion", "Print a shell's completion script."
    ),
    "config": LazyCommand("llm_service.cli.config:config", "Check and explain the configuration."),
    "demo": LazyCommand("llm_service.cli.demo:demo", "Ask a simulated OpenAI for fifty capitals."),
    "doctor": LazyCommand("llm_service.cli.doctor:doctor", "Say what works and what to install."),
    "models": LazyCommand("llm_service.cli.models:models", "List models and what they can do."),
    "play": LazyCommand("llm_service.cli.audio:play", "Play a sound file."),
    "prices": LazyCommand("llm_service.cli.prices:prices", "Show what models cost."),
    "record": LazyCommand("llm_service.cli.audio:record", "Record from the microphone."),
    "run": LazyCommand("llm_service.cli.run:run", "Answer a file of requests."),
    "say": LazyCommand("llm_service.cli.audio:say", "Speak a text."),
    "stats": LazyCommand("llm_service.cli.stats:stats", "Sum up a file of results."),
    "talk": LazyCommand("llm_service.cli.audio:talk", "Talk with a model by voice."),
    "transcribe": LazyCommand(
        "llm_service.cli.audio:transcribe", "Write down what is said in a sound file."
    ),
}
"""Every command by its name."""


class ReaderGone(Exception):
    """Whoever read our output has closed it."""


class LazyGroup(click.Group):
    """Imports a command when it is named, so that `--help` and completion do not wait for all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the list of commands."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None if there is none of that name."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = row.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; click would take a reader that has gone for a failed call."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as gone:
            raise ReaderGone from gone

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self._summary(ctx, name)) for name in self.list_commands(ctx)]
            )

    def _summary(self, ctx: click.Context, name: str) -> str:
        if name in COMMANDS:
            return COMMANDS[name].summary
        command = super().get_command(ctx, name)
        return command.get_short_help_str() if command else ""


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Exit codes: 0 all went well; 1 a call failed or a check found a fault; "
    "2 the command could not be carried out (one line on stderr says why); 130 interrupted.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.version_option(package_name="llm-service")
def commands(quiet: bool) -> None:
    """Ask language models, one question or a whole file: limits kept, everything
    accounted for."""


def main() -> None:
    """Run the command; every failure is one line on stderr and an exit code, a command left out its help."""
    try:
        code = commands(standalone_mode=False, prog_name=PROGRAM)
        sys.stdout.flush()
    except click.Abort:
        click.echo("llm-service: interrupted", err=True)
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        click.echo(f"llm-service: {_one_line(error.format_message())}", err=True)
        code = 2
    except LLMError as error:
        # A configuration that no command can work with, such as telemetry that nobody chose.
        click.echo(f"llm-service: {_one_line(str(error))}", err=True)
        code = 2
    except (ReaderGone, BrokenPipeError):
        # What Python would write at exit has no reader either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


def _one_line(text: str) -> str:
    return " ".join(text.split())
