"""The ladder from a model's text to a dict or list: exact readings first, repairs last, every rung on record.

::

    strict          the whole text is JSON
    block           JSON inside fences, tags or prose
    relaxed         JSON5, Python literals and slips of the pen, each noted
    partial         JSON that broke off, when the generation was cut for length
    json-repair     \\
    string2dict      >  short texts only, and nothing that does not stand in the text
    python-literal  /
"""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from llm_core import ErrorType
from llm_pipeline.blocks import Block, Search, choose, find_blocks, only_numbers
from llm_pipeline.conversion import Conversion, NoValue
from llm_pipeline.edits import Edits
from llm_pipeline.evidence import unfounded
from llm_pipeline.faults import NotJson
from llm_pipeline.relaxed import RelaxedReader
from llm_pipeline.repairers import (
    Unrepaired,
    by_json_repair,
    by_python_literal,
    by_string2dict,
)
from llm_pipeline.strict import MAX_DEPTH, StrictDecoder, depth_of
from llm_pipeline.thinking import thinking_zones

__all__ = ["Climb"]

_MARKS = " \t\r\n\f\v\ufeff\u200b\u2060\u00a0"
_MEMBER_FIRST = re.compile(r"\s*[\"'“][^\"'”\n]{1,80}[\"'”]\s*[:：]")
_MEMBER_BEFORE = re.compile(r"[\"'][^\"'\n]{1,80}[\"']\s*:\s*\Z")
_MEMBER_AFTER = re.compile(r"\s*[}\]]*\s*,\s*[\"'][^\"'\n]{1,80}[\"']\s*:")
_OPEN_BEFORE = re.compile(r"[{\[]\w{0,10}\s*\Z")
_COMMA_BEFORE = re.compile(r"[\"'\w}\]]\s*,\s*\Z")
_COMMA_AFTER = re.compile(r"\s*,")
_FENCE_AFTER = re.compile(r"[\s;]*(?://[^\n]*\s*)?(?:```|~~~|\Z)")
_CLOSERS_AFTER = re.compile(r"[\s}\]]*+")
_VALUE_AFTER = re.compile(
    r"[\w\"]|\s*,\s*[-\d{\[]|\s*(?:,\s*)?(?:\"[^\"\n]{0,80}\"\s*[:,}\]]|'[^'\n]{0,80}'\s*[:,}\]])"
)
_TUPLE_BEFORE = re.compile(r"(?<!\w)\([^()\n]{1,100},\s*\Z")
_CALL_BEFORE = re.compile(r"\w\(\s*\Z")
# What says that the numbers in brackets are the answer, and no reference or interval.
_ANSWER_BEFORE = re.compile(r"\b(?:is|are|was|were|be|gives?|returns?)\s*\Z|[:=>：(]\s*\Z")
_WRITTEN_BLANK = re.compile(r"[{\[,]\s*\\[nrt]")
_STRING_OR_BLANK = re.compile(r'("(?:[^"\\]|\\.)*+")|\\[nrt]', re.DOTALL)
_LABEL = re.compile(r"(?:```|~~~)[ \t]*\w*\s*\Z|\A\s*\w+\s*:?\s*\Z")
_QUOTED_LINES = re.compile(r"(?:[ \t]*>[^\n]*(?:\n|\Z)|[ \t]*\n)++")


