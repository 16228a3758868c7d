"""What models a vendor offers to this key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llm_core import Record, immutable

__all__ = ["ModelInfo", "from_iso", "from_unix"]


@immutable
class ModelInfo(Record):
    """One model as the vendor lists it; None where the vendor says nothing."""

    provider: str
    id: str
    created: datetime | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    raw: Any = None
    """The vendor's entry as a plain dict."""


def from_unix(seconds: int) -> datetime | None:
    """Return the UTC time of a positive Unix time, or None."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def from_iso(text: str) -> datetime | None:
    """Return the time that an RFC 3339 text says, or None; digits beyond microseconds are cut off."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
