"""Replies of Anthropic's Messages API in our words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from llm_core import FinishReason, Part, ProviderResponse, ReasoningPart, TextPart, ToolCall, Usage
from llm_providers.anthropic.content_blocks import REDACTED
from llm_providers.classify import VendorError, find_error
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import dict_at, dicts_at, int_at, text_at
from llm_providers.reply import ReplyFrame, tool_call

__all__ = ["anthropic_finish_reason", "anthropic_usage", "read_message"]

_FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.REFUSAL,
}


def read_message(payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
    """Return the reply; raises VendorFailure for an error body or one without content."""
    error = find_error(payload)
    if error is not None or not isinstance(payload.get("content"), list):
        nothing = VendorError(message="the reply holds no content", code="api_error")
        raise VendorFailure(error or nothing)
    parts = [part for block in dicts_at(payload, "content") if (part := _part(block)) is not None]
    finish_reason = anthropic_finish_reason(text_at(payload, "stop_reason"))
    if finish_reason is FinishReason.LENGTH and parts and isinstance(parts[-1], ToolCall):
        parts[-1] = replace(parts[-1], complete=False)  # the limit fell into its arguments
    return frame.response(
        model=text_at(payload, "model"),
        parts=parts,
        usage=anthropic_usage(payload.get("usage")),
        finish_reason=finish_reason,
        response_id=text_at(payload, "id"),
        raw=payload,
    )


def anthropic_finish_reason(reason: str) -> FinishReason:
    """Return why the model stopped."""
    if not reason:
        return FinishReason.INCOMPLETE
    return _FINISH_REASONS.get(reason, FinishReason.OTHER)


def anthropic_usage(usage: Any) -> Usage:
    """Read Anthropic's counts, whose ``input_tokens`` leave out what was read from or written to the cache."""
    read = int_at(usage, "cache_read_input_tokens")
    written = int_at(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=int_at(usage, "input_tokens") + read + written,
        output_tokens=int_at(usage, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=int_at(usage, "output_tokens_details", "thinking_tokens"),
    )


def _part(block: dict[str, Any]) -> Part | None:
    kind = block.get("type")
    if kind == "text":
        text = text_at(block, "text")
        return TextPart(text=text) if text else None
    if kind == "thinking":
        signature = text_at(block, "signature") or None
        return ReasoningPart(text=text_at(block, "thinking"), signature=signature)
    if kind == "redacted_thinking":
        return ReasoningPart(signature=text_at(block, "data") or None, reference_id=REDACTED)
    if kind == "tool_use":
        arguments = json.dumps(dict_at(block, "input"), ensure_ascii=False)
        return tool_call(text_at(block, "id"), text_at(block, "name"), arguments)
    return None
