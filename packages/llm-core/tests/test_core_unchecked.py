"""Records built without checks, and records of which only what is given is checked."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from llm_core import (
    GenerationRequest,
    InvalidValue,
    Message,
    TextPart,
    Usage,
    drafts_of,
    unchecked,
    with_unchecked,
)


def test_a_record_built_unchecked_equals_one_built_with_checks() -> None:
    made = unchecked(Usage)(input_tokens=3, estimated=True)
    assert made == Usage(input_tokens=3, estimated=True)
    assert type(made) is Usage
    assert hash(made) == hash(Usage(input_tokens=3, estimated=True))


def test_a_record_built_unchecked_is_as_frozen() -> None:
    made = unchecked(Usage)(input_tokens=3)
    with pytest.raises(AttributeError, match="frozen"):
        made.input_tokens = 4  # type: ignore[misc]


def test_an_unchecked_record_of_unknown_fields_or_without_needed_ones_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Usage.*'tokens'"):
        unchecked(Usage)(tokens=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'text'"):
        unchecked(TextPart)()  # type: ignore[call-arg]


def test_a_copy_with_unchecked_changes_keeps_the_rest() -> None:
    usage = Usage(input_tokens=3, output_tokens=4)
    assert with_unchecked(usage, output_tokens=5) == Usage(input_tokens=3, output_tokens=5)


def test_a_draft_may_be_changed_until_it_becomes_the_value() -> None:
    draft = drafts_of(Usage)()
    for field in fields(Usage):
        setattr(draft, field.name, field.default)
    draft.input_tokens = 3
    with pytest.raises(AttributeError, match="tokens_in"):
        draft.tokens_in = 3
    draft.__class__ = Usage
    assert draft == Usage(input_tokens=3)
    with pytest.raises(AttributeError, match="frozen"):
        draft.input_tokens = 4


def test_a_request_from_its_fields_is_the_request_that_its_constructor_makes() -> None:
    fields: dict[str, Any] = {
        "user": "Hello",
        "stop": ["END"],
        "metadata": {"a": [1]},
        "priority": 2,
    }
    made = GenerationRequest.from_fields(fields)
    assert made == GenerationRequest(**fields)
    assert made.stop == ("END",)
    assert made.metadata == {"a": (1,)}


@pytest.mark.parametrize(
    "fields",
    [
        {"user": 3},
        {},
        {"user": "Hello", "max_attempts": 0},
        {"messages": (Message.user("a"),), "user": "b"},
    ],
)
def test_a_request_from_fields_that_cannot_be_is_refused_in_the_same_words(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(InvalidValue) as expected:
        GenerationRequest(**fields)
    with pytest.raises(InvalidValue) as refused:
        GenerationRequest.from_fields(fields)
    assert str(refused.value) == str(expected.value)
