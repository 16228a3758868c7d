"""Scripted replies: which answer is given to which question.

A script is a YAML file (or the same as Python objects)::

    rules:                                    # the first rule that fits answers
      - exact: What is the capital of France?
        reply: Paris
      - regex: 'capital of (?P<country>\\w+)'
        reply: 'The capital of {{country}} is a secret.'
      - contains: weather
        model: gpt-*                          # only for models that fit this pattern
        turns:                                # by how far the conversation is
          - tool_calls: [{name: get_weather, arguments: {city: Paris}}]
          - It is sunny.
      - contains: flaky
        replies: [{fault: '503'}, At last.]   # by how often the rule was used; the last one stays
    default: echo                             # or a reply

A rule looks at the text of the last user message. `{{name}}` and `{{1}}` stand for the captured
groups of `regex`, `{{0}}` for all that it matched, `{{text}}` for the whole last user text.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from llm_core import Value, immutable
from llm_sim.errors import Refusal, ScriptError
from llm_sim.exchange import Ask, FinishReason
from llm_sim.faults import FAULTS

_MATCHES = ("exact", "contains", "regex", "any")
_PLANS = ("reply", "replies", "turns")
_RULE_KEYS = (*_MATCHES, "model", *_PLANS)
_DRAFT_KEYS = (
    "text",
    "json",
    "tool_calls",
    "reasoning",
    "refusal",
    "finish_reason",
    "delay_seconds",
    "fault",
)
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@immutable
class Draft(Value):
    """A reply as a script states it, its `{{…}}` still open."""

    text: str | None = None
    """None: the simulator makes up what was asked for (a tool call, JSON, an echo)."""
    tool_calls: tuple[tuple[str, str], ...] = ()
    """Name and JSON arguments of each call."""
    reasoning: str | None = None
    refusal: str = ""
    finish_reason: FinishReason | None = None
    delay_seconds: float = 0.0
    fault: str | None = None

    def fill(self, groups: Mapping[str, str]) -> Draft:
        """Put captured groups in the places of `{{…}}`; in arguments they stay valid JSON."""
        if not groups:
            return self

        def put(text: str) -> str:
            return _PLACEHOLDER.sub(lambda m: groups[m[1]], text) if "{{" in text else text

        def put_json(text: str) -> str:
            if "{{" not in text:
                return text
            return _PLACEHOLDER.sub(lambda m: json.dumps(groups[m[1]])[1:-1], text)

        return Draft(
            text=None if self.text is None else put(self.text),
            tool_calls=tuple((name, put_json(arguments)) for name, arguments in self.tool_calls),
            reasoning=None if self.reasoning is None else put(self.reasoning),
            refusal=put(self.refusal),
            finish_reason=self.finish_reason,
            delay_seconds=self.delay_seconds,
            fault=self.fault,
        )


@immutable
class Rule(Value):
    """A condition on the last user text and the drafts that answer it."""

    match: Literal["exact", "contains", "regex", "any"]
    pattern: str | re.Pattern[str]
    drafts: tuple[Draft, ...]
    by_turn: bool = False
    """Choose the draft by the assistant messages so far, else by the rule's earlier uses."""
    model: str = "*"
    """Shell pattern that the model's name must fit."""

    def groups(self, ask: Ask) -> dict[str, str] | None:
        """Return what the rule captures, or None if it does not fit."""
        text = ask.user_text
        if self.model != "*" and not fnmatchcase(ask.model, self.model):
            return None
        if isinstance(self.pattern, re.Pattern):
            found = self.pattern.search(text)
            if found is None:
                return None
            captured = {str(i): found[i] or "" for i in range((self.pattern.groups or 0) + 1)}
            captured.update({name: value or "" for name, value in found.groupdict().items()})
            captured.setdefault("text", text)
            return captured
        if (self.match == "exact" and text.strip() != self.pattern) or (
            self.match == "contains" and self.pattern not in text
        ):
            return None
        return {"0": text if self.match == "any" else self.pattern, "text": text}


