"""`convert`: a dict or list out of a text, and what is known about how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llm_core import OutputError

__all__ = ["Conversion", "NoValue", "convert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A dict or list, and how it was found."""

    value: dict[str, Any] | list[Any]
    rung: str
    lossy: bool = False
    """The value may differ from what the text says: something was guessed, dropped or chosen."""
    truncated: bool = False
    """The text ended before the value did."""
    edits: list[dict[str, Any]] = field(default_factory=list)
    """Each deviation from JSON: ``edit``, ``count``, ``at`` (index of the first), ``guess``."""
    span: tuple[int, int] | None = None
    """Where in the text the value stands; None if it cannot be said."""
    tried: list[dict[str, str]] = field(default_factory=list)
    """The rungs that failed before, each with the reason."""

    def trail(self) -> dict[str, Any]:
        """Return everything but the value, as JSON."""
        return {
            "rung": self.rung,
            "lossy": self.lossy,
            "truncated": self.truncated,
            "edits": self.edits,
            "span": None if self.span is None else list(self.span),
            "tried": self.tried,
        }


class NoValue(OutputError):
    """There is no dict or list in the text; `details` says what was tried."""


def convert(
    text: str,
    *,
    cut: bool = False,
    prefill: str = "",
    fits: Callable[[Any], bool] | None = None,
) -> Conversion:
    """Return the dict or list that `text` holds; raise NoValue if there is none.

    `cut` says that the generation was stopped before its end, so that partial JSON is to be expected.
    `prefill` is how the answer was made to begin; it is put back in front of a text that lacks it.
    `fits` decides between several values, as a JSON Schema would.
    """
    from llm_pipeline.ladder import Climb

    return Climb(text, cut, prefill, fits).run()
