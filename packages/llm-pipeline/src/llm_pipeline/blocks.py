"""Find the JSON values that stand in a text, and choose the one that is the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_pipeline.edits import Edits
from llm_pipeline.faults import NotJson, TooDeep
from llm_pipeline.grammar import MORE_MEMBERS
from llm_pipeline.open_ended import broke_off, close
from llm_pipeline.relaxed import Reading, RelaxedReader
from llm_pipeline.strict import MAX_DEPTH, StrictDecoder

__all__ = ["Block", "Search", "choose", "find_blocks", "only_numbers"]

_MOST_BLOCKS = 1000
_OPENER = re.compile(r"[{\[｛]")
# How strict JSON goes on behind its first bracket, and how prose does: what is neither is read in full.
_JSON_BEGINS = re.compile(
    r"\{\s*(?:[\"}]|\Z)|\[\s*(?:[\"{\[\]\d-]|true|false|null|NaN|Infinity|\Z)"
)
_PROSE_BRACKETS = re.compile(
    r"\{[^\"'“‘:=：{}\[\]\n]*[^\"'“‘:=：{}\[\]\s][^\"'“‘:=：{}\[\]\n]{0,80}\}"
    r"|\[(?!(?:true|false|null|True|False|None)\])[^\"'“‘,{}\[\]\d]{1,80}\]|\[CDATA\[|\[(?=CDATA\[)"
)
_FENCE_BEFORE = re.compile(
    r"(?:```|~~~)[ \t]*(?:json[a-z0-9]*|js|javascript|python|py|text)?\s*\Z", re.I
)
_ALONE_BEFORE = re.compile(r"(?:\A|\n|[:=>：(]|\breturn\b)[ \t*`]*\Z")
_BRACKETS = re.compile(r'"(?:[^"\\\n]|\\.)*+"|[{}\[\]]')
_QUOTED = re.compile(r"[\"'”’]\s*[:,]")
_PROGRESS = re.compile(r"[\"'“‘”’\w}\]]\s*[:：=,]")


@dataclass(slots=True, kw_only=True)
class Block:
    """An object or array found in a text."""

    value: dict[str, Any] | list[Any]
    start: int
    end: int
    edits: Edits
    strict: bool
    """Whether it is JSON as it stands."""
    closed: bool
    fenced: bool

    @property
    def size(self) -> int:
        """Its length in characters."""
        return self.end - self.start


@dataclass(slots=True)
class Search:
    """What a search brought to light."""

    blocks: list[Block] = field(default_factory=list)
    broken: list[tuple[int, int]] = field(default_factory=list)
    """(start, end) of what began like JSON and went wrong: start, and the end of its brackets."""
    too_deep: bool = False
    forgot: bool = False
    """There were so many blocks that only the largest and the latest are kept."""

    def add(self, block: Block) -> None:
        """Keep a block; of very many only the largest and the latest."""
        self.blocks.append(block)
        if len(self.blocks) > _MOST_BLOCKS:
            largest = max(self.blocks, key=lambda each: each.size)
            self.blocks = [largest, *self.blocks[-_MOST_BLOCKS // 2 :]]
            self.forgot = True


def find_blocks(text: str, *, dropping_cut: bool = False) -> Search:
    """Find the outermost JSON values in `text`, in order, in time linear in its length.

    `dropping_cut` leaves out a number or word in which the text broke off.
    """
    search = Search()
    strict = StrictDecoder(budget=4 * len(text) + 4096)
    reader = RelaxedReader(text, strict, dropping_cut=dropping_cut)
    # What failed attempts may look at again together; beyond it only strict JSON is looked for.
    patience = 2 * len(text) + 20_000
    position = 0
    while (
        opener := (_OPENER if patience > 0 else _JSON_BEGINS).search(text, position)
    ) is not None:
        start = opener.start()
        prose = _PROSE_BRACKETS.match(text, start)
        if prose is not None and not _FENCE_BEFORE.search(text, max(start - 40, 0), start):
            position = prose.end()
            continue
        position = start + 1
        block = _strict_block(text, start, strict) or _cut_block(text, start, strict, dropping_cut)
        if block is None or (block.closed and MORE_MEMBERS.match(text, block.end)):
            if patience <= 0 and block is None:
                if strict.budget <= 0:
                    break
                continue
            try:
                block = _relaxed_block(text, reader.read(start))
            except TooDeep:
                search.too_deep = True
                break
            except NotJson as failure:
                patience -= failure.reach - start + 50
                _remember(search, text, start, failure.at)
                if block is None:
                    continue
        if _plausible(text, block, reader.reading):
            search.add(block)
            position = block.end
        else:
            patience -= block.size + 50
            if block.value and _QUOTED.search(text, start, min(block.end, start + 400)):
                _remember(search, text, start, block.end)
    return search


def _strict_block(text: str, start: int, strict: StrictDecoder) -> Block | None:
    strict.failed_at = -1
    if _JSON_BEGINS.match(text, start) is None:
        return None
    taken = strict.take(text, start)
    if taken is None or taken.depth > MAX_DEPTH:
        return None
    return Block(
        value=taken.value,
        start=start,
        end=taken.end,
        edits=taken.edits,
        strict=True,
        closed=True,
        fenced=_fenced(text, start),
    )


def _cut_block(
    text: str,
    start: int,
    strict: StrictDecoder,
    dropping_cut: bool,
) -> Block | None:
    """Take a value that is JSON as far as the text goes, if the text broke off inside it."""
    if strict.failed_at < 0 or not broke_off(text, strict.failed_at):
        return None
    if not dropping_cut and text.rstrip("`; \n\r\t").endswith(("}", "]")):
        return None  # whole texts end like this, so a quote is missing somewhere
    cut = close(text[start:], dropping_cut=dropping_cut)
    if cut is None:
        return None
    edits = Edits()
    edits.guess("closed what was left open", len(text))
    for what in cut.guesses:
        edits.guess(what, len(text))
    return Block(
        value=cut.value,
        start=start,
        end=len(text),
        edits=edits,
        strict=True,
        closed=False,
        fenced=_fenced(text, start),
    )


def _relaxed_block(text: str, reading: Reading) -> Block:
    return Block(
        value=reading.value,
        start=reading.start,
        end=reading.end,
        edits=reading.edits,
        strict=False,
        closed=reading.closed,
        fenced=_fenced(text, reading.start),
    )


def _fenced(text: str, start: int) -> bool:
    return _FENCE_BEFORE.search(text[max(start - 40, 0) : start]) is not None


def _alone(text: str, block: Block) -> bool:
    """Tell whether the block stands where a value would: fenced, on a line of its own, after a colon or a tag."""
    before = text[max(block.start - 40, 0) : block.start]
    return (
        block.fenced
        or (block.start <= 40 and not before.strip())
        or bool(_ALONE_BEFORE.search(before))
    )


def _plausible(text: str, block: Block, reading: Reading | None) -> bool:
    """Tell a value from prose that happens to use brackets."""
    if not block.closed and not block.value:
        return False
    is_list = isinstance(block.value, list)
    if is_list and (not block.value or _footnote(block.value)) and not _alone(text, block):
        return False
    if block.strict or reading is None:
        return True
    if is_list:
        return reading.bare_values == 0 or (_alone(text, block) and _looks_listed(text, block))
    wordy = "several words without quotes" in block.edits.guesses and not reading.quoted_keys
    if wordy and not block.fenced and not _at_line_start(text, block.start):
        return False
    if _alone(text, block):
        return bool(reading.quoted_keys or reading.bare_keys) or not block.value
    if reading.quoted_keys:
        return True
    return reading.bare_keys > 0 and reading.bare_values == 0


def _at_line_start(text: str, start: int) -> bool:
    before = text[max(start - 40, 0) : start].rpartition("\n")[2]
    return not before.strip() and (start <= 40 or "\n" in text[start - 40 : start])


def _footnote(items: Any) -> bool:
    return len(items) == 1 and isinstance(items[0], int)


def _looks_listed(text: str, block: Block) -> bool:
    """Tell a list of bare words from a log level or a link: it holds a comma and is not followed by ``(``."""
    return len(block.value) > 1 and not text.startswith("(", block.end)


def _remember(search: Search, text: str, start: int, failed_at: int) -> None:
    """Keep the place of a value that went wrong after it had begun well."""
    if search.broken and start < search.broken[-1][1]:
        return
    if _PROGRESS.search(text, start, min(failed_at + 1, start + 400)):
        search.broken.append((start, _brackets_end(text, start)))


def _brackets_end(text: str, start: int) -> int:
    depth = 0
    for token in _BRACKETS.finditer(text, start):
        bracket = token.group()
        if bracket in "{[":
            depth += 1
        elif bracket in "}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return len(text)


def choose(
    blocks: Sequence[Block], fits: Callable[[Any], bool] | None = None
) -> tuple[Block, bool] | None:
    """Return the block that is the answer and whether that was a guess; None if there is no block.

    Blocks that fit the schema go before those that do not, fenced before loose, filled before empty.
    Of several that are left the largest is taken, or the last one that is an alternative to it (has keys in common).
    """
    rest = [block for block in blocks if block.value] or list(blocks)
    if not rest:
        return None
    if any(isinstance(block.value, dict) for block in rest):
        rest = [b for b in rest if not (isinstance(b.value, list) and only_numbers(b.value))]
    if fits is not None:
        rest = [block for block in rest if fits(block.value)] or rest
    rest = [block for block in rest if block.fenced] or rest
    rivals = rest
    rest = [block for block in rest if block.closed] or rest
    largest = max(rest, key=lambda block: block.size)
    alternatives = [block for block in rest if _comparable(block.value, largest.value)]
    best = alternatives[-1]
    guessed = any(block.value != best.value for block in rivals)
    return best, guessed or any(_answers_later(block, best) for block in blocks)


def _answers_later(block: Block, fenced: Block) -> bool:
    """Tell whether a loose block behind a fenced one may be the answer, and the fenced one its form."""
    later = fenced.fenced and not block.fenced and block.start > fenced.end
    differs = block.value != fenced.value
    return later and differs and bool(block.value) and _comparable(block.value, fenced.value)


def only_numbers(items: list[Any]) -> bool:
    """Return whether there is nothing but numbers in a list, which then may be a reference or an interval."""
    return all(isinstance(item, (int, float)) for item in items)


def _comparable(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return not one.keys().isdisjoint(other.keys()) or one == other
    return type(one) is type(other)
