"""Keys and settings from a `.env` file."""

from __future__ import annotations

import os.path
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from logging import LogRecord
    from pathlib import Path

__all__ = ["env_file_values", "load_environment", "malformed_lines"]


def load_environment(env_file: str | Path = ".env") -> bool:
    """Set the variables of `env_file` in `os.environ`, except those that are set already.

    Returns whether the file was there. Programs call this at their start, as the `llm-service` command does;
    nothing in these packages does so by itself. A line that is no ``NAME=value`` is left out and logged.
    """
    if not os.path.isfile(env_file):
        return False
    from dotenv import load_dotenv

    with _faults_named(env_file):
        load_dotenv(env_file, override=False)
    return True


def env_file_values(env_file: str | Path | None) -> dict[str, str]:
    """Return the variables that `env_file` sets, none if it is not there; as `load_environment`, but sets nothing.

    Raises OSError and UnicodeDecodeError for a file that cannot be read.
    """
    if env_file is None or not os.path.isfile(env_file):
        return {}
    from dotenv import dotenv_values

    with _faults_named(env_file):
        values = dotenv_values(env_file)
    return {name: value for name, value in values.items() if value is not None}


def malformed_lines(env_file: str | Path) -> list[int]:
    """Return the numbers of the lines that are no ``NAME=value``; raises what reading the file raises."""
    from dotenv.parser import parse_stream

    with open(env_file, encoding="utf-8") as stream:
        originals = [found.original for found in parse_stream(stream) if found.error]
    # A statement begins with the blank lines before it.
    return [one.line + _blank_lines(one.string) for one in originals]


def _blank_lines(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


@contextmanager
def _faults_named(env_file: str | Path) -> Iterator[None]:
    """Log lines that dotenv leaves out by file and number, in place of its own words, which name no file."""
    import logging

    dotenv = logging.getLogger("dotenv.main")

    def drop(_record: LogRecord) -> bool:
        return False

    dotenv.addFilter(drop)
    try:
        yield
    finally:
        dotenv.removeFilter(drop)
    for line in malformed_lines(env_file):
        logging.getLogger(__name__).warning("%s:%d: not NAME=value, left out", env_file, line)
