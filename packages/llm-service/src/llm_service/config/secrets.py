"""Secrets by reference: a configuration says where a key is, never what it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from llm_core import InvalidValue, MissingCredentials
from llm_service.bounded_file import read_bounded

__all__ = ["SecretReader", "SecretReference", "SecretSource"]

_MOST_BYTES = 65_536
"""More than any key has; a device would be read for ever."""


class SecretSource(StrEnum):
    """Where a secret is kept."""

    ENVIRONMENT = "env"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is: ``env:NAME`` or ``file:PATH``; safe to print, log and store."""

    source: SecretSource
    place: str
    """The variable's name or the file's path."""

    @classmethod
    def parse(cls, text: object) -> SecretReference:
        """Read ``env:NAME`` or ``file:PATH``; raise ValueError, which does not repeat what it was given."""
        if isinstance(text, SecretReference):
            return text
        source, colon, place = text.partition(":") if isinstance(text, str) else ("", "", "")
        if not colon or source not in tuple(SecretSource) or not place.strip():
            raise ValueError("expected where the secret is, 'env:NAME' or 'file:PATH', not itself")
        return cls(SecretSource(source), place.strip())

    def __str__(self) -> str:
        return f"{self.source}:{self.place}"


class SecretReader:
    """Reads secrets when they are needed and keeps none.

    A variable is looked up in the environment and then among `env_file_values`, those of the `.env` file:
    for keys the environment wins, as it does wherever keys are read here.
    """

    def __init__(
        self,
        env_file_values: Mapping[str, str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._env_file_values = dict(env_file_values or {})
        self._environ = environ

    def read(self, reference: SecretReference) -> str:
        """Return the secret without surrounding white space.

        Raises MissingCredentials naming the variable or file if it is not there or empty.
        """
        if reference.source is SecretSource.ENVIRONMENT:
            text, fault = self._variable(reference.place), ""
            where = f"set the variable {reference.place} in the environment or .env"
        else:
            text, fault = _content(Path(reference.place))
            where = f"put it into the file {reference.place}, readable for this process"
        if not text:
            fault = f" ({fault})" if fault else ""
            raise MissingCredentials(f"no secret at {reference}{fault}: {where}")
        return text

    def has(self, reference: SecretReference) -> bool:
        """Say whether `read` would succeed."""
        try:
            return bool(self.read(reference))
        except MissingCredentials:
            return False

    def fault(self, reference: SecretReference) -> str:
        """Say what is wrong with a file that is there and holds no secret; empty for all else."""
        if reference.source is not SecretSource.FILE or not os.path.lexists(reference.place):
            return ""
        return _content(Path(reference.place))[1]

    def _variable(self, name: str) -> str:
        environ = os.environ if self._environ is None else self._environ
        return (environ.get(name) or self._env_file_values.get(name) or "").strip()

    def __repr__(self) -> str:
        return "SecretReader(…)"


def _content(path: Path) -> tuple[str, str]:
    """Return the secret in a file, or an empty one and what is wrong with the file."""
    try:
        text = read_bounded(path, _MOST_BYTES).decode("utf-8").strip()
    except OSError as error:
        return "", (error.strerror or str(error)).lower()
    except UnicodeDecodeError:
        return "", "not UTF-8 text"
    except InvalidValue as error:
        return "", str(error)
    except ValueError:
        return "", "no path"
    return text, "" if text else "an empty file"
