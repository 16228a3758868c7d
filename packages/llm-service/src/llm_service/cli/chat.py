"""`llm-service chat`: a conversation, turn by turn."""

from __future__ import annotations

import contextlib
import sys
from difflib import get_close_matches
from pathlib import Path

import click

from llm_core import GenerationRequest, Message
from llm_service.cli.console import tell
from llm_service.cli.options import Text, config_option, env_file_option, model_option, quiet_option
from llm_service.cli.settings import CommandSettings
from llm_service.cli.speaking import echo_error, footer, print_stream
from llm_service.service import BaseLLMService

__all__ = ["chat"]

_COMMANDS = ("/exit", "/help", "/new", "/quit")
_HELP = """\
/exit, /quit or Ctrl-D ends, /new forgets what was said, Ctrl-C stops an answer.
A line that ends with \\ goes on in the next one.
// sends a line that begins with one /."""


@click.command()
@model_option
@click.option(
    "--system", type=Text(), help="An instruction to the model, for the whole conversation."
)
@config_option
@env_file_option
@quiet_option
def chat(
    model: str | None, system: str | None, config_file: Path | None, env_file: str, quiet: bool
) -> int:
    """Talk with a model; answers appear as they come.

    /exit or Ctrl-D ends, /new forgets what was said, /help tells the rest. Other
    lines that begin with / are refused: // sends one that begins with one /.
    Ctrl-C stops an answer, and at the prompt ends the talk; a turn without an
    answer is forgotten. Lines may be piped in, too.

    Exit code: 0 all answered, 1 an answer failed or a piped line was refused,
    2 not carried out, 130 interrupted at the prompt.
    """
    settings = CommandSettings(config_file, env_file=env_file, model=model)
    prices = settings.price_book() if sys.stdout.isatty() and not quiet else None
    with settings.service(operation="chat", price_book=prices) as service:
        conversation = Conversation(service, system, quiet=quiet)
        has_refused = False
        if sys.stdin.isatty() and not quiet:
            keys = "/exit ends, /new forgets what was said, /help tells the rest"
            click.secho(f"{settings.model('chat')}: {keys}", err=True, dim=True)
        while (text := _next_turn()) is not None:
            if text == "/new":
                conversation.forget()
            elif text == "/help":
                click.echo(_HELP, err=True)
            elif text.startswith("/") and not text.startswith("//"):
                tell(_refusal(text))
                has_refused = True
            elif text:
                conversation.say(text.removeprefix("/") if text.startswith("//") else text)
    # A person sees the refusal and types again; a program has no answer where it expects one.
    return 1 if conversation.has_failed or (has_refused and not sys.stdin.isatty()) else 0


def _refusal(text: str) -> str:
    """Return why a line that begins with a slash is not sent, and what to type."""
    typed = text.split()[0]
    if typed in _COMMANDS:
        return f"{typed} takes nothing after it; to send it as it is: /{typed} …"
    close = get_close_matches(typed, _COMMANDS, n=1)
    meant = f"did you mean {close[0]}?" if close else "/help tells which there are."
    return f"no command {typed[:40]}; {meant} To send it as it is: /{typed[:40]}"


class Conversation:
    """What was said so far, and the service that answers."""

    def __init__(self, service: BaseLLMService, system: str | None, *, quiet: bool) -> None:
        self._service = service
        self._start = () if system is None else (Message.system(system),)
        self._turns: tuple[Message, ...] = ()
        self._quiet = quiet
        self.has_failed = False
        """Whether any turn got no answer."""

    def forget(self) -> None:
        """Begin anew, with the instruction alone."""
        self._turns = ()

    def say(self, text: str) -> None:
        """Say something, and print the answer; without one the turn is forgotten."""
        turns = (*self._turns, Message.user(text))
        request = GenerationRequest(messages=(*self._start, *turns), operation_name="chat")
        try:
            result = print_stream(self._service.stream_sync(request))
        except KeyboardInterrupt:
            click.echo(err=True)
            tell("stopped; the turn is forgotten")
            return
        if result.error is not None:
            self.has_failed = True
            echo_error(result.error)
            return
        self._turns = (*turns, Message.assistant(str(result.content)))
        if sys.stdout.isatty() and not self._quiet:
            click.secho(footer(result), err=True, dim=True)


def _next_turn() -> str | None:
    """Read what is said next, or None at the end."""
    lines: list[str] = []
    while True:
        line = _read_line("> " if not lines else "… ")
        if line is None:
            return "\n".join(lines) or None
        lines.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            text = "\n".join(lines).strip()
            return None if text in ("/exit", "/quit") else text


def _read_line(prompt: str) -> str | None:
    if not sys.stdin.isatty():
        try:
            line = sys.stdin.buffer.readline().decode("utf-8")
        except UnicodeDecodeError as error:
            place = f"standard input: not UTF-8 text (byte {error.start} of a line)"
            raise click.ClickException(place) from None
        return line.rstrip("\r\n") if line else None
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives input() a history and editing keys
    try:
        return input(prompt)
    except EOFError:
        click.echo()
        return None
