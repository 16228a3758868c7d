"""What may stand where in a configuration, as its pydantic model says."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from llm_service.config.model import ServiceConfig
from llm_service.config.tree import OriginKind, SettingPath

__all__ = ["OBJECTS", "SHORT_NAMES", "field_names", "is_section", "names_for"]

SHORT_NAMES: Mapping[str, SettingPath] = {
    "model": ("models", "default"),
    "max_rpm": ("limits", "max_rpm"),
    "max_tpm": ("limits", "max_tpm"),
    "max_concurrent_requests": ("limits", "max_concurrent_requests"),
}
"""Names that variables and arguments may use for the settings that are set most often."""

OBJECTS = frozenset(
    {"provider", "registry", "fallbacks", "gate", "price_book", "operation_fields", "clock"}
)
"""Names that only arguments may use, for what a service takes and no file could hold."""


def names_for(path: SettingPath, kind: OriginKind | None) -> list[str]:
    """Return the names that one who wrote the last of `path`, in a source of that kind, could have meant."""
    names = field_names(path[:-1]) or []
    if len(path) == 1 and kind in (OriginKind.VARIABLE, OriginKind.ENV_FILE, OriginKind.ARGUMENT):
        names += SHORT_NAMES
    if len(path) == 1 and kind is OriginKind.ARGUMENT:
        names += sorted(OBJECTS)
    return names


def field_names(path: SettingPath) -> list[str] | None:
    """Return the names that may stand at `path`; None where any name may, or no name at all."""
    shape = _shape_at(path)
    return list(shape.model_fields) if is_section(shape) else None


def is_section(shape: Any) -> bool:
    """Say whether `shape` is a part with fixed names."""
    return isinstance(shape, type) and issubclass(shape, BaseModel)


def _shape_at(path: SettingPath) -> Any:
    shape: Any = ServiceConfig
    for key in path:
        shape = _below(shape, key)
    return shape


def _below(shape: Any, key: str | int) -> Any:
    """Return the type of the value at `key` in a value of type `shape`; None if there is none."""
    if is_section(shape):
        field = shape.model_fields.get(str(key))
        return None if field is None else _bare(field.annotation)
    arguments = get_args(shape)
    origin = get_origin(shape)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _bare(arguments[1])
    if origin is tuple and isinstance(key, int):
        return _bare(arguments[0])
    return None


def _bare(annotation: Any) -> Any:
    """Strip `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return _bare(next(a for a in get_args(annotation) if a is not type(None)))
    return annotation
