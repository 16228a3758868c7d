"""The step classes that configuration knows by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_core import ConfigurationError
from llm_pipeline.steps.control import Branch, FirstOf, ForEach
from llm_pipeline.steps.convert import ConvertToDict
from llm_pipeline.steps.extract import ExtractValue, JsonLoad
from llm_pipeline.steps.isolation import SemanticIsolation
from llm_pipeline.steps.model import ModelValidation
from llm_pipeline.steps.reask import Reask
from llm_pipeline.steps.text import RegexExtract, StripFences, StripThinking
from llm_pipeline.steps.transform import Transform
from llm_pipeline.steps.validation import (
    JsonSchemaValidation,
    RangeValidation,
    RegexValidation,
    StringMatchValidation,
)

__all__ = ["BUILT_IN", "ENTRY_POINT_GROUP", "installed_names", "installed_step", "named_classes"]

ENTRY_POINT_GROUP = "llm_pipeline.steps"
"""Where distributions announce step classes: ``MyStep = "my_package.steps:MyStep"``."""

BUILT_IN: tuple[type[Any], ...] = (
    Branch,
    ConvertToDict,
    ExtractValue,
    FirstOf,
    ForEach,
    JsonLoad,
    JsonSchemaValidation,
    ModelValidation,
    RangeValidation,
    Reask,
    RegexExtract,
    RegexValidation,
    SemanticIsolation,
    StringMatchValidation,
    StripFences,
    StripThinking,
    Transform,
)


def named_classes(added: Mapping[str, Any] | Iterable[type[Any]] = ()) -> dict[str, type[Any]]:
    """Return the classes here and those `added`, by name; an added one goes before one of the same name here."""
    classes = {each.__name__: each for each in BUILT_IN}
    if isinstance(added, Mapping):
        classes.update(added)
    else:
        classes.update({each.__name__: each for each in added})
    return classes


def installed_names() -> list[str]:
    """Return the names under which installed distributions announce steps, without importing any."""
    from importlib.metadata import entry_points

    return sorted(entry_points(group=ENTRY_POINT_GROUP).names)


def installed_step(name: str) -> type[Any] | None:
    """Import the class that a distribution announces as `name`; None if there is none.

    Raises ConfigurationError if two distributions announce the name, or the class cannot be imported.
    """
    from importlib.metadata import entry_points

    found = list(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not found:
        return None
    if len(found) > 1:
        owners = ", ".join(sorted(e.dist.name if e.dist else e.value for e in found))
        raise ConfigurationError(f"step {name!r}: announced by several distributions: {owners}")
    try:
        loaded: type[Any] = found[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"step {name!r}: cannot import {found[0].value!r}: {error}"
        ) from error
    return loaded
