"""How many tokens a call reserves before it is made."""

from __future__ import annotations

from typing import Any

import pytest

from llm_core import (
    AudioPart,
    FilePart,
    GenerationRequest,
    ImagePart,
    Message,
    ReasoningPart,
    ResponseSchema,
    Tool,
    ToolCall,
)
from llm_service.estimate import estimate_tokens

QUESTION = 4 + 2
"""A message and its five characters of text."""
SCHEMA = {"type": "object"}
"""18 characters as Python writes them, which is 5 tokens."""


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 0),
        ({"images": (ImagePart(data=b"?"), ImagePart(url="https://x.test/i.png"))}, 2 * 765),
        ({"audio": (AudioPart(data=bytes(3_201)),)}, 2),
        ({"files": (FilePart(data=b"12345"), FilePart(file_id="f"))}, 2),
        ({"response_schema": ResponseSchema(name="s", json_schema=SCHEMA)}, 5),
        ({"tools": (Tool(name="pay1", description="Pays.", parameters=SCHEMA),)}, 7),
    ],
)
def test_whatever_is_sent_is_reserved(fields: dict[str, Any], tokens: int) -> None:
    request = GenerationRequest(user="What?", **fields)
    assert estimate_tokens(request.to_call("m")) == (QUESTION + tokens, 500)


def test_a_conversation_counts_its_thoughts_and_tool_calls() -> None:
    request = GenerationRequest(
        messages=(
            Message.user("What?"),
            Message.assistant(
                ReasoningPart(text="12345678"), ToolCall(id="1", name="n", arguments_text='{"a":1}')
            ),
        ),
        max_output_tokens=7,
    )
    assert estimate_tokens(request.to_call("m")) == (QUESTION + 4 + 2 + 2, 7)
