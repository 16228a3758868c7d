"""The table of nasty outputs: reading it, and scoring a reader on it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm_pipeline import NoValue, convert
from llm_pipeline.schema_check import SchemaCheck

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Case:
    """One nasty output and what is to come of it."""

    id: str
    text: str
    row: dict[str, Any]

    @property
    def lossy(self) -> bool:
        return bool(self.row.get("lossy", False))

    @property
    def fails(self) -> bool:
        return bool(self.row.get("fails", False))

    def accepts(self, value: Any) -> bool:
        """Tell whether `value` is what a careful reader takes out of the text."""
        row = self.row
        if self.fails:
            return False
        if "depth" in row:
            return depth(value) == row["depth"]
        if "want_digits" in row:
            return len(str(value["a"])) == row["want_digits"]
        if row.get("any_value"):
            return isinstance(value, (dict, list))
        return any(same(value, wanted) for wanted in [row["want"], *row.get("either", [])])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one case."""

    case: Case
    value: Any
    failed: bool
    lossy: bool

    @property
    def value_right(self) -> bool:
        return self.failed if self.case.fails else not self.failed and self.case.accepts(self.value)

    @property
    def right(self) -> bool:
        return self.value_right and (self.failed or self.lossy == self.case.lossy)

    @property
    def silent_corruption(self) -> bool:
        """A wrong value that comes without a warning."""
        return not self.failed and not self.value_right and not self.lossy


def load() -> list[Case]:
    """Read every table of the folder."""
    cases = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for row in yaml.safe_load(path.read_text(encoding="utf-8")):
            built = "".join(piece * times for piece, times in row.get("build", []))
            cases.append(Case(f"{path.stem}: {row['name']}", row.get("text", built), row))
    return cases


def judge(case: Case) -> Verdict:
    """Run our ladder on a case."""
    schema = case.row.get("schema")
    try:
        found = convert(
            case.text,
            cut=case.row.get("finish") in ("length", "incomplete"),
            prefill=case.row.get("prefill", ""),
            fits=SchemaCheck(schema).fits if schema else None,
        )
    except NoValue:
        return Verdict(case, None, True, False)
    return Verdict(case, found.value, False, found.lossy)


def judge_other(case: Case, reader: Callable[[str], Any]) -> Verdict:
    """Run another reader on a case: it has no verdict of its own, so none of its values is flagged.

    Anything but a filled or empty dict or list, and any exception, counts as an honest failure.
    """
    try:
        value = reader(case.row.get("prefill", "") + case.text)
    except Exception:  # noqa: BLE001 - other readers may raise anything
        return Verdict(case, None, True, False)
    return Verdict(case, value, not isinstance(value, (dict, list)), False)


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal in value and type; NaN equals NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def depth(value: Any) -> int:
    """Return how deep lists and dicts are nested."""
    levels = 0
    while isinstance(value, (dict, list)):
        levels += 1
        items = list(value.values()) if isinstance(value, dict) else value
        value = items[0] if items else None
    return levels


def shown(value: Any) -> str:
    """Return a value as short text."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) < 100 else text[:97] + "..."


def structural(text: str) -> list[int]:
    """Return where the brackets, colons, commas and quotes of a JSON text stand that are not inside strings."""
    places, inside, escaped = [], False, False
    for at, char in enumerate(text):
        if inside and escaped:
            escaped = False
        elif inside and char == "\\":
            escaped = True
        elif char == '"':
            inside = not inside
            places.append(at)
        elif not inside and char in "{}[],:":
            places.append(at)
    return places
