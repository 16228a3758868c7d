"""Read strings as models quote them, and find out where they really end.

A quote ends a string if what follows fits: a colon behind a key, a comma with the next member, or a closing bracket
behind a value. A quote that is followed by anything else stands in the text, is doubled, or opens what comes next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_pipeline import grammar
from llm_pipeline.edits import Edits
from llm_pipeline.faults import NotJson
from llm_pipeline.scalars import unescape

__all__ = ["QuotedReader"]


@dataclass(frozen=True, slots=True)
class _Extent:
    """Where a string's text begins and ends, and where the reading goes on."""

    begin: int
    end: int
    resume: int


@dataclass(frozen=True, slots=True)
class QuotedReader:
    """Reads strings of `text` and logs to `edits`; `dropping_cut` says that the text is known to break off."""

    text: str
    edits: Edits
    dropping_cut: bool = False

    def read(self, start: int, after: re.Pattern[str], *, raw: bool) -> tuple[str, int]:
        """Return the string whose opening quote stands at `start`, and the index behind it.

        `after` is what must follow its closing quote, `raw` leaves backslashes alone.
        Raises NotJson if no quote can be the closing one.
        """
        text = self.text
        triple = text[start : start + 3]
        if triple in ('"""', "'''") and (end := text.find(triple, start + 3)) >= 0:
            self.edits.note("triple quotes", start)
            return self._decoded(text[start + 3 : end], start, raw=raw), end + 3
        if text[start] != '"':
            kind = "single quotes" if text[start] == "'" else "other quotes"
            self.edits.note(kind, start)
        extent = self._extent(start, after)
        return self._decoded(text[extent.begin : extent.end], start, raw=raw), extent.resume

    def _extent(self, start: int, after: re.Pattern[str]) -> _Extent:
        body = grammar.BODIES[grammar.QUOTES[self.text[start]]]
        is_key = after is grammar.AFTER_KEY
        inner: list[int] = []
        position = start + 1
        while (match := body.match(self.text, position)) is not None:
            end = match.end() - 1
            if is_key and inner and grammar.NOT_IN_KEY.search(self.text, start + 1, end):
                return self._unclosed_key(start, reach=end)
            if after.match(self.text, end + 1) or self._joins(after, end):
                return self._between(start, end, inner)
            if is_key and not inner and grammar.NO_COLON.match(self.text, end + 1):
                return _Extent(start + 1, end, end + 1)
            if not is_key and grammar.KEY_AT_QUOTE.match(self.text, end):
                comma = grammar.COMMA_BEFORE_QUOTE.search(self.text, max(end - 40, start), end)
                if comma is not None:
                    self.edits.guess("missing quote", comma.start())
                    return _Extent(start + 1, comma.start(), comma.start())
            if len(inner) < 2:
                inner.append(end)
            position = end + 1
        return self._at_the_end(start, is_key=is_key, inner=bool(inner))

    def _between(self, start: int, end: int, inner: list[int]) -> _Extent:
        """Take the text up to the closing quote at `end`, with what is known of the quotes inside."""
        whole = _Extent(start + 1, end, end + 1)
        if not inner:
            return whole
        if inner == [start + 1]:
            self.edits.guess("doubled quote", start)
            return _Extent(start + 2, end, end + 1)
        # A digit before it makes it the sign for inches.
        if inner == [end - 1] and not self.text[end - 2].isdigit():
            self.edits.guess("doubled quote", end)
            return _Extent(start + 1, end - 1, end + 1)
        self.edits.guess("quotes inside a string", start)
        return whole

    def _unclosed_key(self, start: int, *, reach: int) -> _Extent:
        unclosed = grammar.UNCLOSED_KEY.match(self.text, start)
        if unclosed is None:
            raise NotJson("expected a colon after the key", start, reach=reach)
        self.edits.guess("missing quote", start)
        return _Extent(start + 1, unclosed.end(), unclosed.end())

    def _at_the_end(self, start: int, *, is_key: bool, inner: bool) -> _Extent:
        """Deal with a string that no quote ends."""
        text = self.text
        if is_key and not self.dropping_cut and grammar.UNCLOSED_KEY.match(text, start):
            return self._unclosed_key(start, reach=len(text))
        if inner:
            reason = f"a string opened by {text[start]} that never ends properly"
            raise NotJson(reason, start, reach=len(text))
        end = len(text.rstrip(grammar.CLOSING_RUN))
        if not is_key and not self.dropping_cut and start < end and text[end:].strip(" `\n\r\t"):
            self.edits.guess("missing quote", end)
            return _Extent(start + 1, end, end)
        self.edits.guess("text that was cut off", start)
        cut = grammar.CUT_ESCAPE.search(text, start + 1)
        kept = len(text) if cut is None else cut.end(1) if cut.group(1) else cut.start()
        return _Extent(start + 1, kept, len(text))

    def _joins(self, after: re.Pattern[str], end: int) -> bool:
        """Tell whether the quote at `end` is followed by the next member or item without a comma."""
        if after is grammar.AFTER_KEY:
            return False
        gap = grammar.GAP.match(self.text, end + 1)
        if gap is None or gap.end() == end + 1:
            return False
        follows = self.text[gap.end() : gap.end() + 1]
        if after is not grammar.AFTER_VALUE:
            neatly = "\n" in gap.group() or not self.text[end - 1].isspace()
            return follows in ("{", "[") or (follows in ('"', "'") and neatly)
        return grammar.KEY_FOLLOWS.match(self.text, gap.end()) is not None

    def _decoded(self, body: str, at: int, *, raw: bool) -> str:
        if "\\" not in body or raw:
            if not body.isprintable() and grammar.CONTROL.search(body):
                self.edits.note("raw control character", at)
            return body
        return unescape(body, lambda what, lossy: self._escaped(what, lossy, at))

    def _escaped(self, what: str, lossy: bool, at: int) -> None:
        (self.edits.guess if lossy else self.edits.note)(what, at)
