"""Mappings that cannot be changed, and JSON forms of whatever callers hold."""

from __future__ import annotations

import base64
import copy
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any

import pytest

from llm_core import EMPTY, FrozenDict, TextPart, freeze, thaw, to_json


class TestFreeze:
    def test_it_goes_all_the_way_down(self) -> None:
        frozen = freeze({"a": [{"b": {1, 2}}], 3: MappingProxyType({"c": (4, [5])})})
        assert frozen == {"a": ({"b": frozenset({1, 2})},), "3": {"c": (4, (5,))}}
        assert type(frozen["a"][0]) is FrozenDict
        assert type(frozen["3"]) is FrozenDict
        assert hash(frozen) == hash(freeze(thaw_sets(frozen)))

    def test_what_is_frozen_is_not_copied(self) -> None:
        frozen = freeze({"a": [{"b": 1}]})
        assert freeze(frozen)["a"] == frozen["a"]
        plain = freeze({"a": {"b": 1}})
        assert freeze(plain) is plain

    def test_what_hides_in_a_frozen_dict_is_frozen_too(self) -> None:
        half = FrozenDict(a=[1], b=2)
        assert freeze(half) == {"a": (1,), "b": 2}
        assert half["a"] == [1]

    def test_other_values_stay_as_they_are(self) -> None:
        thing = object()
        assert freeze(thing) is thing
        assert freeze("text") == "text"

    def test_a_mapping_that_contains_itself_is_refused(self) -> None:
        endless: dict[str, Any] = {}
        endless["self"] = endless
        with pytest.raises(RecursionError):
            freeze(endless)


def thaw_sets(value: Any) -> Any:
    """Return a thawed copy with lists for the sets, which hash alike once frozen."""
    return {**thaw(value), "a": [{"b": {1, 2}}]}


@pytest.mark.parametrize(
    "change",
    [
        lambda frozen: frozen.__setitem__("a", 2),
        lambda frozen: frozen.__delitem__("a"),
        lambda frozen: frozen.__ior__({"a": 2}),
        lambda frozen: frozen.clear(),
        lambda frozen: frozen.pop("a"),
        lambda frozen: frozen.popitem(),
        lambda frozen: frozen.setdefault("b", 2),
        lambda frozen: frozen.update(a=2),
    ],
)
def test_a_frozen_dict_cannot_be_changed(change: Callable[[FrozenDict], object]) -> None:
    frozen = FrozenDict(a=1)
    with pytest.raises(TypeError, match="this mapping is immutable; change a copy made by thaw"):
        change(frozen)
    assert frozen == {"a": 1}


def test_a_frozen_dict_is_a_dict_for_reading() -> None:
    frozen = FrozenDict(a=1)
    assert json.dumps(frozen) == '{"a": 1}'
    assert {**frozen, "b": 2} == {"a": 1, "b": 2}
    assert frozen | {"b": 2} == {"a": 1, "b": 2}
    assert copy.copy(frozen) is frozen
    assert copy.deepcopy(frozen) is frozen
    again = pickle.loads(pickle.dumps(frozen))
    assert (type(again), again) == (FrozenDict, {"a": 1})
    assert EMPTY == {}


def test_thawing_gives_a_copy_to_change() -> None:
    frozen = freeze({"a": [{"b": 1}]})
    thawed = thaw(frozen)
    thawed["a"][0]["b"] = 2
    thawed["a"].append(3)
    assert thawed == {"a": [{"b": 2}, 3]}
    assert frozen == {"a": ({"b": 1},)}


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    at: datetime


class Model:
    """What a pydantic model looks like from outside."""

    def model_dump(self) -> dict[str, Any]:
        return {"colour": Colour.RED}


class Broken:
    """Something that fails while it is being written."""

    def to_dict(self) -> dict[str, Any]:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        return "Broken()"


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class BrokenMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no")


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("text", "text"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Decimal("0.10"), "0.10"),
        (NOON, "2026-01-01T12:00:00+00:00"),
        (b"hi", "aGk="),
        (bytearray(b"hi"), "aGk="),
        ({1: (2, [3])}, {"1": [2, [3]]}),
        ({"x"}, ["x"]),
        (frozenset({"x"}), ["x"]),
        (TextPart(text="hi"), {"kind": "text", "text": "hi"}),
        (Model(), {"colour": "red"}),
        (Point(x=1, at=NOON), {"x": 1, "at": "2026-01-01T12:00:00+00:00"}),
        ([Broken(), 1], ["Broken()", 1]),
        ([Unshowable(), 1], ["<Unshowable>", 1]),
        (BrokenMapping(a=1), "{'a': 1}"),
        (Point, repr(Point)),
        (TextPart, repr(TextPart)),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_anything_has_a_json_form(value: Any, written: Any) -> None:
    assert to_json(value) == written
    assert json.loads(json.dumps(to_json(value), allow_nan=False)) == written


def test_a_value_that_contains_itself_has_a_json_form() -> None:
    endless: list[Any] = [1]
    endless.append(endless)
    assert to_json(endless) == "[1, [...]]"


def test_bytes_survive_json() -> None:
    every_byte = bytes(range(256))
    assert base64.b64decode(to_json(every_byte)) == every_byte
