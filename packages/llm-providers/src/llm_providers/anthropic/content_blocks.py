"""Messages' parts as Anthropic's content blocks."""

from __future__ import annotations

from typing import Any

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    thaw,
)
from llm_providers.features import Feature, FeatureFilter
from llm_providers.media import as_base64, file_media_type, image_media_type

__all__ = ["REDACTED", "message_blocks"]

REDACTED = "redacted_thinking"
"""The `reference_id` of a thought that came encrypted; its `signature` holds the data."""

_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def message_blocks(message: Message, features: FeatureFilter) -> list[dict[str, Any]]:
    """Return the blocks of one message, the last one marked for caching if the message is."""
    blocks = [block for part in message.content if (block := _block(part, features)) is not None]
    if message.cache and blocks:
        blocks[-1]["cache_control"] = {"type": "ephemeral"}
    return blocks


def _block(part: Part, features: FeatureFilter) -> dict[str, Any] | None:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text} if part.text else None
    if isinstance(part, ImagePart):
        return _image(part, features) if features.allow(Feature.IMAGES) else None
    if isinstance(part, FilePart):
        return _document(part, features) if features.allow(Feature.FILES) else None
    if isinstance(part, AudioPart):
        return _sound(part, features)
    if isinstance(part, ReasoningPart):
        return _thought(part)
    if isinstance(part, ToolCall):
        return {
            "type": "tool_use",
            "id": part.id,
            "name": part.name,
            "input": thaw(part.arguments),
        }
    return _tool_result(part)


def _image(image: ImagePart, features: FeatureFilter) -> dict[str, Any] | None:
    if image.url is not None:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    media_type = image_media_type(image)
    if media_type not in _IMAGE_TYPES:
        features.refuse(f"images as {media_type}", "convert it to PNG, JPEG, GIF or WebP")
        return None
    data = as_base64(image.data or b"")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _document(file: FilePart, features: FeatureFilter) -> dict[str, Any] | None:
    source = _document_source(file, features)
    if source is None:
        return None
    block: dict[str, Any] = {"type": "document", "source": source}
    if file.filename:
        block["title"] = file.filename
    return block


def _document_source(file: FilePart, features: FeatureFilter) -> dict[str, Any] | None:
    if file.file_id is not None:
        return {"type": "file", "file_id": file.file_id}
    if file.url is not None:
        return {"type": "url", "url": file.url}
    media_type = file_media_type(file)
    data = file.data or b""
    if media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": as_base64(data)}
    if media_type.startswith("text/") or media_type == "application/json":
        text = data.decode("utf-8", "replace")
        return {"type": "text", "media_type": "text/plain", "data": text}
    features.refuse(f"files as {media_type}", "send PDF or text")
    return None


def _sound(part: AudioPart, features: FeatureFilter) -> dict[str, Any] | None:
    if part.transcript and part.reference_id:  # what a speaking model said in an earlier turn
        return {"type": "text", "text": part.transcript}
    features.allow(Feature.AUDIO_INPUT)
    return None


def _thought(part: ReasoningPart) -> dict[str, Any] | None:
    """Return a thought that Anthropic signed; anybody else's thoughts are not sent."""
    if part.signature is None:
        return None
    if part.reference_id == REDACTED:
        return {"type": "redacted_thinking", "data": part.signature}
    if part.reference_id is not None:
        return None
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _tool_result(result: ToolResult) -> dict[str, Any]:
    block: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": result.tool_call_id,
        "content": result.content,
    }
    if result.is_error:
        block["is_error"] = True
    return block
