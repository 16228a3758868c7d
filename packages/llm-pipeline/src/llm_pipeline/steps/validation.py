"""Steps that look at the content and let it pass, or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from llm_core import InvalidValue, OutputError, StepContext
from llm_pipeline.schema_check import SchemaCheck
from llm_pipeline.step import INTERNAL, Step
from llm_pipeline.steps.text import compile_pattern, require_text

__all__ = [
    "JsonSchemaValidation",
    "RangeValidation",
    "RegexValidation",
    "StringMatchValidation",
]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class StringMatchValidation(Step[str, str]):
    """Lets a text pass that holds, equals, begins or ends with, or matches what is given; all that is given must hold."""

    contains: str | None = field(default=None, kw_only=False)
    equals: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    regex: str | None = None
    """A regular expression that must match somewhere in the text."""
    one_of: tuple[str, ...] | None = None
    """The text must equal one of these."""
    ignore_case: bool = False
    strip: bool = True
    """Compare without blanks at both ends; the content itself keeps them."""
    collapse_whitespace: bool = False
    """Compare with every run of blanks as one space."""
    negate: bool = False
    """Let pass what does not match, and fail what does."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "contains"

    def _validate(self) -> None:
        given = (self.contains, self.equals, self.prefix, self.suffix, self.regex, self.one_of)
        if all(condition is None for condition in given):
            raise InvalidValue(
                "StringMatchValidation: got no condition, "
                "expected at least one of contains, equals, prefix, suffix, regex, one_of"
            )
        if self.regex is not None:
            compiled = compile_pattern(
                self.regex,
                "StringMatchValidation.regex",
                ignore_case=self.ignore_case,
                multiline=False,
            )
            object.__setattr__(self, "compiled", compiled)

    def run(self, content: str, context: StepContext) -> str:
        """Return the content unchanged."""
        text = require_text(content, self.name)
        unmet = self._unmet(self._normal(text), text)
        if self.negate and unmet is None:
            raise OutputError(f"{self.name}: {_shown(text)} matches, and should not")
        if not self.negate and unmet is not None:
            raise OutputError(f"{self.name}: got {_shown(text)}, expected text {unmet}")
        return text

    def _normal(self, text: str) -> str:
        if self.collapse_whitespace:
            text = " ".join(text.split()) if self.strip else _collapsed(text)
        if self.strip:
            text = text.strip()
        return text.casefold() if self.ignore_case else text

    def _unmet(self, text: str, original: str) -> str | None:
        """Return the first condition that does not hold, in words."""
        normal = self._normal
        if self.equals is not None and text != normal(self.equals):
            return f"equal to {self.equals!r}"
        if self.contains is not None and normal(self.contains) not in text:
            return f"containing {self.contains!r}"
        if self.prefix is not None and not text.startswith(normal(self.prefix)):
            return f"beginning with {self.prefix!r}"
        if self.suffix is not None and not text.endswith(normal(self.suffix)):
            return f"ending with {self.suffix!r}"
        if self.one_of is not None and text not in {normal(choice) for choice in self.one_of}:
            return f"equal to one of {list(self.one_of)!r}"
        if self.compiled is not None and not self.compiled.search(original):
            return f"matching {self.regex!r}"
        return None


def _collapsed(text: str) -> str:
    middle = " ".join(text.split())
    return " " * text[:1].isspace() + middle + " " * text[-1:].isspace()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexValidation(Step[str, str]):
    """Lets a text pass that matches a regular expression from end to end."""

    pattern: str = field(kw_only=False)
    ignore_case: bool = False
    strip: bool = True
    """Match without blanks at both ends; the content itself keeps them."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "pattern"

    def _validate(self) -> None:
        compiled = compile_pattern(
            self.pattern, "RegexValidation.pattern", ignore_case=self.ignore_case, multiline=False
        )
        object.__setattr__(self, "compiled", compiled)

    def run(self, content: str, context: StepContext) -> str:
        """Return the content unchanged."""
        text = require_text(content, self.name)
        if self.compiled.fullmatch(text.strip() if self.strip else text) is None:
            raise OutputError(
                f"{self.name}: got {_shown(text)}, expected text that matches {self.pattern!r}"
            )
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeValidation(Step[Any, Any]):
    """Lets a number pass that lies within bounds, or a text or list whose length does."""

    minimum: float | None = None
    """Smallest value allowed, itself included."""
    maximum: float | None = None
    """Largest value allowed, itself included."""
    above: float | None = None
    """Values must be greater than this."""
    below: float | None = None
    """Values must be less than this."""
    of: str = "value"
    """``value`` compares a number, ``length`` the length of a text, list or dict."""

    def _validate(self) -> None:
        if self.of not in ("value", "length"):
            raise InvalidValue.of("RangeValidation.of", self.of, "'value' or 'length'")
        bounds = (self.minimum, self.maximum, self.above, self.below)
        if all(bound is None for bound in bounds):
            raise InvalidValue(
                "RangeValidation: got no bound, expected at least one of minimum, maximum, above, below"
            )

        lowest = max((b for b in (self.minimum, self.above) if b is not None), default=-math.inf)
        highest = min((b for b in (self.maximum, self.below) if b is not None), default=math.inf)
        if lowest > highest:
            raise InvalidValue(
                f"RangeValidation: nothing is at least {lowest} and at most {highest}"
            )

    def run(self, content: Any, context: StepContext) -> Any:
        """Return the content unchanged."""
        measured = self._measured(content)
        outside = (
            (self.minimum is not None and measured < self.minimum)
            or (self.maximum is not None and measured > self.maximum)
            or (self.above is not None and measured <= self.above)
            or (self.below is not None and measured >= self.below)
        )
        if outside:
            what = "" if self.of == "value" else "a length of "
            raise OutputError(f"{self.name}: got {what}{measured!r}, expected {self._bounds()}")
        return content

    def _measured(self, content: Any) -> Any:
        if self.of == "length":
            if not isinstance(content, Sized):
                raise OutputError(
                    f"{self.name}: got a {type(content).__name__}, expected something with a length"
                )
            return len(content)
        is_number = isinstance(content, (int, float, Decimal)) and not isinstance(content, bool)
        if not is_number or math.isnan(content):
            raise OutputError(f"{self.name}: got {_shown(content)}, expected a number")
        return content

    def _bounds(self) -> str:
        words = {"at least": self.minimum, "at most": self.maximum}
        words |= {"above": self.above, "below": self.below}
        return " and ".join(f"{word} {bound}" for word, bound in words.items() if bound is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchemaValidation(Step[Any, Any]):
    """Lets a value pass that satisfies a JSON Schema (draft 2020-12 unless its ``$schema`` says otherwise)."""

    schema: Mapping[str, Any] = field(kw_only=False)
    check_formats: bool = False
    """Also check ``format`` (dates, addresses), which the specification leaves open."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "schema"

    def _validate(self) -> None:
        check = SchemaCheck(
            self.schema, "JsonSchemaValidation.schema", check_formats=self.check_formats
        )
        object.__setattr__(self, "compiled", check)

    def run(self, content: Any, context: StepContext) -> Any:
        """Return the content unchanged; the failure's details list up to ten violations with their paths."""
        violations = self.compiled.violations(content)
        if violations:
            first = violations[0]
            more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
            message = f"{self.name}: {first['path']}: {first['message']}{more}"
            raise OutputError(message, details={"violations": violations})
        return content
