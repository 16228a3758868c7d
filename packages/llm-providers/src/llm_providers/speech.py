"""Speech as text."""

from __future__ import annotations

from typing import Any

from llm_core import Record, Usage, immutable

__all__ = ["SpeechSegment", "Transcript"]


@immutable
class SpeechSegment(Record):
    """A stretch of speech."""

    text: str
    start_seconds: float
    end_seconds: float
    speaker: str | None = None
    """Who speaks, where the model tells speakers apart."""


@immutable
class Transcript(Record):
    """What was said."""

    text: str
    language: str | None = None
    duration_seconds: float | None = None
    """Length of the sound, where the model tells it; older models bill by it."""
    segments: tuple[SpeechSegment, ...] = ()
    usage: Usage = Usage()
    raw: Any = None
    """The vendor's reply as a plain dict."""
