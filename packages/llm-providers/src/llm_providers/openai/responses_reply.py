"""Replies of OpenAI's Responses API in our words."""

from __future__ import annotations

from typing import Any

from llm_core import (
    FinishReason,
    ImagePart,
    Part,
    ProviderResponse,
    ReasoningPart,
    TextPart,
)
from llm_providers.classify import VendorError, find_error
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import dict_at, dicts_at, text_at
from llm_providers.media import from_base64
from llm_providers.openai.usage import responses_usage
from llm_providers.reply import ReplyFrame, tool_call

__all__ = ["finish_reason_of", "image_of", "read_responses"]


def read_responses(payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
    """Return the reply; raises VendorFailure for a failed or cancelled response, or an error body."""
    status = text_at(payload, "status")
    if "output" not in payload or status in ("failed", "cancelled"):
        raise VendorFailure(find_error(payload) or _no_response(payload, status))
    parts: list[Part] = []
    refused = False
    for item in dicts_at(payload, "output"):
        refused |= _read_item(item, parts)
    return frame.response(
        model=text_at(payload, "model"),
        parts=parts,
        usage=responses_usage(payload.get("usage")),
        finish_reason=finish_reason_of(payload, refused=refused),
        response_id=text_at(payload, "id"),
        raw=payload,
    )


def _no_response(payload: dict[str, Any], status: str) -> VendorError:
    if status:
        return VendorError(message=f"the response is {status}", code="server_error")
    return VendorError(message=f"no Responses reply: {sorted(payload)[:8]!r}", code="server_error")


def _read_item(item: dict[str, Any], parts: list[Part]) -> bool:
    """Add what `item` holds to `parts`; returns True for a refusal."""
    refused = False
    kind = item.get("type")
    if kind == "message":
        for content in dicts_at(item, "content"):
            refusal = text_at(content, "refusal")
            refused |= bool(refusal)
            if text := text_at(content, "text") or refusal:
                parts.append(TextPart(text=text))
    elif kind == "function_call":
        complete = item.get("status") != "incomplete"
        name, arguments = text_at(item, "name"), text_at(item, "arguments")
        parts.append(tool_call(text_at(item, "call_id"), name, arguments, complete=complete))
    elif kind == "reasoning":
        parts.append(_reasoning(item))
    elif kind == "image_generation_call":
        parts += image_of(item)
    return refused


def _reasoning(item: dict[str, Any]) -> ReasoningPart:
    texts = [text_at(part, "text") for part in dicts_at(item, "content")]
    summary = [text_at(part, "text") for part in dicts_at(item, "summary")]
    return ReasoningPart(
        text="\n\n".join(texts or summary),
        signature=text_at(item, "encrypted_content") or None,
        reference_id=text_at(item, "id") or None,
    )


def image_of(item: dict[str, Any]) -> list[Part]:
    """Return the image of an ``image_generation_call``, if it holds one."""
    data = from_base64(text_at(item, "result"))
    return [ImagePart(data=data)] if data else []


def finish_reason_of(payload: dict[str, Any], *, refused: bool) -> FinishReason:
    """Return why the model stopped, from the response's status and what it put out."""
    status = text_at(payload, "status")
    if status == "incomplete":
        reason = text_at(dict_at(payload, "incomplete_details"), "reason")
        if reason == "max_output_tokens":
            return FinishReason.LENGTH
        return (
            FinishReason.CONTENT_FILTER if reason == "content_filter" else FinishReason.INCOMPLETE
        )
    if status in ("queued", "in_progress"):
        return FinishReason.INCOMPLETE
    if refused:
        return FinishReason.REFUSAL
    called = any(item.get("type") == "function_call" for item in dicts_at(payload, "output"))
    return FinishReason.TOOL_CALLS if called else FinishReason.STOP