@immutable
class Script(Value):
    """An ordered list of rules, and what is said when none fits."""

    rules: tuple[Rule, ...] = ()
    default: Draft | Callable[[Ask], Draft | str | None] | None = None
    """What is said if no rule fits; None, also as a function's result, echoes the last user text."""

    @classmethod
    def load(cls, path: str | Path) -> Script:
        """Read a YAML file; raise `ScriptError` naming file, line and key if it is wrong."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ScriptError(f"{path}: cannot read the script: {reason}") from error
        return cls.parse(text, name=str(path))

    @classmethod
    def parse(cls, text: str, *, name: str = "script") -> Script:
        """Read YAML text; `name` is what errors call it."""
        from llm_sim.yaml_lines import load

        return _Reader(name).script(load(text, name=name))

    @classmethod
    def of(cls, value: object) -> Script:
        """Make a script of a path, a mapping like the YAML file, a list of rules, or a function.

        The function gets every `Ask` and returns a text, a `Draft`, or None for an echo.
        """
        if isinstance(value, Script):
            return value
        if callable(value):
            return cls(default=value)
        if isinstance(value, str | Path):
            return cls.load(value)
        if isinstance(value, Sequence):
            value = {"rules": list(value)}
        return _Reader("script").script(value)

    def find(self, ask: Ask, use: Callable[[int], int]) -> Draft | None:
        """Return the draft for a request, None for an echo.

        `use(i)` counts a use of rule i and returns how often it was used before.
        """
        for index, rule in enumerate(self.rules):
            groups = rule.groups(ask)
            if groups is None:
                continue
            turn = ask.assistant_turns if rule.by_turn else use(index)
            return rule.drafts[min(turn, len(rule.drafts) - 1)].fill(groups)
        if callable(self.default):
            try:
                said = self.default(ask)
            except Exception as error:
                raise Refusal(500, f"the script failed: {error!r}", type="llm_sim") from error
            return Draft(text=said) if isinstance(said, str) else said
        if self.default is None:
            return None
        return self.default.fill({"0": ask.user_text, "text": ask.user_text})


class _Reader:
    """Turn plain values into a script, or fail with the line and the key."""

    def __init__(self, name: str) -> None:
        self._name = name

    def script(self, value: object) -> Script:
        mapping = self._mapping(value, ("rules", "default"), "the script", {})
        rules = mapping.get("rules") or []
        if not isinstance(rules, list):
            self._fail(mapping, "rules", f"expected a list of rules, got {rules!r}")
        default = mapping.get("default", "echo")
        return Script(
            rules=tuple(self._rule(rule, mapping) for rule in rules),
            default=None
            if default in ("echo", None)
            else self._draft(default, {"0", "text"}, mapping, "default"),
        )

    def _rule(self, value: object, parent: Mapping[Any, Any]) -> Rule:
        mapping = self._mapping(value, _RULE_KEYS, "a rule", parent)
        match = self._one_of(mapping, _MATCHES, "a condition")
        plan = self._one_of(mapping, _PLANS, "an answer")
        pattern: str | re.Pattern[str]
        pattern = "" if match == "any" else self._text(mapping, match)
        names = {"0", "text"}
        if match == "regex":
            try:
                pattern = re.compile(pattern)
            except re.error as error:
                self._fail(mapping, "regex", f"not a regular expression: {error}")
            names |= {str(i) for i in range(pattern.groups + 1)} | set(pattern.groupindex)
        elif match == "exact":
            pattern = str(pattern).strip()
        drafts = mapping[plan] if plan != "reply" else [mapping["reply"]]
        if not isinstance(drafts, list) or not drafts:
            self._fail(mapping, plan, f"expected a list of replies, got {drafts!r}")
        return Rule(
            match=match,  # type: ignore[arg-type]
            pattern=pattern,
            drafts=tuple(self._draft(draft, names, mapping, plan) for draft in drafts),
            by_turn=plan == "turns",
            model=self._text(mapping, "model") if "model" in mapping else "*",
        )

    def _draft(self, value: object, names: set[str], parent: Mapping[Any, Any], key: str) -> Draft:
        if isinstance(value, str):
            self._check_places(value, names, parent, key)
            return Draft(text=value)
        if isinstance(value, bool | int | float):
            self._fail(parent, key, f"expected text, got {value!r}; put it in quotes")
        mapping = self._mapping(value, _DRAFT_KEYS, "a reply", parent)
        if "text" in mapping and "json" in mapping:
            self._fail(mapping, "json", "a reply has either 'text' or 'json'")
        text = self._text(mapping, "text") if "text" in mapping else None
        if "json" in mapping:
            text = self._json(mapping, "json", mapping["json"])
        draft = Draft(
            text=text,
            tool_calls=self._tool_calls(mapping),
            reasoning=self._text(mapping, "reasoning") if "reasoning" in mapping else None,
            refusal=self._text(mapping, "refusal") if "refusal" in mapping else "",
            finish_reason=self._choice(mapping, "finish_reason", get_args(FinishReason)),
            delay_seconds=self._seconds(mapping, "delay_seconds"),
            fault=self._choice(mapping, "fault", tuple(FAULTS)),
        )
        for place in (
            draft.text,
            draft.reasoning,
            draft.refusal,
            *(a for _, a in draft.tool_calls),
        ):
            self._check_places(place or "", names, mapping, "text")
        return draft

    def _tool_calls(self, mapping: Mapping[Any, Any]) -> tuple[tuple[str, str], ...]:
        calls = mapping.get("tool_calls") or []
        if not isinstance(calls, list):
            self._fail(mapping, "tool_calls", f"expected a list of calls, got {calls!r}")
        found = []
        for value in calls:
            call = self._mapping(value, ("name", "arguments"), "a tool call", mapping)
            arguments = call.get("arguments") or {}
            if not isinstance(
                arguments, str
            ):  # text goes out as it is: broken JSON can be scripted
                arguments = self._json(call, "arguments", arguments)
            found.append((self._text(call, "name"), arguments))
        return tuple(found)

    def _mapping(
        self, value: object, keys: Sequence[str], what: str, parent: Mapping[Any, Any]
    ) -> Mapping[Any, Any]:
        if not isinstance(value, Mapping):
            expected = f"{what} must be a mapping with {_listed(keys)}, got {value!r}"
            raise ScriptError(f"{self._place(parent, None)}: {expected}")
        for key in value:
            if key not in keys:
                near = difflib.get_close_matches(str(key), keys, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected {_listed(keys)}"
                raise ScriptError(
                    f"{self._place(value, key)}: unknown key {key!r} in {what}; {hint}"
                )
        return value

    def _one_of(self, mapping: Mapping[Any, Any], keys: Sequence[str], what: str) -> str:
        given = [key for key in keys if key in mapping]
        if len(given) != 1:
            got = _listed(given) if given else "none"
            raise ScriptError(
                f"{self._place(mapping, given[-1] if given else None)}: "
                f"a rule needs {what}: exactly one of {_listed(keys)}, got {got}"
            )
        return given[0]

    def _text(self, mapping: Mapping[Any, Any], key: str) -> str:
        value = mapping.get(key)
        if not isinstance(value, str):
            self._fail(mapping, key, f"expected text, got {value!r}")
        return value

    def _choice(self, mapping: Mapping[Any, Any], key: str, choices: Sequence[str]) -> Any:
        value = mapping.get(key)
        value = str(value) if isinstance(value, int) else value
        if value is not None and value not in choices:
            self._fail(mapping, key, f"expected one of {_listed(choices)}, got {value!r}")
        return value

    def _seconds(self, mapping: Mapping[Any, Any], key: str) -> float:
        value = mapping.get(key, 0.0)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 86400:
            self._fail(mapping, key, f"expected seconds from 0 to a day, got {value!r}")
        return float(value)

    def _json(self, mapping: Mapping[Any, Any], key: str, value: object) -> str:
        try:
            return json.dumps(value, ensure_ascii=False)
        except TypeError as error:
            self._fail(mapping, key, f"expected a JSON value: {error}")

    def _check_places(
        self, text: str, names: set[str], mapping: Mapping[Any, Any], key: str
    ) -> None:
        for name in _PLACEHOLDER.findall(text):
            if name not in names:
                self._fail(
                    mapping,
                    key,
                    f"{{{{{name}}}}} is not captured; there is {_listed(sorted(names))}",
                )

    def _place(self, mapping: Mapping[Any, Any], key: object) -> str:
        line = getattr(mapping, "lines", {}).get(key) or getattr(mapping, "line", None)
        return f"{self._name}:{line}" if line else self._name

    def _fail(self, mapping: Mapping[Any, Any], key: str, problem: str) -> NoReturn:
        raise ScriptError(f"{self._place(mapping, key)}: key {key!r}: {problem}")


def _listed(words: Sequence[str]) -> str:
    return ", ".join(repr(word) for word in words)
