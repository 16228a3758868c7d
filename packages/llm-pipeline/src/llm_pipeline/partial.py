"""Values of text that is still streaming in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from llm_pipeline.thinking import thinking_zones

__all__ = ["Partial"]

# How a value goes on behind its bracket; prose, footnotes and links go on in other ways, or stand within a line.
_OPENING = re.compile(r"\{(?=\s*[\"}])|\[(?=\s*(?:[\"{\[]|(?P<bare>[\]\d\-tfnNI])))")
_ALONE_BEFORE = re.compile(r"(?:\A|[\n:=>`(])[ \t*`]*\Z")


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
        self._passed = 0
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
                if not self._value:  # no value after all: the next bracket may begin one
                    self._value = None
                    self._passed, self._start = self._start + 1, -1
                return
            found = closed.value
        self._value = found if self._accept is None else self._accept(found)

    def _find_start(self) -> int:
        thoughts = thinking_zones(self._text)
        position = max(self._passed, thoughts[-1][1] if thoughts else 0)
        for opening in _OPENING.finditer(self._text, position):
            start = opening.start()
            if not opening["bare"] or _ALONE_BEFORE.search(self._text[max(start - 40, 0) : start]):
                return start
        return -1
