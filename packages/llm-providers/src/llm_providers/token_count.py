"""How many tokens a request is, and who says so."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from functools import lru_cache
from typing import Any

from llm_core import LLMCallRequest, Record, TextPart, ToolCall, ToolResult, immutable
from llm_providers.token_estimate import estimate_input_tokens

__all__ = ["CountedBy", "TokenCount", "count_locally"]

_TOKENS_PER_MESSAGE = 4
"""OpenAI cookbook, «How to count tokens with tiktoken»: three for a message and one for its role; three more begin the reply."""
_TOKENS_BEFORE_REPLY = 3


class CountedBy(StrEnum):
    """Who counted."""

    VENDOR = "vendor"
    """The vendor's own endpoint: exact."""
    TIKTOKEN = "tiktoken"
    """OpenAI's tokeniser on this machine: exact for text, about right for tools, images not counted."""
    ESTIMATE = "estimate"
    """One token per four bytes (`llm_providers.token_estimate`)."""


@immutable
class TokenCount(Record):
    """The input tokens of a request."""

    input_tokens: int
    counted_by: CountedBy


async def count_locally(request: LLMCallRequest) -> TokenCount:
    """Count with tiktoken if it is installed and knows the model, else estimate.

    tiktoken fetches a model's vocabulary once from the network and keeps it on disk;
    where it cannot, the estimate is given.
    """
    encoding = await asyncio.to_thread(_encoding_for, request.model)
    if encoding is None:
        return TokenCount(
            input_tokens=estimate_input_tokens(request), counted_by=CountedBy.ESTIMATE
        )
    return TokenCount(input_tokens=_count(request, encoding), counted_by=CountedBy.TIKTOKEN)


@lru_cache(maxsize=64)
def _encoding_for(model: str) -> Any:
    try:
        import tiktoken
    except ImportError:
        return None
    try:
        return tiktoken.encoding_for_model(model)
    except Exception:  # noqa: BLE001 - an unknown model, or whatever keeps the vocabulary from being fetched
        return None


def _count(request: LLMCallRequest, encoding: Any) -> int:
    total = _TOKENS_BEFORE_REPLY
    for message in request.messages:
        total += _TOKENS_PER_MESSAGE
        for part in message.content:
            if isinstance(part, TextPart):
                total += _length(encoding, part.text)
            elif isinstance(part, ToolCall):
                total += _length(encoding, part.name + part.arguments_text)
            elif isinstance(part, ToolResult):
                total += _length(encoding, part.content)
    for tool in request.tools:
        total += _length(encoding, tool.name + tool.description + json.dumps(tool.parameters))
    if request.response_schema is not None:
        total += _length(encoding, json.dumps(request.response_schema.json_schema))
    return total


def _length(encoding: Any, text: str) -> int:
    return len(encoding.encode(text, disallowed_special=()))
