"""Steps from text to data and into data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llm_core import UNSET, InvalidValue, OutputError, StepContext
from llm_pipeline.step import INTERNAL, Outcome, Step, own_copy
from llm_pipeline.steps.text import require_text

__all__ = ["ExtractValue", "JsonLoad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLoad(Step[str, Any]):
    """Reads strict JSON (RFC 8259) and nothing else: no repair, no NaN, no duplicate keys."""

    allow_duplicate_keys: bool = False
    """Let the last of equal keys win instead of failing."""

    def run(self, content: str, context: StepContext) -> Any:
        """Return the value; the failure says line and column."""
        text = require_text(content, self.name)
        hook = None if self.allow_duplicate_keys else _distinct
        try:
            return json.loads(text, object_pairs_hook=hook, parse_constant=_refuse)
        except RecursionError:
            raise OutputError(f"{self.name}: nested too deeply") from None
        except ValueError as error:
            raise OutputError(f"{self.name}: {error}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return made


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractValue(Step[Any, Any]):
    """Takes a value out of dicts and lists by JSONPath (RFC 9535) or by a plain key."""

    path: str = field(kw_only=False)
    """``$.city``, ``$..price``, ``$.rows[?@.ok]``; without ``$`` a plain key, looked up as it is."""
    many: bool = False
    """Take every match, as a list, instead of the first."""
    default: Any = UNSET
    """The value if nothing matches; without it the step fails. A match of null is a match."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "path"

    def _validate(self) -> None:
        if not self.path.strip():
            raise InvalidValue.of("ExtractValue.path", self.path, "a JSONPath or a key")
        if self.path.startswith("$"):
            object.__setattr__(self, "compiled", _compiled_query(self.path))

    def run(self, content: Any, context: StepContext) -> Any:
        """Return the first match, a list of all if `many`, or the default; where it was found is on the trail."""
        if not isinstance(content, (dict, list, tuple)):
            raise OutputError(
                f"{self.name}: got a {type(content).__name__}, expected a dict or a list"
            )
        if not self.path.startswith("$"):
            return self._by_key(content)
        values, places = self._by_path(content)
        if not values:
            return self._nothing(content)
        if self.many:
            return Outcome(values, trail={"matches": len(values), "at": places})
        return Outcome(values[0], trail={"at": places})

    def _by_key(self, content: Any) -> Any:
        rows = [content] if isinstance(content, dict) else content
        found = [row[self.path] for row in rows if isinstance(row, dict) and self.path in row]
        if not found:
            return self._nothing(content)
        trail = {"matches": len(found), "key": self.path}
        return Outcome(found if self.many else found[0], trail=trail)

    def _by_path(self, content: Any) -> tuple[list[Any], list[str]]:
        values: list[Any] = []
        places: list[str] = []
        try:
            for match in self.compiled.finditer(content):
                values.append(match.obj)
                if len(places) < 20:
                    places.append(match.path)
                if not self.many:
                    break
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise OutputError(f"{self.name}: {self.path!r} cannot be followed: {reason}") from None
        return values, places

    def _nothing(self, content: Any) -> Any:
        if self.default is not UNSET:
            return Outcome(own_copy(self.default), trail={"matches": 0, "default": True})
        there = ""
        if isinstance(content, dict):
            there = f"; the keys are {', '.join(map(repr, list(content)[:10]))}"
        raise OutputError(f"{self.name}: nothing at {self.path!r}{there}")


def _compiled_query(path: str) -> Any:
    import jsonpath

    try:
        return jsonpath.JSONPathEnvironment(strict=True).compile(path)
    except jsonpath.JSONPathError as error:
        reason = str(error).partition("\n")[0]
        raise InvalidValue.of("ExtractValue.path", path, f"a JSONPath ({reason})") from None
