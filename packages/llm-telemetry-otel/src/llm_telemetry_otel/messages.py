"""What was said, in the JSON shapes of the conventions; written on spans only when asked for.

https://github.com/open-telemetry/semantic-conventions/tree/v1.41.1/docs/gen-ai (gen-ai-*.json)
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from llm_core import (
    AudioPart,
    FilePart,
    GenerationRequest,
    GenerationResult,
    ImagePart,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
    thaw,
)

__all__ = ["input_attributes", "output_attributes"]


def input_attributes(request: GenerationRequest) -> dict[str, str]:
    """Return the system instructions, messages and tools of a request as JSON texts."""
    messages = request.conversation()
    system = [part for m in messages if m.role is Role.SYSTEM for part in m.content]
    others = [
        {"role": m.role.value, "parts": [_part(part) for part in m.content]}
        for m in messages
        if m.role is not Role.SYSTEM
    ]
    attributes = {"gen_ai.input.messages": _json(others)}
    if system:
        attributes["gen_ai.system_instructions"] = _json([_part(part) for part in system])
    if request.tools:
        attributes["gen_ai.tool.definitions"] = _json(_tools(request.tools))
    return attributes


def output_attributes(result: GenerationResult[Any]) -> dict[str, str]:
    """Return the answer as a JSON text; nothing if there was none."""
    said: list[Part] = []
    if result.reasoning:
        said.append(ReasoningPart(text=result.reasoning))
    if result.raw_content:
        said.append(TextPart(text=result.raw_content))
    said += result.tool_calls
    if result.audio is not None:
        said.append(result.audio)
    if not said:
        return {}
    message = {
        "role": "assistant",
        "parts": [_part(part) for part in said],
        "finish_reason": result.finish_reason.value if result.finish_reason else "error",
    }
    return {"gen_ai.output.messages": _json([message])}


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "content": part.text}
    if isinstance(part, ReasoningPart):
        return {"type": "reasoning", "content": part.text}
    if isinstance(part, ToolCall):
        arguments = thaw(part.arguments)
        return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": arguments}
    if isinstance(part, ToolResult):
        return {"type": "tool_call_response", "id": part.tool_call_id, "response": part.content}
    if isinstance(part, AudioPart):
        return _blob("audio", f"audio/{part.format}", part.data)
    return _media(part)


def _media(part: ImagePart | FilePart) -> dict[str, Any]:
    modality = "image" if isinstance(part, ImagePart) else "document"
    if part.data is not None:
        return _blob(modality, part.media_type, part.data)
    if part.url is not None:
        uri = {"type": "uri", "modality": modality, "uri": part.url}
        return uri | ({"mime_type": part.media_type} if part.media_type else {})
    assert isinstance(part, FilePart)  # an image has bytes or an address
    return {"type": "file", "modality": modality, "file_id": part.file_id}


def _blob(modality: str, media_type: str | None, data: bytes) -> dict[str, Any]:
    content = base64.b64encode(data).decode("ascii")
    blob = {"type": "blob", "modality": modality, "content": content}
    return blob | ({"mime_type": media_type} if media_type else {})


def _tools(tools: Iterable[Tool]) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": thaw(tool.parameters),
        }
        for tool in tools
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)
