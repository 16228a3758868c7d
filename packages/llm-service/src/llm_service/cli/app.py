"""The command group, and how every command ends."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple

import click

from llm_core import LLMError
from llm_service.cli.console import discard_output, prepare_streams, tell

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


@contextmanager
def _telling_readers_from_calls() -> Iterator[None]:
    """Name a reader that has gone, which click would take for a failed call."""
    try:
        yield
    except BrokenPipeError as gone:
        raise ReaderGone from gone


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was named; raises click.UsageError with the closest name if there is none."""
        name = args[0]
        is_named = not (ctx.resilient_parsing or name.startswith("-"))
        if is_named and self.get_command(ctx, name) is None:
            close = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"no command is called {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the arguments, which may print the help."""
        with _telling_readers_from_calls():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with _telling_readers_from_calls():
            return super().invoke(ctx)

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
    epilog="Exit codes: 0 all went well; 1 a call failed or a check found a fault; 2 the command "
    "could not be carried out (one line on stderr says why); 130 interrupted by Ctrl-C (143 by SIGTERM, "
    "129 by SIGHUP); 141 whoever read the output has gone.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.version_option(package_name="llm-service")
def commands(quiet: bool) -> None:
    """Ask language models, one question or a whole file: limits kept, everything
    accounted for."""


def main() -> None:
    """Run the command; every failure is one line on stderr and an exit code, a command left out its help."""
    prepare_streams()
    # Python looks at its end for garbage among all that the vendors' SDKs made, which takes half a second.
    atexit.register(gc.freeze)
    try:
        code = commands(standalone_mode=False, prog_name=PROGRAM)
        sys.stdout.flush()
    except click.Abort:
        tell("interrupted")
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.UsageError as error:
        tell(_with_hint(_one_line(error.format_message()), error.ctx))
        code = 2
    except click.ClickException as error:
        tell(_one_line(error.format_message()))
        code = 2
    except LLMError as error:
        # A configuration that no command can work with, such as telemetry that nobody chose.
        tell(_one_line(str(error)))
        code = 2
    except (ReaderGone, BrokenPipeError):
        discard_output()
        code = 141
    except OSError as error:
        # Files of the user are named where they are opened; what is left is most often a full disk behind stdout.
        tell(f"{error.filename or 'standard output'}: {error.strerror or error}")
        discard_output()
        code = 2
    sys.exit(code)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _with_hint(text: str, context: click.Context | None) -> str:
    """Return what was typed wrongly with where to read how it is right."""
    hint = f"ry '{context.command_path if context else PROGRAM} --help'"
    return f"{text} T{hint}" if text.endswith(("?", "?)")) else f"{text.rstrip('.')}; t{hint}"
