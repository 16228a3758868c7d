"""Values of text that is still streaming in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

__all__ = ["Partial"]

_OPENING = re.compile(r"[{\[]")
_THINKING = re.compile(r"<(think|thinking|thought|reasoning)\b[^<>]{0,80}>", re.I)


class Partial:
    """Reads JSON while it arrives; every snapshot is a valid beginning of the final value.

    ``feed`` takes text and is cheap; ``value`` parses what has arrived, when asked.
    Strings grow from snapshot to snapshot; numbers and words appear when they are complete.
    Text before the JSON (prose, a fence, closed thoughts) is passed over.
    """

    def __init__(self, accept: Callable[[Any], Any] | None = None) -> None:
        self._accept = accept
        self._text = ""
        self._start = -1
        self._parsed_length = -1
        self._value: Any = None
        self.complete = False
        """Whether the JSON value has ended."""

    @property
    def text(self) -> str:
        """All text so far."""
        return self._text

    def feed(self, text: str) -> None:
        """Take the next piece of text."""
        self._text += text

    @property
    def value(self) -> Any:
        """The snapshot of now; None before the value begins. Never raises."""
        if len(self._text) != self._parsed_length and not self.complete:
            self._parsed_length = len(self._text)
            self._parse()
        return self._value

    def _parse(self) -> None:
        if self._start < 0:
            self._start = self._find_start()
        if self._start < 0:
            return
        body = self._text[self._start :]
        try:
            found, _ = json.JSONDecoder().raw_decode(body)
            self.complete = True
        except (ValueError, RecursionError):
            from llm_pipeline.open_ended import close

            closed = close(body, dropping_cut=True)
            if closed is None:
                return
            found = closed.value
        self._value = found if self._accept is None else self._accept(found)

    def _find_start(self) -> int:
        position = 0
        opened = _THINKING.search(self._text)
        if opened is not None:
            end = self._text.find(f"</{opened.group(1)}>", opened.end())
            if end < 0:
                return -1
            position = end
        opening = _OPENING.search(self._text, position)
        return -1 if opening is None else opening.start()
