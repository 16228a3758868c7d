"""Replies of Chat Completions in our words."""

from __future__ import annotations

from typing import Any

from llm_core import (
    AudioPart,
    FinishReason,
    Part,
    ProviderResponse,
    ReasoningPart,
    TextPart,
)
from llm_providers.classify import VendorError, find_error
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import dict_at, dicts_at, text_at
from llm_providers.media import from_base64
from llm_providers.openai.usage import chat_usage
from llm_providers.reply import ReplyFrame, is_whole, sample_rate_of, tool_call

__all__ = ["chat_finish_reason", "read_chat"]

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


def read_chat(payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
    """Return the first choice; raises VendorFailure for an error body or one without choices."""
    error = find_error(payload)
    choices = dicts_at(payload, "choices")
    if error is not None or not choices:
        nothing = VendorError(message="the reply holds no choices", code="server_error")
        raise VendorFailure(error or nothing)
    message = dict_at(choices[0], "message")
    refusal = text_at(message, "refusal")
    reason = text_at(choices[0], "finish_reason")
    parts = _parts(message, refusal, frame, cut=reason == "length")
    return frame.response(
        model=text_at(payload, "model"),
        parts=parts,
        usage=chat_usage(payload.get("usage")),
        finish_reason=chat_finish_reason(
            reason,
            refused=bool(refusal),
            called=bool(dicts_at(message, "tool_calls")),
        ),
        response_id=text_at(payload, "id"),
        raw=payload,
    )


def chat_finish_reason(reason: str, *, refused: bool, called: bool) -> FinishReason:
    """Return why the model stopped; a tool call counts even where a server says ``stop``."""
    if refused and reason in ("stop", ""):
        return FinishReason.REFUSAL
    if called and reason in ("stop", ""):
        return FinishReason.TOOL_CALLS
    if not reason:
        return FinishReason.INCOMPLETE
    return _FINISH_REASONS.get(reason, FinishReason.OTHER)


def _parts(message: dict[str, Any], refusal: str, frame: ReplyFrame, *, cut: bool) -> list[Part]:
    parts: list[Part] = []
    # Not OpenAI's own, but common: vLLM and DeepSeek say reasoning_content, OpenRouter and newer vLLM reasoning.
    thought = text_at(message, "reasoning_content") or text_at(message, "reasoning")
    if thought:
        parts.append(ReasoningPart(text=thought))
    text = text_at(message, "content") or refusal
    if text:
        parts.append(TextPart(text=text))
    for call in dicts_at(message, "tool_calls"):
        function = dict_at(call, "function")
        arguments = text_at(function, "arguments")
        complete = not cut or is_whole(arguments)
        name = text_at(function, "name")
        parts.append(tool_call(text_at(call, "id"), name, arguments, complete=complete))
    audio = dict_at(message, "audio")
    data = from_base64(text_at(audio, "data"))
    if data:
        parts.append(
            AudioPart(
                data=data,
                format=frame.audio_format,
                sample_rate_hz=sample_rate_of(frame.audio_format),
                transcript=text_at(audio, "transcript") or None,
                reference_id=text_at(audio, "id") or None,
            )
        )
    return parts
