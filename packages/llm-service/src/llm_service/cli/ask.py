"""`llm-service ask`: one question, one answer."""

from __future__ import annotations

import json
import sys

import click

from llm_service.cli.options import env_file_option, model_option, open_service

__all__ = ["ask"]


@click.command()
@click.argument("question", required=False)
@model_option
@env_file_option
@click.option("--system", help="An instruction to the model.")
@click.option("--attempts", type=click.IntRange(min=1), help="How often to try, at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def ask(
    question: str | None,
    model: str,
    env_file: str,
    system: str | None,
    attempts: int | None,
    as_json: bool,
) -> int:
    """Ask QUESTION (or what comes on standard input) and print the answer."""
    text = question if question is not None else sys.stdin.read().strip()
    if not text:
        raise click.UsageError("no question: give it as an argument or on standard input")
    with open_service(model, env_file=env_file) as service:
        result = service.generate_sync(
            text, system=system, max_attempts=attempts, operation_name="ask"
        )
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False))
    elif result.success:
        click.echo(result.content)
    if result.error is not None:
        click.echo(f"llm-service: {result.error.type}: {result.error.message}", err=True)
        return 1
    return 0
