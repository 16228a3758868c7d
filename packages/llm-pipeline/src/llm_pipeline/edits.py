"""What had to be changed before a text could be read: counted, with the first places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Edits"]

_PLACES_KEPT = 20


@dataclass(slots=True)
class Edits:
    """A bounded log of deviations; guesses make the reading lossy."""

    counts: dict[str, int] = field(default_factory=dict)
    """Deviation → how often it occurred."""
    places: list[tuple[str, int]] = field(default_factory=list)
    """The first 20 as (deviation, index of its character)."""
    guesses: set[str] = field(default_factory=set)
    """Those deviations whose meaning had to be guessed."""

    def note(self, what: str, at: int) -> None:
        """Log a deviation that has one sensible meaning only."""
        self.counts[what] = self.counts.get(what, 0) + 1
        if len(self.places) < _PLACES_KEPT:
            self.places.append((what, at))

    def guess(self, what: str, at: int) -> None:
        """Log a deviation whose meaning was guessed."""
        self.guesses.add(what)
        self.note(what, at)

    def merge(self, other: Edits) -> None:
        """Take over what another log holds."""
        for what, count in other.counts.items():
            self.counts[what] = self.counts.get(what, 0) + count
        self.places.extend(other.places[: max(_PLACES_KEPT - len(self.places), 0)])
        self.guesses |= other.guesses

    @property
    def lossy(self) -> bool:
        """Whether anything was guessed."""
        return bool(self.guesses)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the log as JSON: one entry per kind of deviation, with its first place and whether it was a guess."""
        first: dict[str, int] = {}
        for what, at in self.places:
            first.setdefault(what, at)
        return [
            {"edit": what, "count": count, "at": first.get(what), "guess": what in self.guesses}
            for what, count in self.counts.items()
        ]
