"""OpenAI's token counts in our words; its totals already include their parts."""

from __future__ import annotations

from typing import Any

from llm_core import Usage
from llm_providers.json_reading import int_at

__all__ = ["chat_usage", "responses_usage"]


def responses_usage(usage: Any) -> Usage:
    """Read the ``usage`` of a Responses reply."""
    return Usage(
        input_tokens=int_at(usage, "input_tokens"),
        output_tokens=int_at(usage, "output_tokens"),
        cache_read_tokens=int_at(usage, "input_tokens_details", "cached_tokens"),
        cache_write_tokens=int_at(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=int_at(usage, "output_tokens_details", "reasoning_tokens"),
    )


def chat_usage(usage: Any) -> Usage:
    """Read the ``usage`` of a Chat Completions reply."""
    return Usage(
        input_tokens=int_at(usage, "prompt_tokens"),
        output_tokens=int_at(usage, "completion_tokens"),
        cache_read_tokens=int_at(usage, "prompt_tokens_details", "cached_tokens"),
        cache_write_tokens=int_at(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=int_at(usage, "completion_tokens_details", "reasoning_tokens"),
        audio_input_tokens=int_at(usage, "prompt_tokens_details", "audio_tokens"),
        audio_output_tokens=int_at(usage, "completion_tokens_details", "audio_tokens"),
    )
