"""Every record survives JSON, pickle and copying, and none can be changed.

The strategies are made from the type hints, so a new field or class is tested from its first day.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import json
import pickle
import pkgutil
import types
import typing
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import llm_core
from llm_core import (
    UNSET,
    AudioPart,
    CachePolicy,
    CheckedRecord,
    Cost,
    CostStatus,
    FilePart,
    FrozenDict,
    GenerationRequest,
    ImagePart,
    LLMCallRequest,
    Message,
    Modality,
    Record,
    ResponseSchema,
    Role,
    Sampling,
    Tool,
    ToolChoice,
    ToolChoiceMode,
    TraceContext,
    Usage,
)

PUBLIC: list[Any] = [getattr(llm_core, name) for name in llm_core.__all__]
RECORDS = [
    value
    for value in PUBLIC
    if isinstance(value, type) and issubclass(value, Record) and dataclasses.is_dataclass(value)
]
every_record = pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

texts = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
names = st.from_regex(r"[a-zA-Z0-9_-]{1,8}", fullmatch=True)
seconds = st.floats(0.001, 1e6)

SIMPLE: Mapping[Any, st.SearchStrategy[Any]] = {
    Any: json_values,
    str: texts,
    bool: st.booleans(),
    int: st.integers(),
    float: finite,
    bytes: st.binary(max_size=8),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=offsets),
}


@functools.cache
def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values that a field of type `hint` may have."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in SIMPLE:
        return SIMPLE[hint]
    if isinstance(hint, typing.TypeVar):
        return json_values
    if origin in (types.UnionType, typing.Union):
        return st.one_of([st.none() if a is type(None) else values_of(a) for a in arguments])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(texts, values_of(arguments[1]), max_size=2)
    kind = origin or hint
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    return records_of(kind)


@functools.cache
def records_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for valid records of `cls`, with and without the optional fields."""
    hints = typing.get_type_hints(cls)
    rules = RULES.get(cls, {})
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.metadata.get("json", True):
            has_default = field.default is not dataclasses.MISSING
            known = field.name in rules
            strategy = rules[field.name] if known else values_of(hints[field.name])
            (optional if has_default else required)[field.name] = strategy
    fields = st.fixed_dictionaries(required, optional=optional)
    return fields.map(lambda given: cls(**REPAIRS.get(cls, lambda same: same)(given)))


def with_one_source(given: dict[str, Any]) -> dict[str, Any]:
    """Keep the first source of a part that must have exactly one, or give it one."""
    names = ("data", "url", "file_id")
    first = next((n for n in names if given.get(n) is not None), None)
    kept = {name: value for name, value in given.items() if name not in names or name == first}
    return kept if first else {**kept, "url": "https://example.org/x"}


def callable_request(given: dict[str, Any]) -> dict[str, Any]:
    """Make fields fit each other: the tool that is named, the audio that is asked for."""
    choice = given.get("tool_choice")
    if choice is not None and choice.name is not None:
        given = {**given, "tools": (*given.get("tools", ()), Tool(name=choice.name))}
    if Modality.AUDIO in given.get("output_modalities", ()):
        given = {**given, "audio_output": llm_core.AudioOutput(voice="alloy")}
    return given


def asking_request(given: dict[str, Any]) -> dict[str, Any]:
    """Let a request give either messages or single fields."""
    single = {"user", "system", "assistant", "images", "audio", "files"}
    if given.get("messages"):
        given = {name: value for name, value in given.items() if name not in single}
    else:
        given = {**given, "user": given.get("user") or "Where is Lima?"}
    return callable_request(given)


def fitting_choice(given: dict[str, Any]) -> dict[str, Any]:
    """Name a tool if, and only if, the mode wants one."""
    named = given.get("mode") is ToolChoiceMode.NAMED
    return {**given, "name": (given.get("name") or "find") if named else None}


def fitting_cost(given: dict[str, Any]) -> dict[str, Any]:
    """Give every known price an amount."""
    known = given.get("status", CostStatus.UNPRICED) is not CostStatus.UNPRICED
    return {**given, "amount": given.get("amount") or Decimal(1)} if known else given