@dataclass(slots=True)
class Climb:
    """One way up the ladder."""

    text: str
    cut: bool
    prefill: str
    fits: Callable[[Any], bool] | None
    tried: list[dict[str, str]] = field(default_factory=list)
    edits: Edits = field(default_factory=Edits)
    depth: int = 0

    def run(self) -> Conversion:
        """Return the first good reading; raise NoValue if there is none."""
        self._put_prefill_back()
        found = self._strict(self.text) or self._from_blocks()
        if found is not None:
            return found
        for note, variant in _unwrapped(self.text):
            inner = self._strict(variant, note) or self._strict_block_of(variant, note)
            if inner is not None:
                return inner
        return self._repaired(*self._region()) or self._give_up()

    def _put_prefill_back(self) -> None:
        opener = self.prefill.rstrip()[-400:]
        if not opener or ("{" not in opener and "[" not in opener):
            return
        if self.text.lstrip(_MARKS)[:1] in ("{", "[", "`") and _balanced_start(self.text):
            return
        if not self.text.startswith(self.prefill):
            self.text = self.prefill + self.text
            self.edits.note("prefill put back", 0)

    def _failed(self, rung: str, reason: str) -> None:
        self.tried.append({"rung": rung, "reason": reason})

    def _made(self, value: Any, rung: str, edits: Edits, **more: Any) -> Conversion:
        log = Edits()
        log.merge(self.edits)
        log.merge(edits)
        more.setdefault("lossy", log.lossy)
        return Conversion(value=value, rung=rung, edits=log.to_list(), tried=self.tried, **more)

    def _strict(self, text: str, note: str = "") -> Conversion | None:
        """Read the whole text as one JSON value; text that is itself JSON inside a JSON string is opened."""
        body = text.strip(_MARKS)
        start = text.find(body) if body else 0
        taken = StrictDecoder(budget=1).take(text, start) if body else None
        if taken is None or taken.end != start + len(body):
            if not note:
                self._failed("strict", "the text as a whole is no JSON" if body else "empty text")
            return None
        if taken.depth > MAX_DEPTH:
            raise self._no_value(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(taken.value, str) and self.depth < 3:
            self.depth += 1
            self.edits.note("JSON inside a JSON string", start)
            self.text = taken.value
            return self.run()
        if not isinstance(taken.value, (dict, list)):
            self._failed("strict", f"a {type(taken.value).__name__}, no dict or list")
            return None
        if note:
            self.edits.note(note, 0)
        return self._made(taken.value, "strict", taken.edits, span=(start, taken.end))

    def _strict_block_of(self, text: str, note: str) -> Conversion | None:
        chosen = choose([b for b in find_blocks(text).blocks if b.strict and b.closed], self.fits)
        if chosen is None:
            return None
        self.edits.note(note, 0)
        return self._from_block(text, *chosen, Search())

    def _from_blocks(self) -> Conversion | None:
        """Read the JSON that stands in the text, outside of what the model thought aloud."""
        text = self.text
        search = find_blocks(text, dropping_cut=self.cut)
        zones = thinking_zones(text, [(b.start, b.end) for b in search.blocks if b.closed])
        if zones:
            visible = _blanked(text, zones)
            outside = find_blocks(visible, dropping_cut=self.cut)
            if outside.blocks or outside.broken:
                text, search = visible, outside
            elif search.blocks:
                self.edits.guess("found only where the model thinks aloud", zones[0][0])
        if _MEMBER_FIRST.match(text):
            bare = self._without_brackets(text)
            if bare is not None:
                return bare
        chosen = choose(search.blocks, self.fits)
        if chosen is None:
            reason = "no value that begins and makes sense"
            if search.too_deep:
                raise self._no_value(f"nested deeper than {MAX_DEPTH} levels")
            self._failed("block", reason)
            return None
        return self._from_block(text, *chosen, search)

    def _from_block(
        self,
        text: str,
        block: Block,
        guessed: bool,
        search: Search,
    ) -> Conversion | None:
        if guessed or search.forgot:
            block.edits.guess("one of several values", block.start)
        if _part_of_more(text, block):
            block.edits.guess("the text around looks like part of the value", block.start)
        if not block.value and not block.fenced and text[: block.start].strip(_MARKS):
            block.edits.guess("an empty value inside prose", block.start)
        if _in_running_text(text, block):
            block.edits.guess("numbers in brackets inside prose", block.start)
        inside = [
            s for s in search.broken if s[0] < block.start and not _fence_between(text, s[0], block)
        ]
        if inside:
            block.edits.guess("an earlier value could not be read", inside[0][0])
            start, end = inside[0]
            if block.start < end and (repaired := self._repaired(text[start:end], start)):
                return repaired
        if not block.strict and block.closed and block.edits.guesses:
            literal = self._exact_literal(text[block.start : block.end], block)
            if literal is not None:
                return literal
        rung = "block" if block.strict else "relaxed"
        if not block.closed and self.cut:
            rung = "partial"
        return self._made(
            block.value,
            rung,
            block.edits,
            truncated=not block.closed,
            span=(block.start, block.end),
        )

    def _exact_literal(self, region: str, block: Block) -> Conversion | None:
        """Prefer Python's own reading to a guess, for a text that is evidently Python."""
        python = {"single quotes", "Python word", "tuple", "string prefix", "triple quotes"}
        open_to_it = {
            "quotes inside a string",
            "missing comma",
            "unknown escape kept",
            "parentheses around one value",
        }
        edits = block.edits
        if not python & edits.counts.keys() or not edits.guesses <= open_to_it:
            return None
        if "missing comma" in edits.guesses and "tuple" not in edits.counts:
            return None  # neighbouring strings, which Python would join: more likely a comma was forgotten
        try:
            value, edits = _python_literal(region)
        except Unrepaired:
            return None
        if edits.lossy:
            return None
        return self._made(value, "python-literal", edits, span=(block.start, block.end))

    def _without_brackets(self, text: str) -> Conversion | None:
        """Read members that lack the braces around them."""
        wrapped = "{" + text.strip(_MARKS)
        decoder = StrictDecoder(budget=2 * len(wrapped))
        try:
            reading = RelaxedReader(wrapped, decoder, dropping_cut=self.cut).read(0)
        except NotJson:
            return None
        if wrapped[reading.end :].strip(_MARKS + "`"):
            return None
        reading.edits.guess("missing opening bracket", 0)
        truncated = self.cut and not reading.closed
        return self._made(reading.value, "relaxed", reading.edits, truncated=truncated)

    def _region(self) -> tuple[str, int]:
        """Return the text that is worth a repair, and where it begins."""
        found = find_blocks(_blanked(self.text, thinking_zones(self.text)))
        if found.broken:
            start, end = max(found.broken, key=lambda span: span[1] - span[0])
            return self.text[start:end], start
        return "", 0

    def _repaired(self, region: str, start: int) -> Conversion | None:
        if not region:
            for rung in ("json-repair", "string2dict", "python-literal"):
                self._failed(rung, "nothing that looks like JSON")
            return None
        span = (start, start + len(region))
        best: Conversion | None = None
        for rung, repair in _REPAIRERS:
            try:
                value, edits = repair(region)
            except Unrepaired as reason:
                self._failed(rung, str(reason)[:200])
                continue
            conversion = self._made(value, rung, edits, span=span)
            if not conversion.lossy:
                return conversion
            best = best or conversion
        return best

    def _give_up(self) -> Conversion:
        raise self._no_value("no dict or list in the text")

    def _no_value(self, reason: str) -> NoValue:
        error = NoValue(reason, details={"tried": list(self.tried), "truncated": self.cut})
        if self.cut:
            error.error_type = ErrorType.TRUNCATED
        return error


def _json_repair(region: str) -> tuple[Any, Edits]:
    value, log = by_json_repair(region)
    edits = Edits()
    for sentence in log or ["repaired"]:
        edits.guess(sentence, 0)
    return value, edits


def _string2dict(region: str) -> tuple[Any, Edits]:
    edits = Edits()
    edits.guess("fences and surroundings stripped", 0)
    return by_string2dict(region), edits


def _python_literal(region: str) -> tuple[Any, Edits]:
    edits = Edits()
    edits.note("read as a Python literal", 0)
    value = by_python_literal(region)
    # Python joins strings and skips comments in places where a model only forgot a quote.
    if unfounded(value, region) is not None:
        edits.guess("text that does not stand there word for word", 0)
    return value, edits


_REPAIRERS: tuple[tuple[str, Callable[[str], tuple[Any, Edits]]], ...] = (
    ("json-repair", _json_repair),
    ("string2dict", _string2dict),
    ("python-literal", _python_literal),
)


def _unwrapped(text: str) -> Iterator[tuple[str, str]]:
    """Yield what the text may be once a wrapping is taken off, each with the name of the edit."""
    body = text.strip(_MARKS)
    if '\\"' in body:
        with contextlib.suppress(json.JSONDecodeError, RecursionError):
            yield "escaped as a whole", json.JSONDecoder(strict=False).decode(f'"{body}"')
    if _WRITTEN_BLANK.search(body):
        yield "line ends written as \\n", _STRING_OR_BLANK.sub(lambda m: m.group(1) or " ", body)
    if "&quot;" in body or "&#34;" in body:
        yield "HTML entities", html.unescape(body)
    if body.startswith(">") and _QUOTED_LINES.fullmatch(body):
        yield "quoted lines", re.sub(r"(?m)^[ \t]*> ?", "", body)


def _balanced_start(text: str) -> bool:
    """Tell whether the text opens its own value, so that no prefill is missing."""
    decoder = StrictDecoder(budget=len(text) + 1)
    body = text.lstrip(_MARKS)
    taken = decoder.take(body, 0) if body else None
    return (taken is not None and not body[taken.end :].strip(_MARKS)) or body[:1] == "`"


def _blanked(text: str, zones: list[tuple[int, int]]) -> str:
    """Return the text with spaces in place of the zones, so that every index stays."""
    pieces, position = [], 0
    for start, end in zones:
        pieces += [text[position:start], " " * (end - start)]
        position = end
    return "".join([*pieces, text[position:]])


def _part_of_more(text: str, block: Block) -> bool:
    """Tell whether the text next to the block looks like the rest of a larger value that could not be read."""
    before = text[max(block.start - 200, 0) : block.start]
    if _MEMBER_BEFORE.search(before) or _MEMBER_AFTER.match(text, block.end):
        return True
    if _TUPLE_BEFORE.search(before):
        return True
    if isinstance(block.value, list) and _CALL_BEFORE.search(before):
        return True  # set([1, 2]), OrderedDict([("a", 1)]): no list
    if _OPEN_BEFORE.search(before) and not before.endswith("<![CDATA["):
        return True
    closers = _CLOSERS_AFTER.match(text, block.end)
    if closers is not None and closers.group().strip() and not text.startswith("]]>", block.end):
        # Brackets too many behind a value that begins the text are a slip of the pen.
        alone = not _LABEL.sub("", text[: block.start]).strip(_MARKS)
        return (
            not alone
            or depth_of(block.value) > 1
            or bool(text[closers.end() :].strip(_MARKS + "`;."))
        )
    quote = before[-1:]
    if quote and quote in "\"'" and not text.startswith(quote, block.end):
        return True
    if _COMMA_AFTER.match(text, block.end) and _COMMA_BEFORE.search(before):
        return True
    if block.fenced and _FENCE_AFTER.match(text, block.end) is None:
        return True
    return _VALUE_AFTER.match(text, block.end) is not None


def _in_running_text(text: str, block: Block) -> bool:
    """Tell whether the block may be a reference ``[1, 2]`` or an interval rather than a list of numbers."""
    if block.fenced or not isinstance(block.value, list) or not only_numbers(block.value):
        return False
    line = text[max(block.start - 200, 0) : block.start].rpartition("\n")[2].strip(_MARKS + "*`-")
    return bool(line) and _ANSWER_BEFORE.search(line) is None


def _fence_between(text: str, start: int, block: Block) -> bool:
    return block.fenced and "```" in text[start : block.start]
