"""Secrets by reference: a configuration says where a key is, never what it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from llm_core import MissingCredentials

__all__ = ["SecretReader", "SecretReference", "SecretSource"]


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
            text = self._variable(reference.place)
            where = f"set the variable {reference.place} in the environment or .env"
        else:
            text = _content(Path(reference.place))
            where = f"put it into the file {reference.place}, readable for this process"
        if not text:
            raise MissingCredentials(f"no secret at {reference}: {where}")
        return text

    def has(self, reference: SecretReference) -> bool:
        """Say whether `read` would succeed."""
        try:
            return bool(self.read(reference))
        except MissingCredentials:
            return False

    def _variable(self, name: str) -> str:
        environ = os.environ if self._environ is None else self._environ
        return (environ.get(name) or self._env_file_values.get(name) or "").strip()

    def __repr__(self) -> str:
        return "SecretReader(…)"


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