REPAIRS: Mapping[type, Any] = {
    ImagePart: with_one_source,
    FilePart: with_one_source,
    LLMCallRequest: callable_request,
    GenerationRequest: asking_request,
    ToolChoice: fitting_choice,
    Cost: fitting_cost,
}
RULES: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    AudioPart: {"data": st.binary(min_size=1, max_size=8)},
    CachePolicy: {"ttl_seconds": st.none() | seconds, "stale_seconds": seconds},
    ResponseSchema: {"name": names, "json_schema": st.just({"type": "object", "required": ["a"]})},
    Sampling: {
        "temperature": st.none() | st.floats(0, 2),
        "top_p": st.none() | st.floats(0, 1),
        "top_k": st.none() | st.integers(1, 100),
        "frequency_penalty": st.none() | st.floats(-2, 2),
        "presence_penalty": st.none() | st.floats(-2, 2),
    },
    Tool: {"name": names},
    ToolChoice: {"name": names},
    TraceContext: {
        "trace_id": st.from_regex(r"[1-9a-f][0-9a-f]{31}", fullmatch=True),
        "span_id": st.from_regex(r"[1-9a-f][0-9a-f]{15}", fullmatch=True),
    },
    Usage: {
        field.name: st.integers(0, 10**9)
        for field in dataclasses.fields(Usage)
        if field.name != "estimated"
    },
}
RULES[Message] = {"content": st.lists(values_of(llm_core.Part), min_size=1, max_size=2).map(tuple)}
CALL_RULES: dict[str, st.SearchStrategy[Any]] = {
    "model": st.just("gpt-5-mini"),
    "max_output_tokens": st.none() | st.integers(1, 10**6),
    "stop": st.lists(st.text(min_size=1, max_size=4), max_size=2).map(tuple),
}
MESSAGES = st.lists(
    records_of(Message).filter(lambda message: message.role is not Role.SYSTEM),
    min_size=1,
    max_size=2,
).map(tuple)
RULES[LLMCallRequest] = {
    **CALL_RULES,
    "messages": MESSAGES,
    "timeout_seconds": st.none() | seconds,
}
RULES[GenerationRequest] = {
    **CALL_RULES,
    "messages": st.just(()) | MESSAGES,
    "deadline_seconds": st.none() | seconds,
    "max_attempts": st.none() | st.integers(1, 9),
    "fallback_value": st.just(UNSET) | json_values,
}


def test_every_record_class_is_public() -> None:
    for module in pkgutil.iter_modules(llm_core.__path__, "llm_core."):
        importlib.import_module(module.name)
    found: list[Any] = [Record]
    seen = set()
    while found:
        cls = found.pop()
        found.extend(cls.__subclasses__())
        if cls.__module__.startswith("llm_core.") and hasattr(cls, "__dataclass_fields__"):
            seen.add(cls.__name__)
    assert seen == {cls.__name__ for cls in RECORDS}


@every_record
@SETTINGS
@given(data=st.data())
def test_a_record_comes_back_from_json_as_it_was(cls: Any, data: st.DataObject) -> None:
    record = data.draw(records_of(cls))
    text = json.dumps(record.to_dict(), allow_nan=False)
    again = cls.from_dict(json.loads(text))
    assert again == record
    assert json.dumps(again.to_dict()) == text


@every_record
@settings(SETTINGS, max_examples=4)
@given(data=st.data())
def test_a_record_cannot_be_changed_but_can_be_copied(cls: Any, data: st.DataObject) -> None:
    record = data.draw(records_of(cls))
    assert not hasattr(record, "__dict__")
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field.name, getattr(record, field.name))
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(record, field.name)
        if typing.get_origin(hints[field.name]) is Mapping:
            assert type(getattr(record, field.name)) is FrozenDict
        if typing.get_origin(hints[field.name]) is tuple:
            assert type(getattr(record, field.name)) is tuple
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to 'something_new'"):
        record.something_new = 1
    assert pickle.loads(pickle.dumps(record)) == record
    assert copy.deepcopy(record) == record
    assert copy.copy(record) == record
    assert dataclasses.replace(record) == record


@every_record
def test_a_record_takes_its_fields_by_name_only(cls: Any) -> None:
    assert all(field.kw_only for field in dataclasses.fields(cls))
    with pytest.raises(TypeError):
        cls("positional")


@every_record
def test_a_record_says_what_it_is(cls: Any) -> None:
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}("), "that is the docstring dataclasses make"


@pytest.mark.parametrize(
    "union",
    [llm_core.Part, llm_core.StreamEvent, llm_core.TelemetryEvent],
    ids=["Part", "StreamEvent", "TelemetryEvent"],
)
def test_the_classes_of_a_union_have_kinds_of_their_own(union: Any) -> None:
    kinds = [cls.kind for cls in typing.get_args(union)]
    assert all(kinds)
    assert len(set(kinds)) == len(kinds)


def test_records_that_callers_fill_in_are_checked() -> None:
    for cls in (GenerationRequest, LLMCallRequest, Message, Tool, Sampling, Usage, Cost):
        assert issubclass(cls, CheckedRecord)
