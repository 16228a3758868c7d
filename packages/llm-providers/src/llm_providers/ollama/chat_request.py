"""A request in the words of Ollama's chat (``POST /api/chat``)."""

from __future__ import annotations

from typing import Any

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    LLMCallRequest,
    Message,
    ReasoningEffort,
    ReasoningPart,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolResult,
    thaw,
)
from llm_providers.dialect import PreparedCall
from llm_providers.features import Feature, FeatureFilter
from llm_providers.media import as_base64
from llm_providers.structured import merged_options, structure
from llm_providers.tool_results import result_text

__all__ = ["OLLAMA_LACKS", "prepare_ollama"]

OLLAMA_LACKS = frozenset(
    {
        Feature.AUDIO_INPUT,
        Feature.AUDIO_OUTPUT,
        Feature.IMAGE_OUTPUT,
        Feature.FILES,
        Feature.FORCED_TOOLS,
        Feature.PARALLEL_TOOLS,
        Feature.VERBOSITY,
        Feature.PREVIOUS_RESPONSE_ID,
    }
)
"""What Ollama's chat has no word for (``ChatRequest`` of ollama 0.6)."""

_LEVELS = {
    ReasoningEffort.MINIMAL: "low",
    ReasoningEffort.LOW: "low",
    ReasoningEffort.MEDIUM: "medium",
    ReasoningEffort.HIGH: "high",
    ReasoningEffort.XHIGH: "high",
}
_MODELS_WITH_LEVELS = "gpt-oss"
"""Ollama's guide «Thinking»: gpt-oss takes levels, every other thinking model only on and off."""

_SAMPLING = (
    Feature.TEMPERATURE,
    Feature.TOP_P,
    Feature.TOP_K,
    Feature.FREQUENCY_PENALTY,
    Feature.PRESENCE_PENALTY,
)


def prepare_ollama(
    request: LLMCallRequest, features: FeatureFilter, *, stream: bool
) -> PreparedCall:
    """Return the call; raises UnsupportedFeature for what the API lacks."""
    chosen = structure(request, features)
    request = chosen.request
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(request.messages, features),
        "stream": stream,
    }
    tools = _tools(request.tools, request.tool_choice, features)
    if tools:
        body["tools"] = tools
    if request.response_schema is not None:
        body["format"] = thaw(request.response_schema.json_schema)
    if request.reasoning_effort is not None and features.allow_effort(request.reasoning_effort):
        body["think"] = _think(request.model, request.reasoning_effort)
    options = _options(request, features)
    if options:
        body["options"] = options
    features.allow_the_rest()
    return PreparedCall(
        path="/api/chat",
        body=merged_options(body, request.provider_options),
        structured_by=chosen.by,
        schema_tool=chosen.tool,
        dropped=features.dropped,
    )


def _messages(messages: tuple[Message, ...], features: FeatureFilter) -> list[dict[str, Any]]:
    names = {
        part.id: part.name
        for message in messages
        for part in message.content
        if isinstance(part, ToolCall)
    }
    written: list[dict[str, Any]] = []
    for message in messages:
        written += [
            {
                "role": "tool",
                "content": result_text(part),
                "tool_name": names.get(part.tool_call_id, part.tool_call_id),
            }
            for part in message.content
            if isinstance(part, ToolResult)
        ]
        if message.role is not Role.TOOL:
            written.append(_message(message, features))
    return written


def _message(message: Message, features: FeatureFilter) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role.value, "content": message.text}
    images = []
    calls = []
    for part in message.content:
        if isinstance(part, ImagePart):
            image = _image(part, features)
            images += [image] if image else []
        elif isinstance(part, ToolCall):
            arguments = thaw(part.arguments)
            calls.append({"function": {"name": part.name, "arguments": arguments}})
        elif isinstance(part, ReasoningPart) and part.text:
            written["thinking"] = written.get("thinking", "") + part.text
        elif isinstance(part, AudioPart):
            if part.transcript and part.reference_id:  # what a speaking model said before
                written["content"] += part.transcript
            else:
                features.allow(Feature.AUDIO_INPUT)
        elif isinstance(part, FilePart):
            features.allow(Feature.FILES)
    if images:
        written["images"] = images
    if calls:
        written["tool_calls"] = calls
    return written


def _image(image: ImagePart, features: FeatureFilter) -> str | None:
    if not features.allow(Feature.IMAGES):
        return None
    if image.url is not None:
        features.refuse("images by URL", "send the image's bytes")
        return None
    return as_base64(image.data or b"")


def _tools(
    tools: tuple[Tool, ...], choice: ToolChoice | None, features: FeatureFilter
) -> list[dict[str, Any]]:
    """Return the tools to offer: none for a choice of ``none``, which the API cannot say otherwise."""
    mode = choice.mode if choice else ToolChoiceMode.AUTO
    if not tools or mode is ToolChoiceMode.NONE or not features.allow(Feature.TOOLS):
        return []
    if mode is not ToolChoiceMode.AUTO:
        features.allow(Feature.FORCED_TOOLS)
    if choice is not None and not choice.parallel:
        features.allow(Feature.PARALLEL_TOOLS)
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def _function(tool: Tool) -> dict[str, Any]:
    parameters = thaw(tool.parameters) or {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def _think(model: str, effort: ReasoningEffort) -> bool | str:
    if effort is ReasoningEffort.NONE:
        return False
    return _LEVELS[effort] if model.lower().startswith(_MODELS_WITH_LEVELS) else True


def _options(request: LLMCallRequest, features: FeatureFilter) -> dict[str, Any]:
    options: dict[str, Any] = {}
    sampling = request.sampling or Sampling()
    for feature in _SAMPLING:
        value = getattr(sampling, feature.value)
        if value is not None and features.allow(feature):
            options[feature.value] = value
    if request.max_output_tokens is not None:
        options["num_predict"] = request.max_output_tokens
    if request.stop:
        options["stop"] = list(request.stop)
    if request.seed is not None:
        options["seed"] = request.seed
    return options
