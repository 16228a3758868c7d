"""`llm-service ask`: one question, one answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from llm_core import GenerationRequest, GenerationResult, InvalidValue, Sampling, StreamEvent
from llm_service.cli.attachments import read_image, read_piped, read_schema
from llm_service.cli.options import (
    Number,
    Text,
    config_option,
    env_file_option,
    model_option,
    quiet_option,
)
from llm_service.cli.settings import CommandSettings
from llm_service.cli.speaking import echo_error, footer, print_stream, shown_content
from llm_service.service import BaseLLMService

__all__ = ["ask"]


@click.command()
@click.argument("question", required=False, type=Text())
@model_option
@click.option("--system", type=Text(), help="An instruction to the model.")
@click.option(
    "--image",
    "images",
    multiple=True,
    help="An image to show, a file or URL; may be given more than once.",
)
@click.option(
    "--schema",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with a JSON Schema that the answer must satisfy.",
)
@click.option("--temperature", type=Number(0, 2), help="Higher is more random.")
@click.option(
    "--max-output-tokens", type=click.IntRange(min=1), help="How many tokens the answer may have."
)
@click.option("--attempts", type=click.IntRange(min=1), help="How often to try, at most.")
@click.option(
    "--deadline",
    type=Number(min=0, min_open=True),
    help="Seconds for everything, waits included.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Print the answer as it comes (on a terminal it does); with --json each event as a line.",
)
@config_option
@env_file_option
@quiet_option
def ask(
    question: str | None,
    model: str | None,
    system: str | None,
    images: tuple[str, ...],
    schema: Path | None,
    temperature: float | None,
    max_output_tokens: int | None,
    attempts: int | None,
    deadline: float | None,
    as_json: bool,
    stream: bool | None,
    config_file: Path | None,
    env_file: str,
    quiet: bool,
) -> int:
    """Ask QUESTION and print the answer, and nothing else, on stdout.

    Standard input, if it is no terminal, is the question, or what stands below
    it:  git diff | llm-service ask "Write a commit message"

    Exit code: 0 answered, 1 the call failed, 2 not carried out, 130 interrupted.
    """
    try:
        request = GenerationRequest(
            user=_text(question),
            system=system,
            images=tuple(map(read_image, images)),
            response_schema=None if schema is None else read_schema(schema),
            sampling=None if temperature is None else Sampling(temperature=temperature),
            max_output_tokens=max_output_tokens,
            max_attempts=attempts,
            deadline_seconds=deadline,
            operation_name="ask",
        )
    except InvalidValue as error:
        raise click.UsageError(str(error)) from None
    settings = CommandSettings(config_file, env_file=env_file, model=model)
    if stream is None:
        stream = sys.stdout.isatty() and not as_json
    # Reading the prices takes most of a second, and only these two show them.
    shows_cost = as_json or (sys.stdout.isatty() and not quiet)
    prices = settings.price_book() if shows_cost else None
    with settings.service(operation="ask", price_book=prices) as service:
        result = _answer(service, request, stream=stream, as_json=as_json)
    if result.error is not None:
        echo_error(result.error)
    elif shows_cost and not as_json:
        click.secho(footer(result), err=True, dim=True)
    return 0 if result.error is None else 1


def _text(question: str | None) -> str:
    """Return the question with what was piped in below it."""
    piped = "" if sys.stdin.isatty() else read_piped("; --image FILE shows an image")
    text = "\n\n".join(part for part in (question, piped) if part)
    if not text:
        raise click.UsageError("no question: give it as an argument or on standard input")
    return text


def _answer(
    service: BaseLLMService, request: GenerationRequest, *, stream: bool, as_json: bool
) -> GenerationResult[object]:
    if stream:
        return print_stream(
            service.stream_sync(request), on_event=_print_event if as_json else None
        )
    result = service.generate_sync(request)
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False))
    elif result.success:
        click.echo(shown_content(result.content))
    return result


def _print_event(event: StreamEvent) -> None:
    click.echo(json.dumps(event.to_dict(), ensure_ascii=False))
