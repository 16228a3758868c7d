"""Keys and settings from a `.env` file."""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_environment"]


def load_environment(env_file: str | Path = ".env") -> bool:
    """Set the variables of `env_file` in `os.environ`, except those that are set already.

    Returns whether the file was there. Programs call this at their start, as the `llm-service` command does;
    nothing in these packages does so by itself.
    """
    if not os.path.isfile(env_file):
        return False
    from dotenv import load_dotenv

    load_dotenv(env_file, override=False)
    return True
