"""What is wrong with a configuration, in words that name place, setting and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_core import ConfigurationError, Value, immutable
from llm_service.closest import closest
from llm_service.config.shape import names_for
from llm_service.config.tree import Origin, SettingPath, Settings, dotted

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["InvalidConfig", "Problem", "problems_of"]


@immutable
class Problem(Value):
    """One thing that is wrong."""

    place: str
    """Such as ``llm.yaml:12`` or a variable's name."""
    setting: str
    """Such as ``limits.max_rpm``; empty for a file as a whole."""
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.setting, self.message) if part)


class InvalidConfig(ConfigurationError):
    """A configuration cannot be used; the message has one line for each of `problems`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=_in_reading_order))
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[InvalidConfig], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


def _in_reading_order(problem: Problem) -> tuple[str, int]:
    name, _, line = problem.place.rpartition(":")
    return (name, int(line)) if line.isdecimal() else (problem.place, 0)


def problems_of(error: ValidationError, settings: Settings) -> list[Problem]:
    """Translate pydantic's findings, each with the origin of the value that it is about."""
    return [
        _problem(details, settings)
        for details in error.errors(include_url=False, include_context=True)
    ]


def _problem(details: ErrorDetails, settings: Settings) -> Problem:
    path: SettingPath = details["loc"]
    origin = settings.origin_of(path)
    return Problem(
        place=str(origin or "configuration"),
        setting=dotted(path),
        message=_message(details, path, origin),
    )


def _message(details: ErrorDetails, path: SettingPath, origin: Origin | None) -> str:
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        return f"unknown key{closest(path[-1], names_for(path, origin.kind if origin else None))}"
    if kind == "missing":
        return "is missing"
    if kind == "enum":
        names = [name.strip(" '") for name in _expected(details).replace(" or ", ",").split(",")]
        expected = closest(given, names)
        if "did you mean" in expected:
            expected = f", expected one of the known names{expected}"
        return f"got {_shown(given, path)}{expected}"
    expected = _expected(details)
    said = f"expected {expected}" if kind != "value_error" else expected
    return f"{_got(details, path)}{said}"


def _expected(details: ErrorDetails) -> str:
    if details["type"] == "enum":
        return str(details["ctx"]["expected"])
    said = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    bounds = details.get("ctx", {})
    for rule, words in (("ge", "{} or more"), ("gt", "more than {}"), ("le", "at most {}")):
        if rule in bounds:
            return words.format(bounds[rule])
    return {
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "float_type": "a number",
        "string_type": "text",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
        "mapping_type": "a mapping",
        "dict_type": "a mapping",
        "tuple_type": "a list",
    }.get(details["type"], said)


def _got(details: ErrorDetails, path: SettingPath) -> str:
    # What a rule over several settings says names the values itself.
    if details["type"] == "value_error" and isinstance(details["input"], dict):
        return ""
    return f"got {_shown(details['input'], path)}, "


def _shown(given: Any, path: SettingPath) -> str:
    """Write a value for people, but no text that may be a secret in the wrong place."""
    if isinstance(given, str) and path[0] == "providers" and not str(path[-1]).endswith("_seconds"):
        return "a text" if path[-1] != "kind" else repr(given[:80])
    if isinstance(given, dict | list | tuple):
        return "a mapping" if isinstance(given, dict) else "a list"
    shown = repr(given)
    return shown if len(shown) <= 80 else shown[:77] + "..."
