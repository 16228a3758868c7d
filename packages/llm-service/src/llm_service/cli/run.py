"""`llm-service run`: a file of requests, answered."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from llm_core import GenerationRequest, GenerationResult
from llm_service.cli.options import (
    concurrency_option,
    env_file_option,
    model_option,
    open_service,
)
from llm_service.cli.report import progress_bar, summary_line
from llm_service.cli.requests_file import read_requests
from llm_service.service import BaseLLMService

__all__ = ["run"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@model_option
@env_file_option
@concurrency_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the results go: one JSON object a line, in the order of FILE.",
)
def run(file: Path, model: str, env_file: str, concurrency: int, output: Path) -> int:
    """Answer every request of FILE (JSON lines with the fields of GenerationRequest).

    OUTPUT appears whole when the last answer is there; if the command is stopped before, it does not appear.
    """
    requests = read_requests(file)
    if not output.parent.is_dir():
        raise click.ClickException(f"{output}: its folder does not exist")
    service = open_service(model, env_file=env_file, max_concurrent_requests=concurrency)
    partial = output.with_name(output.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            results = asyncio.run(_answer(service, requests, concurrency, stream))
        os.replace(partial, output)
    except OSError as error:
        raise click.ClickException(f"{output}: cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    click.echo(summary_line(results), err=True)
    return 0 if all(result.success for result in results) else 1


async def _answer(
    service: BaseLLMService,
    requests: Sequence[GenerationRequest],
    concurrency: int,
    stream: TextIO,
) -> list[GenerationResult[Any]]:
    """Answer all requests; write each result as soon as all before it are written."""
    results: dict[int, GenerationResult[Any]] = {}
    written = 0
    async with service:
        with progress_bar(len(requests)) as advance:
            async for position, result in service.generate_many(requests, in_flight=concurrency):
                results[position] = result
                advance()
                while written in results:
                    line = json.dumps(results[written].to_dict(), ensure_ascii=False)
                    stream.write(line + "\n")
                    written += 1
    return [results[position] for position in range(len(requests))]
