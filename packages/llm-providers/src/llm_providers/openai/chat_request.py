"""A request in the words of OpenAI's Chat Completions (``POST /chat/completions``), which many servers speak."""

from __future__ import annotations

from typing import Any

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    LLMCallRequest,
    Message,
    Modality,
    Part,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoiceMode,
    ToolResult,
    Value,
    immutable,
    thaw,
)
from llm_providers.dialect import PreparedCall
from llm_providers.features import Feature, FeatureFilter
from llm_providers.media import as_base64, data_url, file_media_type, image_media_type
from llm_providers.openai.responses_request import arguments_of, schema_format
from llm_providers.strict_schema import closed_if_closable
from llm_providers.structured import merged_options, structure
from llm_providers.tool_results import result_text

__all__ = ["COMPATIBLE_CHAT", "OPENAI_CHAT", "ChatVariant", "prepare_chat"]


@immutable
class ChatVariant(Value):
    """Where servers of this protocol differ."""

    lacks: frozenset[Feature]
    max_tokens_field: str


OPENAI_CHAT = ChatVariant(
    lacks=frozenset(
        {
            Feature.PREFILL,
            Feature.TOP_K,
            Feature.PREVIOUS_RESPONSE_ID,
            Feature.IMAGE_OUTPUT,
        }
    ),
    max_tokens_field="max_completion_tokens",
)
"""OpenAI itself (``CompletionCreateParams`` of openai 3.54)."""

COMPATIBLE_CHAT = ChatVariant(
    lacks=frozenset({Feature.PREVIOUS_RESPONSE_ID, Feature.IMAGE_OUTPUT}),
    max_tokens_field="max_tokens",
)
"""Compatible servers (vLLM, llama.cpp, LM Studio, OpenRouter): ``top_k`` and a started answer are common extensions,
``max_completion_tokens`` is not known everywhere."""

_WITHOUT_CHANGE = (
    Feature.TEMPERATURE,
    Feature.TOP_P,
    Feature.TOP_K,
    Feature.FREQUENCY_PENALTY,
    Feature.PRESENCE_PENALTY,
)


def prepare_chat(
    request: LLMCallRequest,
    features: FeatureFilter,
    variant: ChatVariant,
    *,
    stream: bool,
) -> PreparedCall:
    """Return the call; raises UnsupportedFeature for what the API or the model lacks."""
    chosen = structure(request, features)
    request = chosen.request
    body: dict[str, Any] = {
        "model": request.model,
        "messages": features.require_something(chat_messages(request.messages, features)),
    }
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if request.max_output_tokens is not None:
        body[variant.max_tokens_field] = request.max_output_tokens
    if request.previous_response_id is not None:
        features.allow(Feature.PREVIOUS_RESPONSE_ID, "use OpenAIProvider(api='responses')")
    if Modality.IMAGE in request.output_modalities:
        features.allow(Feature.IMAGE_OUTPUT, "use OpenAIProvider(api='responses')")
    _add_tools(body, request, features)
    _add_answer_form(body, request, features)
    _add_sampling(body, request, features)
    audio_format = _add_audio(body, request, features, stream=stream)
    return PreparedCall(
        path="/chat/completions",
        body=merged_options(body, request.provider_options),
        structured_by=chosen.by,
        schema_tool=chosen.tool,
        dropped=features.dropped,
        audio_format=audio_format,
    )


def _add_tools(body: dict[str, Any], request: LLMCallRequest, features: FeatureFilter) -> None:
    if not request.tools or not features.allow(Feature.TOOLS):
        return
    body["tools"] = [{"type": "function", "function": _function(tool)} for tool in request.tools]
    choice = request.tool_choice
    if choice is None:
        return
    if choice.mode is ToolChoiceMode.NAMED:
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        body["tool_choice"] = choice.mode.value
    if not choice.parallel and features.allow(Feature.PARALLEL_TOOLS):
        body["parallel_tool_calls"] = False


def _function(tool: Tool) -> dict[str, Any]:
    closed = closed_if_closable(tool.parameters, require_all=True) if tool.strict else None
    parameters = closed or thaw(tool.parameters) or {"type": "object", "properties": {}}
    written: dict[str, Any] = {"name": tool.name, "parameters": parameters}
    if tool.description:
        written["description"] = tool.description
    if closed is not None:
        written["strict"] = True
    return written


def _add_answer_form(
    body: dict[str, Any], request: LLMCallRequest, features: FeatureFilter
) -> None:
    if request.response_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": schema_format(request.response_schema),
        }
    if request.verbosity is not None and features.allow(Feature.VERBOSITY):
        body["verbosity"] = request.verbosity.value
    if request.reasoning_effort is not None and features.allow_effort(request.reasoning_effort):
        body["reasoning_effort"] = request.reasoning_effort.value


