"""The rungs that repair: bounded, and held against the text."""

from __future__ import annotations

from typing import Any

import pytest

from llm_pipeline.evidence import NotPlain, plain, unfounded
from llm_pipeline.repairers import (
    LONGEST_REPAIR,
    Unrepaired,
    by_json_repair,
    by_python_literal,
    by_string2dict,
)

ALL = [by_json_repair, by_string2dict, by_python_literal]


@pytest.mark.parametrize("repair", ALL)
def test_long_and_deep_texts_are_not_given_to_them(repair: Any) -> None:
    with pytest.raises(Unrepaired, match="longer than"):
        repair("[" + "1," * LONGEST_REPAIR)
    with pytest.raises(Unrepaired, match="nested deeper"):
        repair("[" * 100)


@pytest.mark.parametrize("repair", ALL)
def test_texts_without_a_value_have_no_repair(repair: Any) -> None:
    with pytest.raises(Unrepaired):
        repair("nothing")


@pytest.mark.parametrize("text", ["[...]", "{1, 2}", "[b'x']", "{'a': 1, 'a': 2}", "[1+2j]", "42"])
def test_python_literals_without_a_json_form_are_refused(text: str) -> None:
    with pytest.raises(Unrepaired):
        by_python_literal(text)


def test_string2dict_may_not_strip_fences_out_of_values() -> None:
    with pytest.raises(Unrepaired, match="not in the text"):
        by_string2dict("{'md': 'a ```json b', 'n': 0x10}")
    assert by_string2dict("{'a': (1, 2)}") == {"a": [1, 2]}


def test_json_repair_tells_what_it_did() -> None:
    value, log = by_json_repair('{"a": 1, "b: 2}')
    assert value["a"] == 1
    assert log


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"zip": 2139}, '{"zip": 02139}'),
        ({"a": "x"}, '{"a": "y"}'),
        ({"b": 1}, '{"a": 1}'),
        ({"a": True}, '{"a": 1}'),
        ({"a": None}, '{"a": }'),
        ([10**400], "[1]"),
    ],
)
def test_what_does_not_stand_in_the_text_is_named(value: Any, text: str) -> None:
    assert unfounded(value, text) is not None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 'say "hi"'}, '{"a": "say \\"hi\\""}'),
        ({"é": 1.50}, '{"\\u00e9": 1.5}'),
        ({"a": [None, False]}, "{a: [None, False]}"),
        ([10**400], "[1" + "0" * 400 + "]"),
    ],
)
def test_what_stands_in_the_text_is_founded(value: Any, text: str) -> None:
    assert unfounded(value, text) is None


def test_plain_gives_json_data() -> None:
    assert plain({1: (1, 2), None: [], False: "x"}) == {"1": [1, 2], "null": [], "false": "x"}
    for odd in ({1: 1, "1": 2}, {(1, 2): 1}, {1, 2}, ..., b"x"):
        with pytest.raises(NotPlain):
            plain(odd)
