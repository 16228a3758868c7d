"""Speech as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_core import Usage
from llm_core.record import Record

__all__ = ["SpeechSegment", "Transcript"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSegment(Record):
    """A stretch of speech."""

    text: str
    start_seconds: float
    end_seconds: float
    speaker: str | None = None
    """Who speaks, where the model tells speakers apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript(Record):
    """What was said."""

    text: str
    language: str | None = None
    duration_seconds: float | None = None
    """Length of the sound, where the model tells it; older models bill by it."""
    segments: tuple[SpeechSegment, ...] = ()
    usage: Usage = Usage()  # noqa: RUF009 - frozen
    raw: Any = None
    """The vendor's reply as a plain dict."""
