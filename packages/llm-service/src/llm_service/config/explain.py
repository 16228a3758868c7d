"""Each setting, its value, and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from llm_core import Value, immutable
from llm_service.config.secrets import SecretReference
from llm_service.config.sources import LoadedConfig
from llm_service.config.tree import Origin, OriginKind, SettingPath, dotted

__all__ = ["Setting", "explain"]

_DEFAULT = Origin(kind=OriginKind.DEFAULT, place="default")


@immutable
class Setting(Value):
    """One line of an explanation."""

    name: str
    """Such as ``limits.max_rpm``."""
    value: Any
    """As JSON would have it; of a secret the place, never the secret."""
    origin: Origin
    note: str = ""
    """Of a secret: whether it is there."""

    def to_dict(self) -> dict[str, Any]:
        """Return the line as JSON-able data."""
        written = {"name": self.name, "value": self.value, "origin": str(self.origin)}
        return {**written, "note": self.note} if self.note else written


def explain(loaded: LoadedConfig) -> list[Setting]:
    """Return every setting, defaults included, in the order of the schema."""
    plain = loaded.config.model_dump(mode="json")
    return [
        Setting(
            name=dotted(path),
            value=_at(plain, path),
            origin=_origin(loaded, path),
            note=_note(value, loaded),
        )
        for path, value in _settings((), loaded.config)
    ]


def _settings(path: SettingPath, value: Any) -> Iterator[tuple[SettingPath, Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _settings((*path, name), getattr(value, name))
    elif isinstance(value, Mapping) and value:
        for name, below in value.items():
            yield from _settings((*path, name), below)
    elif isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        for position, item in enumerate(value):
            yield from _settings((*path, position), item)
    else:
        yield path, value


def _origin(loaded: LoadedConfig, path: SettingPath) -> Origin:
    given: Any = loaded.settings.values
    for key in path:
        if isinstance(given, dict) and key in given:
            given = given[str(key)]
        elif isinstance(given, list | tuple) and isinstance(key, int):
            given = given[key]
        else:
            return _DEFAULT
    return loaded.settings.origin_of(path) or _DEFAULT


def _at(plain: Any, path: SettingPath) -> Any:
    for key in path:
        plain = plain[key]
    return plain


def _note(value: Any, loaded: LoadedConfig) -> str:
    if not isinstance(value, SecretReference):
        return ""
    return "set" if loaded.secrets.has(value) else "missing"
