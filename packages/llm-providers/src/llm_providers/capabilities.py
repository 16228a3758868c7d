"""What each family of models can do, with the source and date of each statement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from llm_core import ReasoningEffort

from llm_providers.features import Feature

__all__ = ["CAPABILITIES", "ModelFamily", "family_of"]

_F, _E = Feature, ReasoningEffort


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily:
    """One row of the capability table. A model's row is the first whose pattern fits."""

    provider: str
    pattern: str
    """A shell pattern for the whole name in lower case, such as ``gpt-4o*``."""
    lacks: frozenset[Feature] = frozenset()
    """What the family cannot do though the vendor's API can say it."""
    efforts: tuple[ReasoningEffort, ...] = ()
    """The reasoning efforts it takes; empty if it takes none or they are not known."""
    context_tokens: int | None = None
    """Input and output together, in tokens."""
    max_output_tokens: int | None = None
    source: str
    """The page or package this was read in."""
    checked: date
    """When it was read there."""


CAPABILITIES: tuple[ModelFamily, ...] = ()


def family_of(
    provider: str, model: str, table: Iterable[ModelFamily] = CAPABILITIES
) -> ModelFamily | None:
    """Return the row for `model` as `provider` names it, or None: then everything the API can say is sent."""
    name = model.lower()
    for family in table:
        if family.provider == provider and fnmatchcase(name, family.pattern):
            return family
    return None
