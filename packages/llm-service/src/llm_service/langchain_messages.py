"""LangChain's messages as ours, for prompts that come from there.

Imports langchain-core, so only those who were handed one of its objects import this module.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    ToolMessage,
    message_chunk_to_message,
)

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    InvalidValue,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
    UnsupportedFeature,
)

__all__ = ["messages_from_langchain"]

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "human": Role.USER,
    "user": Role.USER,
    "ai": Role.ASSISTANT,
    "assistant": Role.ASSISTANT,
}

_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "ogg": "opus"}
"""Subtypes of media types whose format goes by another name."""


def messages_from_langchain(messages: Iterable[BaseMessage]) -> tuple[Message, ...]:
    """Return the conversation in our words; the answers to the tool calls of one turn become one message.

    Raises UnsupportedFeature for content that no provider here could be given, InvalidValue for what is no message.
    """
    converted: list[Message] = []
    for message in messages:
        made = _message(message)
        if made.role is Role.TOOL and converted and converted[-1].role is Role.TOOL:
            before = converted.pop()
            made = Message(
                role=Role.TOOL,
                content=(*before.content, *made.content),
                cache=before.cache or made.cache,
            )
        converted.append(made)
    return tuple(converted)


def _message(message: BaseMessage) -> Message:
    if isinstance(message, BaseMessageChunk):
        message = message_chunk_to_message(message)
    if isinstance(message, ToolMessage):
        return Message.tool(_tool_result(message), cache=_wants_cache(message))
    said = message.role.lower() if isinstance(message, ChatMessage) else message.type
    role = _ROLES.get(said)
    if role is None:
        raise InvalidValue.of(
            "message", said, "a system, human, AI or tool message, or a ChatMessage of these roles"
        )
    parts = _parts(message)
    return Message(
        role=role,
        content=parts or (TextPart(text=""),),
        name=message.name if role is Role.USER else None,
        cache=_wants_cache(message),
    )


def _parts(message: BaseMessage) -> tuple[Part, ...]:
    parts: dict[int | str, Part] = {}
    for position, block in enumerate(message.content_blocks):
        part = _part(dict(block))
        if isinstance(part, ToolCall):
            parts[part.id] = part
        elif part is not None:
            parts[position] = part
    if isinstance(message, AIMessage):
        # Content blocks leave out calls without id and calls that went wrong.
        sound = [_tool_call(dict(call)) for call in message.tool_calls]
        wrong = [_invalid_tool_call(dict(call)) for call in message.invalid_tool_calls]
        for made in (*sound, *wrong):
            parts[made.id] = made
    return tuple(parts.values())


def _part(block: dict[str, Any]) -> Part | None:
    """Return one block as a part; None for one that says nothing."""
    kind = block["type"]
    if kind in ("text", "text-plain"):
        return TextPart(text=block["text"]) if block.get("text") else None
    if kind == "image":
        return _image(block)
    if kind == "audio":
        return _audio(block)
    if kind == "file":
        return _file(block)
    if kind == "reasoning":
        return _reasoning(block)
    if kind == "tool_call":
        return _tool_call(block)
    if kind == "invalid_tool_call":
        return _invalid_tool_call(block)
    if kind == "non_standard":
        return _vendors_own(block["value"])
    raise _unknown(kind)


def _unknown(kind: object) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"a message holds content of type {kind!r}; expected text, image, audio, file, reasoning or tool_call"
    )


def _image(block: Mapping[str, Any]) -> ImagePart:
    extras = block.get("extras") or {}
    url = block.get("url")
    if block.get("base64") is None and url is None:
        raise UnsupportedFeature("an image without data: give it as base64 or by url")
    return ImagePart(
        data=_bytes(block),
        url=url if block.get("base64") is None else None,
        media_type=block.get("mime_type"),
        detail=extras.get("detail") or block.get("detail"),
    )


def _audio(block: Mapping[str, Any]) -> AudioPart:
    data = _bytes(block)
    if data is None:
        raise UnsupportedFeature("audio without data: give it as base64")
    subtype = str(block.get("mime_type") or "audio/wav").partition("/")[2]
    return AudioPart(data=data, format=_AUDIO_FORMATS.get(subtype, subtype))


def _file(block: Mapping[str, Any]) -> FilePart:
    extras = block.get("extras") or {}
    data, url, file_id = _bytes(block), block.get("url"), block.get("file_id")
    if data is None and url is None and file_id is None:
        raise UnsupportedFeature("a file without data: give it as base64, by url, or by file_id")
    return FilePart(
        data=data,
        url=url if data is None else None,
        file_id=file_id if data is None and url is None else None,
        media_type=block.get("mime_type"),
        filename=block.get("filename") or extras.get("filename"),
    )


def _reasoning(block: Mapping[str, Any]) -> ReasoningPart | None:
    extras = block.get("extras") or {}
    signature = extras.get("signature") or block.get("signature")
    text = block.get("reasoning") or ""
    if not text and not signature:
        return None
    return ReasoningPart(text=text, signature=signature, reference_id=block.get("id"))


def _vendors_own(value: Mapping[str, Any]) -> Part | None:
    kind = value.get("type")
    if kind == "thinking":
        thought = str(value.get("thinking") or "")
        return ReasoningPart(text=thought, signature=value.get("signature"))
    if kind == "tool_use":
        return _tool_call({**value, "args": value.get("input") or {}})
    if set(value) == {"cachePoint"}:
        return None
    raise _unknown(kind)


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    text = json.dumps(call["args"], ensure_ascii=False)
    return ToolCall(id=_id_of(call), name=call["name"], arguments=call["args"], arguments_text=text)


def _invalid_tool_call(call: Mapping[str, Any]) -> ToolCall:
    """Keep a call whose arguments made no sense: the conversation goes on from it."""
    return ToolCall(
        id=_id_of(call), name=call.get("name") or "unknown", arguments_text=call.get("args") or ""
    )


def _id_of(call: Mapping[str, Any]) -> str:
    if not call.get("id"):
        name = call.get("name")
        raise InvalidValue(f"tool call {name!r}: has no id, expected one that its result refers to")
    return str(call["id"])


def _tool_result(message: ToolMessage) -> ToolResult:
    if isinstance(message.content, str):
        content = message.content
    else:
        parts = _parts(message)
        other = next((part for part in parts if not isinstance(part, TextPart)), None)
        if other is not None:
            raise UnsupportedFeature(
                f"the result of tool call {message.tool_call_id!r} holds {type(other).__name__}, "
                "expected text only"
            )
        content = "".join(part.text for part in parts if isinstance(part, TextPart))
    return ToolResult(
        tool_call_id=message.tool_call_id, content=content, is_error=message.status == "error"
    )


def _wants_cache(message: BaseMessage) -> bool:
    """Say whether a block is marked as Anthropic's users mark the end of what is to be cached."""
    if isinstance(message.content, str):
        return False
    blocks = [block for block in message.content if isinstance(block, dict)]
    return any("cache_control" in {**block, **(block.get("extras") or {})} for block in blocks)


def _bytes(block: Mapping[str, Any]) -> bytes | None:
    encoded = block.get("base64")
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidValue.of(f"{block['type']}.base64", encoded, "base64") from None
