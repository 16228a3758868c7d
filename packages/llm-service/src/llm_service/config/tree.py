"""Settings before they are checked: plain values in nested dicts, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from llm_core import Value, immutable

__all__ = ["Origin", "OriginKind", "SettingPath", "Settings", "dotted"]

SettingPath: TypeAlias = tuple[str | int, ...]
"""The way to a setting, such as ``("models", "fallbacks", 0, "model")``."""


class OriginKind(StrEnum):
    """The kinds of source, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    VARIABLE = "variable"
    ENV_FILE = "env_file"
    ARGUMENT = "argument"


@immutable
class Origin(Value):
    """Where a value came from."""

    kind: OriginKind
    place: str
    """For people: ``llm.yaml:12``, a variable's name, ``NAME in .env``, ``argument model``."""
    folder: Path | None = None
    """Where a relative path of this value starts; None for the current folder."""

    def __str__(self) -> str:
        return self.place


@dataclass(slots=True)
class Settings:
    """A tree of values with an origin for each of its branches and leaves."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[SettingPath, Origin] = field(default_factory=dict)

    def put(self, path: SettingPath, value: Any, origin: Origin) -> None:
        """Set the value at `path`; mappings are merged, anything else replaces what was there."""
        if isinstance(value, Mapping):
            self._branch(path, origin)
            for key, child in value.items():
                self.put((*path, str(key)), child, origin)
            return
        parent = self._branch(path[:-1], origin)
        self._forget(path)
        parent[str(path[-1])] = value
        self.origins[path] = origin

    def leaves(self) -> Iterator[tuple[SettingPath, Any]]:
        """Yield every value that is no mapping (an empty one counts) with its path."""
        yield from _leaves((), self.values)

    def origin_of(self, path: SettingPath) -> Origin | None:
        """Return where the value at `path`, or the nearest branch above it, came from."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None

    def _branch(self, path: SettingPath, origin: Origin) -> dict[str, Any]:
        here = self.values
        for depth, key in enumerate(path, 1):
            below = here.get(str(key))
            if not isinstance(below, dict):
                self._forget(path[:depth])
                below = here[str(key)] = {}
            self.origins.setdefault(path[:depth], origin)
            here = below
        return here

    def _forget(self, path: SettingPath) -> None:
        gone = [known for known in self.origins if known[: len(path)] == path]
        for known in gone:
            del self.origins[known]


def _leaves(path: SettingPath, value: Any) -> Iterator[tuple[SettingPath, Any]]:
    if isinstance(value, dict) and (value or not path):
        for key, child in value.items():
            yield from _leaves((*path, key), child)
    else:
        yield path, value


def dotted(path: SettingPath) -> str:
    """Write a path for people: ``models.fallbacks[0].model``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text
