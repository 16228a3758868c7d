"""Whatever comes in: nothing is raised, nothing is invented, and time grows with the length only."""

from __future__ import annotations

import ast
import gc
import json
import string
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_pipeline import (
    ConvertToDict,
    ExtractValue,
    JsonLoad,
    NoValue,
    Pipeline,
    RegexExtract,
    StripFences,
    StripThinking,
    convert,
)

SIGNS = st.sampled_from(
    [
        *"{}[]()\"'`:,;=#/*\\<>&.-+ \n\t",
        "“", "”", "’", "：", "，", "｛", "\ufeff", "\u200b", "\ud83d", "\0",
        '\\"', "\\u00", "//", "/*", "*/", "...", "```json\n", "```", "<think>", "</think>",
        "true", "None", "NaN", "null", "02139", "12", "-1.5e3", "1e999", "0x1F",
        '"a"', "'b'", "key", '"k": ', "k: ", "https://x.y", "x y", '{"a": 1}', "[1, 2]", "&quot;",
    ]
)  # fmt: skip
TEXTS = st.lists(SIGNS, max_size=60).map("".join) | st.text(max_size=200)
WORDS = st.text(string.ascii_letters + " ',:.{}[]#/é😀\n\\", max_size=12)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(WORDS, VALUES, max_size=4) | st.lists(VALUES, max_size=4)
PIPELINE = Pipeline(
    [
        StripThinking(on_error="skip"),
        StripFences(),
        ConvertToDict(),
        ExtractValue("$..a", many=True, default=[]),
    ]
)
fuzzed = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@fuzzed
@given(TEXTS, st.booleans(), TEXTS)
def test_no_text_raises_out_of_the_ladder(text: str, cut: bool, prefill: str) -> None:
    try:
        conversion = convert(text, cut=cut, prefill=prefill)
    except NoValue:
        return
    assert isinstance(conversion.value, (dict, list))
    json.dumps(conversion.trail())


@fuzzed
@given(TEXTS | VALUES)
def test_nothing_raises_out_of_a_pipeline(content: Any) -> None:
    result = PIPELINE.run_sync(content)
    assert result.raw_content is content
    assert result.success or result.error is not None
    Pipeline([JsonLoad(), RegexExtract("a")]).run_sync(content)


@fuzzed
@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1]))
def test_json_is_read_as_it_is(document: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    conversion = convert(text)
    assert conversion.value == document
    assert conversion.rung == "strict"
    assert not conversion.lossy


@fuzzed
@given(DOCUMENTS)
def test_fences_change_nothing(document: Any) -> None:
    conversion = convert(f"Here it is:\n```json\n{json.dumps(document, indent=1)}\n```\nGood luck!")
    assert conversion.value == document
    assert not conversion.lossy


@fuzzed
@given(DOCUMENTS)
def test_python_literals_are_read_as_python_reads_them(document: Any) -> None:
    text = repr(document)
    conversion = convert(text)
    if not conversion.lossy:
        assert conversion.value == ast.literal_eval(text)


@fuzzed
@given(DOCUMENTS, st.data())
def test_truncation_is_never_silent(document: Any, data: st.DataObject) -> None:
    text = json.dumps(document)
    end = data.draw(st.integers(0, len(text) - 1))
    try:
        conversion = convert(text[:end], cut=True)
    except NoValue:
        return
    assert conversion.lossy
    if not any(bracket in said for said in texts_of(document) for bracket in "[{"):
        # A bracket inside a text that is cut there may be taken for the beginning of the value.
        assert is_part(conversion.value, document)


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text in a document, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


def is_part(value: Any, whole: Any) -> bool:
    """Tell whether `value` holds nothing that `whole` does not."""
    if isinstance(value, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value[key], whole[key]) for key in value)
    if isinstance(value, list) and isinstance(whole, list):
        return len(value) <= len(whole) and all(map(is_part, value, whole))
    if isinstance(value, str) and isinstance(whole, str):
        return whole.startswith(value)
    return bool(value == whole)


DAMAGED = st.sampled_from("{}[],:\"'")


@fuzzed
@given(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1, max_size=3), st.data())
def test_a_lost_sign_of_structure_is_never_silent(
    nasty: ModuleType, document: Any, data: st.DataObject
) -> None:
    text = json.dumps(document)
    places = nasty.structural(text)
    at = data.draw(st.sampled_from(places))
    damaged = text[:at] + text[at + 1 :]
    try:
        conversion = convert(damaged)
    except NoValue:
        return
    assert conversion.lossy or conversion.value == document or is_json(damaged)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


PIECES = [
    "{", "[", '{"a":', "[1, ", '{"a": "x", ', "{'a': 'x', ", '"', "'", "It is {so}. ", '{"a": 1} ',
    "{/*", "{'a' ", '{"a" "b" ', "[a b ", '["x" ', "\\", '\\"', "<think>", "</think>", "&quot;",
    "> \n", "```json\n", '"a": 1, ', "(", "[1,2],", '{x: "', "[“", '{"a": 1]', "...", "{a:b c ",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_time_grows_with_the_length_only(piece: str) -> None:
    """This one looks at the processor's clock: 50 times the length may take 75 times as long, and a little."""
    short, long = ((piece * (n // len(piece) + 1))[:n] for n in (2_000, 100_000))
    # What else this process holds would otherwise be searched for garbage on our time.
    gc.collect()
    gc.freeze()
    try:
        allowed = 75 * min(seconds_for(short) for _ in range(4)) + 0.02
        # Another program may have disturbed one of them; the first that was quick enough decides.
        assert any(seconds_for(long) <= allowed for _ in range(4))
    finally:
        gc.unfreeze()


def seconds_for(text: str) -> float:
    """Measure the processor's time for one run of the pipeline."""
    started = time.process_time()
    PIPELINE.run_sync(text)
    return time.process_time() - started


def test_a_large_truncated_text_is_read_at_once() -> None:
    row = '{"id": 1, "name": "row with a name", "ok": true, "value": 3.25}, '
    text = ("[" + row * 13_000)[:800_000]
    spent = []
    for _ in range(3):
        started = time.process_time()
        conversion = convert(text, cut=True)
        spent.append(time.process_time() - started)
    assert conversion.truncated
    assert min(spent) < 0.3
