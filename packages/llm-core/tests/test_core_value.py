"""`@immutable`: what a value is, however it was made."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from llm_core import Value, immutable, unchecked


@immutable
class Point(Value):
    """A place, for these tests."""

    x: int
    y: int = 0
    note: str = dataclasses.field(default="", compare=False, repr=False)


@immutable
class Positive(Value):
    """A number above zero."""

    number: int

    def __post_init__(self) -> None:
        if self.number <= 0:
            raise ValueError(f"got {self.number!r}, expected a number above 0")


@immutable
class Nothing(Value):
    """A value without fields."""


class Named(Point):
    """A plain subclass, which has a `__dict__`."""


def test_values_are_equal_if_what_is_compared_is_equal() -> None:
    assert Point(x=1, note="a") == Point(x=1, y=0, note="b")
    assert hash(Point(x=1, note="a")) == hash(Point(x=1))
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Named(x=1)
    assert Nothing() == Nothing()


def test_a_value_says_what_it_is() -> None:
    assert repr(Point(x=1, note="hidden")) == "Point(x=1, y=0)"
    assert repr(Nothing()) == "Nothing()"


@pytest.mark.parametrize("made", [Point(x=1), Named(x=1), unchecked(Point)(x=1)])
def test_no_attribute_can_be_set_or_deleted(made: Any) -> None:
    for name in ("x", "unknown"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to '{name}'"):
            setattr(made, name, 2)
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete '{name}'"):
            delattr(made, name)
    assert made.x == 1


def test_a_value_may_be_of_any_other_kind_besides() -> None:
    class Labelled:
        label = "a row"

    @immutable
    class Row(Value, Labelled, Sequence[Any]):
        items: tuple[Any, ...]

        def __getitem__(self, place: Any) -> Any:
            return self.items[place]

        def __len__(self) -> int:
            return len(self.items)

    assert list(Row(items=(1, 2))) == list(unchecked(Row)(items=(1, 2))) == [1, 2]
    assert Row(items=()).label == "a row"


def test_a_wrong_argument_is_a_type_error_of_the_constructor() -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        Point(x=1, z=2)  # type: ignore[call-arg]
    assert list(inspect.signature(Point).parameters) == ["x", "y", "note"]


def test_a_value_is_checked_when_it_is_made_replaced_or_subclassed() -> None:
    class Small(Positive):
        pass

    for make in (Positive, Small):
        with pytest.raises(ValueError, match="got -1"):
            make(number=-1)
    with pytest.raises(ValueError, match="got 0"):
        dataclasses.replace(Positive(number=1), number=0)


def test_unchecked_values_are_not_checked() -> None:
    assert unchecked(Positive)(number=-1).number == -1


@pytest.mark.parametrize("value", [Point(x=1, note="kept"), Named(x=1), Nothing()])
def test_a_value_survives_copying_and_pickling(value: Value) -> None:
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert again == value
        assert type(again) is type(value)
    assert pickle.loads(pickle.dumps(Point(x=1, note="kept"))).note == "kept"


def test_a_frozen_dataclass_may_be_a_value_too() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Line(Value):
        points: list[int] = dataclasses.field(default_factory=list)

    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to 'unknown'"):
        Line([1]).unknown = 1  # type: ignore[attr-defined]
    assert copy.copy(Line([1])) == Line([1])


def test_a_default_that_must_be_made_anew_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Bag\.items: expected a default or none"):

        @immutable
        class Bag(Value):
            items: list[int] = dataclasses.field(default_factory=list)
