"""Steps on text: thoughts and fences off, a pattern out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llm_core import UNSET, InvalidValue, OutputError, StepContext
from llm_pipeline.step import INTERNAL, Outcome, Step, own_copy
from llm_pipeline.thinking import thinking_zones

__all__ = ["RegexExtract", "StripFences", "StripThinking", "compile_pattern", "require_text"]

_FENCE = re.compile(r"(?m)^[ \t]*(```+|~~~+)[^\n`]*$")


def require_text(content: Any, step: str) -> str:
    """Return `content` if it is text; raise OutputError if not."""
    if isinstance(content, str):
        return content
    raise OutputError(f"{step}: got a {type(content).__name__}, expected text")


def compile_pattern(
    pattern: str, owner: str, *, ignore_case: bool, multiline: bool
) -> re.Pattern[str]:
    """Compile a regular expression of the configuration; raise InvalidValue naming `owner` for a bad one."""
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    if multiline:
        flags |= re.MULTILINE | re.DOTALL
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise InvalidValue.of(owner, pattern, f"a regular expression ({error})") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class StripThinking(Step[str, str]):
    """Takes off what the model thought aloud: ``<think>…</think>`` and its relatives, also without the opening tag."""

    def run(self, content: str, context: StepContext) -> str | Outcome:
        """Return the text outside of the thoughts, stripped; skipped if there are none."""
        text = require_text(content, self.name)
        zones = thinking_zones(text)
        if not zones:
            return Outcome(text, skipped=True)
        kept, position = [], 0
        for start, end in zones:
            kept.append(text[position:start])
            position = end
        answer = "".join([*kept, text[position:]]).strip()
        if not answer:
            raise OutputError(f"{self.name}: the text holds thoughts and no answer")
        return Outcome(answer, trail={"thoughts": [list(zone) for zone in zones]})


@dataclass(frozen=True, slots=True, kw_only=True)
class StripFences(Step[str, str]):
    """Takes the text out of its Markdown fence; fences inside the fenced text stay."""

    def run(self, content: str, context: StepContext) -> str | Outcome:
        """Return what stands between the first fence and the last one of the same kind.

        An opening fence without its closing one is taken off as well, and flagged lossy: the end may be missing.
        """
        text = require_text(content, self.name)
        fences = list(_FENCE.finditer(text))
        if not fences:
            return Outcome(text, skipped=True)
        first = fences[0]
        closing = [f for f in fences[1:] if f.group().strip() == first.group(1)]
        label = first.group().strip().strip("`~").strip()
        start = first.end() + 1
        if not closing:
            return Outcome(text[start:].strip("\n"), trail={"label": label}, lossy=True)
        inner = text[start : closing[-1].start()].removesuffix("\n")
        around = (text[: first.start()] + text[closing[-1].end() :]).strip()
        return Outcome(inner, trail={"label": label, "text_around": bool(around)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexExtract(Step[str, Any]):
    """Takes what a regular expression matches out of the text."""

    pattern: str = field(kw_only=False)
    group: int | str = 0
    """The group to take, by number or name; 0 is the whole match."""
    many: bool = False
    """Take every match, as a list, instead of the first."""
    default: Any = UNSET
    """The value if nothing matches; without it the step fails."""
    ignore_case: bool = False
    multiline: bool = False
    """``^`` and ``$`` match at lines, and the dot matches line ends."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "pattern"

    def _validate(self) -> None:
        compiled = compile_pattern(
            self.pattern,
            "RegexExtract.pattern",
            ignore_case=self.ignore_case,
            multiline=self.multiline,
        )
        known = self.group in compiled.groupindex or (
            isinstance(self.group, int) and 0 <= self.group <= compiled.groups
        )
        if not known:
            raise InvalidValue.of("RegexExtract.group", self.group, "a group of the pattern")
        object.__setattr__(self, "compiled", compiled)

    def run(self, content: str, context: StepContext) -> Any:
        """Return the group's text, a list of texts if `many`, or the default."""
        text = require_text(content, self.name)
        if self.many:
            found = [match.group(self.group) for match in self.compiled.finditer(text)]
            if found:
                return found
        else:
            match = self.compiled.search(text)
            if match is not None and match.group(self.group) is not None:
                return Outcome(
                    match.group(self.group), trail={"span": list(match.span(self.group))}
                )
        if self.default is UNSET:
            raise OutputError(f"{self.name}: nothing matches {self.pattern!r}")
        return Outcome(own_copy(self.default), trail={"default": True})
