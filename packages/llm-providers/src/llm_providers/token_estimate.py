"""A documented estimate of tokens, for when nobody else counts them.

One token per four bytes of UTF-8 text, which is OpenAI's rule of thumb for English («What are tokens and how to count them»)
and errs on the high side for other scripts; four tokens per message for its framing (OpenAI cookbook,
«How to count tokens with tiktoken»: three to four); images 765 (OpenAI: a 1024 by 1024 image in high detail).
"""

from __future__ import annotations

import json

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    LLMCallRequest,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    Usage,
)

__all__ = ["estimate_input_tokens", "estimate_input_usage", "estimate_text_tokens"]

_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_IMAGE = 765
_AUDIO_BYTES_PER_TOKEN = 3200
"""OpenAI bills 10 tokens a second of input audio; 16-bit mono at 16 kHz is 32,000 bytes a second."""
_FILE_BYTES_PER_TOKEN = 4


def estimate_text_tokens(text: str) -> int:
    """Return about how many tokens `text` is, rounded up."""
    return (len(text.encode("utf-8", "replace")) + 3) // 4


def estimate_input_tokens(request: LLMCallRequest) -> int:
    """Return about how many input tokens `request` amounts to, tools and schema included."""
    total = 0
    for message in request.messages:
        total += _TOKENS_PER_MESSAGE + sum(_part_tokens(part) for part in message.content)
    for tool in request.tools:
        total += estimate_text_tokens(tool.name + tool.description + json.dumps(tool.parameters))
    if request.response_schema is not None:
        total += estimate_text_tokens(json.dumps(request.response_schema.json_schema))
    return total


def estimate_input_usage(request: LLMCallRequest) -> Usage:
    """Return the estimate as a usage without output."""
    return Usage(input_tokens=estimate_input_tokens(request), estimated=True)


def _part_tokens(part: Part) -> int:
    if isinstance(part, (TextPart, ReasoningPart)):
        return estimate_text_tokens(part.text)
    if isinstance(part, ImagePart):
        return _TOKENS_PER_IMAGE
    if isinstance(part, AudioPart):
        return -(-len(part.data) // _AUDIO_BYTES_PER_TOKEN)
    if isinstance(part, FilePart):
        return -(-len(part.data or b"") // _FILE_BYTES_PER_TOKEN)
    if isinstance(part, ToolCall):
        return estimate_text_tokens(part.name + part.arguments_text)
    return estimate_text_tokens(part.content)
