"""Strict JSON at C speed, with what `json.loads` keeps to itself: duplicate keys, depth, numbers that do not fit."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from llm_pipeline.edits import Edits

__all__ = ["MAX_DEPTH", "StrictDecoder", "Taken", "depth_of"]

MAX_DEPTH = 200
"""The deepest nesting that is read: jiter's bound too, and shallow enough for every recursive reader downstream."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A strict JSON value and what was remarkable about it."""

    value: Any
    end: int
    depth: int
    """Never too small; exact where it could matter."""
    edits: Edits


@dataclass(slots=True)
class StrictDecoder:
    """Decodes strict JSON values anywhere in a text, within a budget of characters.

    The budget bounds what failed tries may cost together, so that a text is read in time linear in its length.
    """

    budget: int
    edits: Edits = field(default_factory=Edits)
    failed_at: int = -1
    """Where the last try failed, or -1."""
    _decoder: json.JSONDecoder = field(init=False)

    def __post_init__(self) -> None:
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_float=self._float, parse_constant=self._constant
        )

    def take(self, text: str, at: int) -> Taken | None:
        """Return the JSON value that starts at `at`, or None if there is none or the budget is spent."""
        if self.budget <= 0:
            return None
        self.edits = Edits()
        try:
            value, end = self._decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            self.failed_at = error.pos
            # An unterminated string is reported at its start, but the search went to the end.
            reached = len(text) if error.msg.startswith("Unterminated") else error.pos
            # The error counts the lines before it, which is fast but not free.
            self.budget -= reached - at + 1 + error.pos // 32
            return None
        except (ValueError, RecursionError):
            # An integer of thousands of digits, or nesting beyond the interpreter's stack.
            self.failed_at = -1
            self.budget -= len(text) - at
            return None
        depth = 0
        if isinstance(value, (dict, list)):
            depth = text.count("{", at, end) + text.count("[", at, end)
            if depth > MAX_DEPTH // 4:
                depth = depth_of(value)
        return Taken(value, end, depth, self.edits)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            self.edits.guess("duplicate key", 0)
        return made

    def _float(self, digits: str) -> Any:
        value = float(digits)
        if math.isinf(value):
            self.edits.note("number kept as text", 0)
            return digits
        return value

    def _constant(self, word: str) -> float:
        self.edits.note("number that is not finite", 0)
        return float(word)


def depth_of(value: Any) -> int:
    """Return how deep dicts and lists are nested in `value`; 0 for a scalar. Works without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [item for box in level for item in (box.values() if isinstance(box, dict) else box)]
    return depth
