"""What is wrong with a text that is no JSON."""

from __future__ import annotations

__all__ = ["NotJson", "TooDeep"]


class NotJson(ValueError):
    """The text at `at` cannot be part of the object or array that was being read.

    `reach` is how far the reader had to look to know it.
    """

    def __init__(self, reason: str, at: int, *, reach: int | None = None) -> None:
        super().__init__(f"{reason} at character {at}")
        self.reason = reason
        self.at = at
        self.reach = at if reach is None else reach


class TooDeep(NotJson):
    """Brackets are nested deeper than `strict.MAX_DEPTH`."""
