"""Reading a file of requests: one JSON object a line, with the fields of `GenerationRequest`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from llm_core import GenerationRequest, InvalidValue

__all__ = ["read_requests"]


def read_requests(path: Path) -> list[GenerationRequest]:
    """Return the file's requests in order; blank lines are skipped.

    Raises click.ClickException, one line naming file and line, for a file that cannot be read,
    a line that is no JSON object, or an object that is no request: before anything is sent.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise click.ClickException(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be read: {error.strerror}") from None
    requests = [
        _parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not requests:
        raise click.ClickException(f"{path}: holds no requests, expected one JSON object a line")
    return requests


def _parse(line: str, place: str) -> GenerationRequest:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{place}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise click.ClickException(f"{place}: got {line.strip()[:40]}, expected a JSON object")
    try:
        return GenerationRequest.from_dict(data)
    except InvalidValue as error:
        raise click.ClickException(f"{place}: {error}") from None