def _add_sampling(body: dict[str, Any], request: LLMCallRequest, features: FeatureFilter) -> None:
    if request.sampling is not None:
        for feature in _WITHOUT_CHANGE:
            value = getattr(request.sampling, feature.value)
            if value is not None and features.allow(feature):
                body[feature.value] = value
    if request.stop and features.allow(Feature.STOP):
        body["stop"] = list(request.stop)
    if request.seed is not None and features.allow(Feature.SEED):
        body["seed"] = request.seed


def _add_audio(
    body: dict[str, Any],
    request: LLMCallRequest,
    features: FeatureFilter,
    *,
    stream: bool,
) -> str:
    """Ask for a spoken answer; returns the format it comes in."""
    if (
        Modality.AUDIO not in request.output_modalities
        or request.audio_output is None
        or not features.allow(Feature.AUDIO_OUTPUT)
    ):
        return "wav"
    # Streams carry raw samples only (OpenAI's guide «Audio and speech»).
    form = "pcm16" if stream else request.audio_output.format
    body["modalities"] = ["text", "audio"]
    body["audio"] = {"voice": request.audio_output.voice, "format": form}
    return form


def chat_messages(messages: tuple[Message, ...], features: FeatureFilter) -> list[dict[str, Any]]:
    """Return the conversation as messages."""
    if messages[-1].role is Role.ASSISTANT and not features.allow(Feature.PREFILL):
        messages = messages[:-1]
    written: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.ASSISTANT:
            written.append(_assistant(message))
            continue
        written += [_tool_message(part) for part in message.content if isinstance(part, ToolResult)]
        if message.role is not Role.TOOL:
            written += _said(message, features)
    return written


def _said(message: Message, features: FeatureFilter) -> list[dict[str, Any]]:
    content: str | list[dict[str, Any]]
    marked = message.cache and features.explicit_cache
    if (
        not marked
        and all(isinstance(part, TextPart) for part in message.content)
        and (len(message.content) == 1 or message.role is Role.SYSTEM)
    ):
        content = message.text
    else:
        parts = (_content_part(part, features) for part in message.content)
        content = [part for part in parts if part is not None]
        if not content:
            return []
        if marked:
            content[-1]["prompt_cache_breakpoint"] = {"mode": "explicit"}
    said: dict[str, Any] = {"role": message.role.value, "content": content}
    if message.name:
        said["name"] = message.name
    return [said]


def _content_part(part: Part, features: FeatureFilter) -> dict[str, Any] | None:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, ImagePart):
        return _image(part) if features.allow(Feature.IMAGES) else None
    if isinstance(part, AudioPart):
        return _audio(part, features) if features.allow(Feature.AUDIO_INPUT) else None
    if isinstance(part, FilePart):
        return _file(part, features) if features.allow(Feature.FILES) else None
    return None


def _image(image: ImagePart) -> dict[str, Any]:
    url = image.url or data_url(image.data or b"", image_media_type(image))
    written = {"url": url}
    if image.detail:
        written["detail"] = image.detail
    return {"type": "image_url", "image_url": written}


def _audio(audio: AudioPart, features: FeatureFilter) -> dict[str, Any] | None:
    if audio.format not in ("wav", "mp3"):
        features.refuse(f"audio_input as {audio.format!r}", "convert it to wav or mp3")
        return None
    data = {"data": as_base64(audio.data), "format": audio.format}
    return {"type": "input_audio", "input_audio": data}


def _file(file: FilePart, features: FeatureFilter) -> dict[str, Any] | None:
    if file.file_id is not None:
        return {"type": "file", "file": {"file_id": file.file_id}}
    if file.url is not None:
        features.refuse("files by URL", "send the file's bytes or use the Responses API")
        return None
    url = data_url(file.data or b"", file_media_type(file))
    return {
        "type": "file",
        "file": {"filename": file.filename or "file", "file_data": url},
    }


def _assistant(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": "assistant", "content": message.text or None}
    calls = [part for part in message.content if isinstance(part, ToolCall)]
    if calls:
        written["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_of(call)},
            }
            for call in calls
        ]
    spoken = next((part for part in message.content if isinstance(part, AudioPart)), None)
    if spoken is not None and spoken.reference_id:
        written["audio"] = {"id": spoken.reference_id}
    elif spoken is not None and spoken.transcript:
        written["content"] = message.text + spoken.transcript
    if written["content"] is None and len(written) == 2:
        written["content"] = ""
    return written


def _tool_message(result: ToolResult) -> dict[str, Any]:
    return {
        "role": "tool",
        "tool_call_id": result.tool_call_id,
        "content": result_text(result),
    }
