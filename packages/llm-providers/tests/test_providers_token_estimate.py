from __future__ import annotations

import pytest

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    LLMCallRequest,
    Message,
    ReasoningPart,
    ResponseSchema,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_providers.token_estimate import estimate_input_tokens, estimate_text_tokens


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("\u20ac" * 4, 3)]
)
def test_four_bytes_are_a_token(text: str, tokens: int) -> None:
    assert estimate_text_tokens(text) == tokens


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        (Message.user("x" * 40), 10),
        (Message.user(ImagePart(data=b"x")), 765),
        (Message.user(AudioPart(data=b"x" * 32_000)), 10),
        (Message.user(FilePart(data=b"x" * 40)), 10),
        (Message.user(FilePart(file_id="f")), 0),
        (Message.assistant(ReasoningPart(text="x" * 40)), 10),
        (Message.assistant(ToolCall(id="c", name="name", arguments_text="{xx}")), 2),
        (Message.tool(ToolResult(tool_call_id="c", content="x" * 40)), 10),
    ],
)
def test_every_part_counts(message: Message, tokens: int) -> None:
    request = LLMCallRequest(model="m", messages=(Message.user("abcd"), message))
    assert estimate_input_tokens(request) == 4 + 1 + 4 + tokens


def test_tools_and_schemas_count() -> None:
    bare = LLMCallRequest(model="m", messages=(Message.user("abcd"),))
    full = LLMCallRequest(
        model="m",
        messages=(Message.user("abcd"),),
        tools=(Tool(name="name", description="d" * 8, parameters={}),),
        response_schema=ResponseSchema(name="s", json_schema={"type": "object"}),
    )
    # name, description and "{}" are 14 bytes; the schema is 18 bytes of JSON
    assert estimate_input_tokens(full) - estimate_input_tokens(bare) == 4 + 5
