"""Read JSON as models write it: JSON5, Python literals, and the slips in between, with every deviation noted.

`RelaxedReader.read` reads one object or array that starts at a given place, in one pass without recursion.
A deviation with only one sensible meaning (a trailing comma, single quotes, a comment, a missing comma) is noted;
one whose meaning had to be guessed (quotes inside a string, a bracket that closes the wrong thing) is noted
as a guess and makes the reading lossy. What is no JSON at all raises NotJson.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from llm_pipeline import grammar
from llm_pipeline.edits import Edits
from llm_pipeline.faults import NotJson, TooDeep
from llm_pipeline.quoted import QuotedReader
from llm_pipeline.scalars import bare_value
from llm_pipeline.strict import MAX_DEPTH, StrictDecoder

__all__ = ["Reading", "RelaxedReader"]


@dataclass(slots=True, kw_only=True)
class Reading:
    """What was read, and how far the text was from JSON."""

    value: dict[str, Any] | list[Any]
    start: int
    end: int
    """The index after the last character that belongs to the value."""
    edits: Edits
    closed: bool
    """False when the text ended before the value did."""
    quoted_keys: int = 0
    bare_keys: int = 0
    bare_values: int = 0


@dataclass(slots=True)
class _Frame:
    """An object or array that is being filled."""

    kind: str
    container: Any
    closer: str
    key: str = ""
    after_value: bool = False


@dataclass(slots=True)
class RelaxedReader:
    """Reads one value from `text`; `dropping_cut` leaves out a number or word in which the text broke off."""

    text: str
    strict: StrictDecoder
    dropping_cut: bool = False
    at: int = 0
    gap: int = 0
    """Where the blanks before `at` begin."""
    edits: Edits = field(default_factory=Edits)
    stack: list[_Frame] = field(default_factory=list)
    reading: Reading | None = None

    def read(self, start: int) -> Reading:
        """Read the object or array whose bracket stands at `start`.

        Raises NotJson where the text stops making sense, TooDeep for excessive nesting.
        """
        self.at, self.edits, self.stack = start, Edits(), []
        root = self._open()
        self.reading = reading = Reading(
            value=root, start=start, end=start, edits=self.edits, closed=True
        )
        while self.stack:
            frame = self.stack[-1]
            self._skip()
            if self.at >= len(self.text):
                self._break_off(reading)
                break
            if frame.kind == "object":
                self._member(frame, reading)
            else:
                self._item(frame, reading)
        reading.end = self.at
        return reading

    def _skip(self) -> None:
        """Go past blanks and comments, noting the comments."""
        self.gap = self.at
        match = grammar.SPACE.match(self.text, self.at)
        end = match.end() if match else self.at
        if end > self.at:
            if grammar.NOT_BLANK.search(self.text, self.at, end):
                suspect = grammar.TEXT_LIKE.search(self.text, self.at, end)
                (self.edits.guess if suspect else self.edits.note)("comment", self.at)
                if grammar.ELIDES.search(self.text, self.at, end):
                    self.edits.guess("elided content", self.at)
            self.at = end

    def _open(self) -> Any:
        opener = self.text[self.at]
        if len(self.stack) >= MAX_DEPTH:
            raise TooDeep(f"nested deeper than {MAX_DEPTH} levels", self.at)
        kind = grammar.OPENERS[opener]
        if opener not in "{[":
            self.edits.note("tuple" if opener == "(" else "full-width punctuation", self.at)
        container: Any = {} if kind == "object" else []
        closer = {"{": "}", "[": "]", "(": ")", "｛": "}", "［": "]"}[opener]
        self.stack.append(_Frame(kind, container, closer))
        self.at += 1
        return container

    def _close(self, frame: _Frame) -> None:
        """Close `frame` with the closing bracket that stands here."""
        bracket = {"｝": "}", "］": "]"}.get(self.text[self.at], self.text[self.at])
        if bracket != frame.closer:
            self.edits.guess("wrong closing bracket", self.at)
            outer = next((f for f in reversed(self.stack[:-1]) if f.closer == bracket), None)
            goes_on = outer is self.stack[0] and grammar.GOES_ON.match(self.text, self.at + 1)
            if outer is not None and not goes_on:
                self.stack.pop()  # the bracket belongs to an outer value; that one meets it next
                self._stored()
                return
        if bracket == ")" and frame.after_value and len(frame.container) == 1:
            # In Python it is the comma that makes a tuple, and it joins the strings inside.
            self.edits.guess("parentheses around one value", self.at)
        self.at += 1
        more = len(self.stack) == 1 and frame.kind == "object"
        if more and grammar.MORE_MEMBERS.match(self.text, self.at):
            self.edits.guess("stray closing bracket", self.at - 1)
            frame.after_value = True
            return
        self.stack.pop()
        self._stored()

    def _stored(self) -> None:
        if self.stack:
            self.stack[-1].after_value = True

    def _break_off(self, reading: Reading) -> None:
        """End every open value: the text is over."""
        self.edits.guess("closed what was left open", self.at)
        reading.closed = False
        self.stack.clear()

    def _between(self, frame: _Frame) -> bool:
        """Deal with what may stand between members or items; True if there was something."""
        char = self.text[self.at]
        if char in grammar.CLOSERS:
            self._close(frame)
            return True
        if char in grammar.SEPARATORS:
            if char != ",":
                self.edits.note("other separator", self.at)
            if not frame.after_value:
                note = self.edits.note if frame.kind == "object" else self.edits.guess
                note("doubled comma", self.at)
            frame.after_value = False
            self.at += 1
            self._skip()
            if self.at < len(self.text) and self.text[self.at] in grammar.CLOSERS:
                self.edits.note("trailing comma", self.at)
            return True
        ellipsis = grammar.ELLIPSIS.match(self.text, self.at)
        if ellipsis:
            self.edits.guess("elided content", self.at)
            self.at = ellipsis.end()
            frame.after_value = True
            return True
        return False

    def _member(self, frame: _Frame, reading: Reading) -> None:
        if self._between(frame):
            return
        if frame.after_value:
            if not grammar.KEY_FOLLOWS.match(self.text, self.at):
                raise NotJson("expected a comma or a closing bracket", self.at)
            # A word and a key after it on the same line may as well be one text: ``title: Star Wars: A New Hope``.
            words = self.text[self.at] not in grammar.QUOTES and self.text[self.gap - 1].isalnum()
            clear = not words or "\n" in self.text[self.gap : self.at]
            (self.edits.note if clear else self.edits.guess)("missing comma", self.at)
            frame.after_value = False
        key_at = self.at
        key = self._key(reading)
        self._skip()
        if self.at >= len(self.text):
            return self._break_off(reading)
        colon = grammar.COLON.match(self.text, self.at)
        if colon is not None:
            if colon.group() != ":":
                self.edits.note("other sign for a colon", self.at)
            self.at = colon.end()
        elif self.text[self.at] in ",}" and frame.container:
            self.edits.guess("missing value", self.at)
            frame.container.setdefault(key, None)
            frame.after_value = True
            return None
        elif self.text[self.at] in ",}" or not self.text[self.gap : self.at]:
            raise NotJson(f"expected a colon after the key {key[:40]!r}", self.at)
        else:
            self.edits.guess("missing colon", self.at)
        if key in frame.container:
            self.edits.guess("duplicate key", key_at)
        frame.key = key
        self._value(frame, reading, grammar.AFTER_VALUE)

    def _item(self, frame: _Frame, reading: Reading) -> None:
        if self._between(frame):
            return
        if frame.after_value:
            # Python joins neighbouring strings, JSON writers forget commas: only after a line end is it clear.
            clear = "\n" in self.text[self.gap : self.at] or self.text[self.at] in "{["
            clear = clear and frame.closer != ")"
            (self.edits.note if clear else self.edits.guess)("missing comma", self.at)
            frame.after_value = False
        in_tuple = frame.closer == ")"
        self._value(frame, reading, grammar.AFTER_TUPLE_ITEM if in_tuple else grammar.AFTER_ITEM)

    def _key(self, reading: Reading) -> str:
        if self.text[self.at] in grammar.QUOTES:
            reading.quoted_keys += 1
            return self._string(grammar.AFTER_KEY)
        unopened = grammar.UNOPENED_KEY.match(self.text, self.at)
        if unopened is not None:
            self.edits.guess("missing quote", self.at)
            reading.quoted_keys += 1
            self.at = unopened.end()
            return unopened.group(1)
        match = grammar.BARE_KEY.match(self.text, self.at)
        if match is None:
            if grammar.BARE_TAIL.match(self.text, self.at):
                self.at = len(self.text)
                return ""
            raise NotJson("expected a key", self.at)
        reading.bare_keys += 1
        self.edits.note("unquoted key", self.at)
        self.at = match.end()
        return match.group()

    def _value(self, frame: _Frame, reading: Reading, after: re.Pattern[str]) -> None:
        self._skip()
        if self.at >= len(self.text):
            return self._break_off(reading)
        char = self.text[self.at]
        if char in grammar.OPENERS:
            self._store(frame, self._nested())
            frame.after_value = True
            return None
        if grammar.PREFIX.match(self.text, self.at):
            return self._prefixed(frame, reading, after)
        if char in grammar.QUOTES:
            self._store(frame, self._string(after))
            frame.after_value = True
            return None
        return self._bare(frame, reading)

    def _prefixed(self, frame: _Frame, reading: Reading, after: re.Pattern[str]) -> None:
        """Read a Python string with a prefix: raw, unicode or bytes."""
        prefix = self.text[self.at].lower()
        self.at += 1
        if prefix == "b":
            self.edits.guess("bytes read as text", self.at)
        else:
            self.edits.note("string prefix", self.at)
        self._store(frame, self._string(after, raw=prefix == "r"))
        frame.after_value = True

    def _nested(self) -> Any:
        """Take a nested value at C speed if it is strict JSON, else open it to be read here."""
        if self.text[self.at] in "{[":
            taken = self.strict.take(self.text, self.at)
            if taken is not None and len(self.stack) + taken.depth <= MAX_DEPTH:
                self.edits.merge(taken.edits)
                if self.reading is not None:
                    self.reading.quoted_keys += 1
                self.at = taken.end
                return taken.value
        return self._open()

    def _store(self, frame: _Frame, value: Any) -> None:
        if frame.kind == "object":
            frame.container[frame.key] = value
        else:
            frame.container.append(value)

    def _bare(self, frame: _Frame, reading: Reading) -> None:
        ellipsis = grammar.ELLIPSIS.match(self.text, self.at)
        if ellipsis:
            self.edits.guess("elided content", self.at)
            self.at = ellipsis.end()
            frame.after_value = True
            return
        match = grammar.BARE.match(self.text, self.at)
        if match is None:
            if self.text[self.at] in ",;}]" and frame.kind == "object":
                self.edits.guess("missing value", self.at)
                self._store(frame, None)
                frame.after_value = True
                return
            raise NotJson("expected a value", self.at)
        word, start = match.group(), self.at
        timestamp = grammar.TIMESTAMP.match(self.text, start)
        if timestamp is not None:
            self.edits.note("bare text", start)
            reading.bare_values += 1
            self.at = timestamp.end()
            self._store(frame, timestamp.group())
            frame.after_value = True
            return
        grouped = grammar.GROUPED.match(self.text, start) if frame.kind == "object" else None
        if grouped is not None:
            self.edits.guess("number with separators kept as text", start)
            self.at = grouped.end()
            self._store(frame, grouped.group())
            frame.after_value = True
            return
        self.at = match.end()
        if self.at >= len(self.text) and self.dropping_cut:
            self.edits.guess("dropped the value that was cut off", start)
            return
        if grammar.GLUED.match(word):
            self.edits.guess("words run together", start)
        if ":" in word[:-1] and grammar.COLON_BELONGS.search(word) is None:
            self.edits.guess("colon inside a word", start)
        if word.endswith(":"):
            self.edits.guess("colon in place of a comma", self.at - 1)
            word = word.rstrip(":")
        value, edit = bare_value(word)
        if edit != "bare text" and self._goes_on(frame):
            value, edit = word, "bare text"
        if edit == "bare text" and not self.text.startswith(":", self.at - 1):
            value = self._bare_text(start)
            reading.bare_values += 1
        if edit:
            self.edits.note(edit, start)
        self._store(frame, value)
        frame.after_value = True

    def _goes_on(self, frame: _Frame) -> bool:
        """Tell whether a number or constant is only the first word of a longer text: ``5 kg``."""
        if grammar.ENDS_WORD.match(self.text, self.at):
            return False
        gap = grammar.GAP.match(self.text, self.at)
        next_at = gap.end() if gap else self.at
        if frame.kind == "array" or self.text[next_at] in "\"'“‘{[":
            return False
        return grammar.KEY_FOLLOWS.match(self.text, next_at) is None

    def _bare_text(self, start: int) -> str:
        """Read text without quotes: one word as it is, several up to the next sign of structure."""
        word = self.text[start : self.at]
        call = grammar.CALL.match(self.text, start)
        if call is not None:
            self.edits.guess("function call kept as text", start)
            self.at = call.end()
            return call.group(1)[1:-1] if call.group(1) else call.group()
        line = grammar.BARE_LINE.match(self.text, start)
        whole = line.group().rstrip() if line else word
        if "://" not in whole:
            whole = whole.partition("//")[0].partition(" #")[0].rstrip()
        if " " not in whole and not self.text.startswith("(", self.at):
            return word
        gap = grammar.GAP.match(self.text, self.at)
        if gap is not None and grammar.KEY_FOLLOWS.match(self.text, gap.end()):
            return word
        if not whole or not grammar.ENDS_TEXT.match(self.text, start + len(whole)):
            raise NotJson("text without quotes that does not end", start)
        self.edits.guess("several words without quotes", start)
        self.at = start + len(whole)
        return whole

    def _string(self, after: re.Pattern[str], *, raw: bool = False) -> str:
        """Read the string whose opening quote stands here."""
        quoted = QuotedReader(self.text, self.edits, dropping_cut=self.dropping_cut)
        value, self.at = quoted.read(self.at, after, raw=raw)
        return value
