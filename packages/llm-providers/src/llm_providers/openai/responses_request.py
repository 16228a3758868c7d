"""A request in the words of OpenAI's Responses API (``POST /responses``)."""

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
    ReasoningPart,
    ResponseSchema,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolResult,
    thaw,
)
from llm_providers.dialect import PreparedCall
from llm_providers.features import Feature, FeatureFilter
from llm_providers.media import data_url, file_media_type, image_media_type
from llm_providers.strict_schema import closed_if_closable
from llm_providers.structured import merged_options, structure
from llm_providers.tool_results import result_text

__all__ = [
    "COUNTED_FIELDS",
    "RESPONSES_LACKS",
    "arguments_of",
    "prepare_responses",
    "responses_input",
    "schema_format",
]

RESPONSES_LACKS = frozenset(
    {
        Feature.AUDIO_INPUT,
        Feature.AUDIO_OUTPUT,
        Feature.PREFILL,
        Feature.TOP_K,
        Feature.FREQUENCY_PENALTY,
        Feature.PRESENCE_PENALTY,
        Feature.STOP,
        Feature.SEED,
    }
)
"""What the Responses API has no word for (``ResponseCreateParams`` of openai 3.54)."""

COUNTED_FIELDS = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "previous_response_id",
        "conversation",
        "parallel_tool_calls",
        "truncation",
    }
)
"""What ``POST /responses/input_tokens`` takes of a request (``InputTokenCountParams`` of openai 3.54)."""

_CHAT_HAS_IT = "use OpenAIProvider(api='chat_completions')"


def prepare_responses(
    request: LLMCallRequest, features: FeatureFilter, *, stream: bool
) -> PreparedCall:
    """Return the call; raises UnsupportedFeature for what the API or the model lacks."""
    chosen = structure(request, features)
    request = chosen.request
    body: dict[str, Any] = {
        "model": request.model,
        "input": features.require_something(responses_input(request.messages, features)),
    }
    if stream:
        body["stream"] = True
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = request.max_output_tokens
    if request.previous_response_id and features.allow(Feature.PREVIOUS_RESPONSE_ID):
        body["previous_response_id"] = request.previous_response_id
    _add_tools(body, request, features)
    _add_text(body, request, features)
    _add_sampling(body, request, features)
    if request.reasoning_effort is not None and features.allow_effort(request.reasoning_effort):
        body["reasoning"] = {"effort": request.reasoning_effort.value}
    body = merged_options(body, request.provider_options)
    if body.get("store") is False and "reasoning" in body:
        # What is not stored can only be continued if the thoughts come back encrypted.
        body.setdefault("include", ["reasoning.encrypted_content"])
    return PreparedCall(
        path="/responses",
        body=body,
        structured_by=chosen.by,
        schema_tool=chosen.tool,
        dropped=features.dropped,
    )


def _add_tools(body: dict[str, Any], request: LLMCallRequest, features: FeatureFilter) -> None:
    images = Modality.IMAGE in request.output_modalities and features.allow(Feature.IMAGE_OUTPUT)
    tools: list[dict[str, Any]] = [{"type": "image_generation"}] if images else []
    if request.tools and features.allow(Feature.TOOLS):
        tools += [_tool(tool) for tool in request.tools]
        _add_tool_choice(body, request.tool_choice, features)
    if tools:
        body["tools"] = tools


def _add_tool_choice(
    body: dict[str, Any], choice: ToolChoice | None, features: FeatureFilter
) -> None:
    if choice is None:
        return
    if choice.mode is ToolChoiceMode.NAMED:
        body["tool_choice"] = {"type": "function", "name": choice.name}
    else:
        body["tool_choice"] = choice.mode.value
    if not choice.parallel and features.allow(Feature.PARALLEL_TOOLS):
        body["parallel_tool_calls"] = False


def _tool(tool: Tool) -> dict[str, Any]:
    closed = closed_if_closable(tool.parameters, require_all=True) if tool.strict else None
    parameters = closed or thaw(tool.parameters) or {"type": "object", "properties": {}}
    written = {
        "type": "function",
        "name": tool.name,
        "parameters": parameters,
        "strict": closed is not None,
    }
    if tool.description:
        written["description"] = tool.description
    return written


def _add_text(body: dict[str, Any], request: LLMCallRequest, features: FeatureFilter) -> None:
    text: dict[str, Any] = {}
    if request.response_schema is not None:
        text["format"] = {
            "type": "json_schema",
            **schema_format(request.response_schema),
        }
    if request.verbosity is not None and features.allow(Feature.VERBOSITY):
        text["verbosity"] = request.verbosity.value
    if text:
        body["text"] = text


def schema_format(schema: ResponseSchema) -> dict[str, Any]:
    """Return name, schema and strictness; not strict where strict decoding would refuse or narrow the schema."""
    closed = closed_if_closable(schema.json_schema, require_all=True) if schema.strict else None
    written: dict[str, Any] = {
        "name": schema.name,
        "schema": closed or thaw(schema.json_schema),
        "strict": closed is not None,
    }
    if schema.description:
        written["description"] = schema.description
    return written


def _add_sampling(body: dict[str, Any], request: LLMCallRequest, features: FeatureFilter) -> None:
    sampling = request.sampling
    if sampling is not None:
        for feature in (Feature.TEMPERATURE, Feature.TOP_P):
            value = getattr(sampling, feature.value)
            if value is not None and features.allow(feature):
                body[feature.value] = value
        for feature in (
            Feature.TOP_K,
            Feature.FREQUENCY_PENALTY,
            Feature.PRESENCE_PENALTY,
        ):
            if getattr(sampling, feature.value) is not None:
                features.allow(feature)
    if request.stop:
        features.allow(Feature.STOP, _CHAT_HAS_IT)
    if request.seed is not None:
        features.allow(Feature.SEED, _CHAT_HAS_IT)
    if Modality.AUDIO in request.output_modalities:
        features.allow(Feature.AUDIO_OUTPUT, _CHAT_HAS_IT)


def responses_input(messages: tuple[Message, ...], features: FeatureFilter) -> list[dict[str, Any]]:
    """Return the conversation as input items."""
    if messages[-1].role is Role.ASSISTANT and not features.allow(Feature.PREFILL):
        messages = messages[:-1]
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role is Role.ASSISTANT:
            items += _assistant_items(message, features)
        elif message.role is Role.TOOL:
            items += [
                _tool_output(part) for part in message.content if isinstance(part, ToolResult)
            ]
        else:
            items += _said(message, features)
    return items


def _said(message: Message, features: FeatureFilter) -> list[dict[str, Any]]:
    marked = message.cache and features.explicit_cache
    first = message.content[0]
    if len(message.content) == 1 and isinstance(first, TextPart) and not marked:
        return [{"role": message.role.value, "content": first.text}]
    content = [
        written
        for part in message.content
        if (written := _content_part(part, features)) is not None
    ]
    results = [_tool_output(part) for part in message.content if isinstance(part, ToolResult)]
    if content:
        if marked:
            content[-1]["prompt_cache_breakpoint"] = {"mode": "explicit"}
        results.append({"role": message.role.value, "content": content})
    return results


def _content_part(part: Part, features: FeatureFilter) -> dict[str, Any] | None:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, ImagePart):
        return _image(part) if features.allow(Feature.IMAGES) else None
    if isinstance(part, FilePart):
        return _file(part) if features.allow(Feature.FILES) else None
    if isinstance(part, AudioPart):
        features.allow(Feature.AUDIO_INPUT, _CHAT_HAS_IT)
    return None


def _image(image: ImagePart) -> dict[str, Any]:
    url = image.url or data_url(image.data or b"", image_media_type(image))
    return {"type": "input_image", "image_url": url, "detail": image.detail or "auto"}


def _file(file: FilePart) -> dict[str, Any]:
    if file.file_id is not None:
        return {"type": "input_file", "file_id": file.file_id}
    if file.url is not None:
        return {"type": "input_file", "file_url": file.url}
    return {
        "type": "input_file",
        "filename": file.filename or "file",
        "file_data": data_url(file.data or b"", file_media_type(file)),
    }


def _assistant_items(message: Message, features: FeatureFilter) -> list[dict[str, Any]]:
    """Return the model's own turn as items, in order; consecutive texts become one message."""
    items: list[dict[str, Any]] = []
    texts: list[str] = []

    def end_text() -> None:
        if texts:
            items.append({"role": "assistant", "content": "".join(texts)})
            texts.clear()

    for part in message.content:
        if isinstance(part, TextPart):
            texts.append(part.text)
        elif isinstance(part, AudioPart):
            texts.append(part.transcript or "")
        elif isinstance(part, ToolCall):
            end_text()
            items.append(_function_call(part))
        elif isinstance(part, ReasoningPart) and _is_ours(part):
            end_text()
            items.append(_reasoning(part))
    end_text()
    return items


def _function_call(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments_of(call),
    }


def arguments_of(call: ToolCall) -> str:
    """Return the arguments as JSON text: as the model wrote them, else written anew."""
    from llm_providers.provider import encode_json

    return call.arguments_text or encode_json(call.arguments).decode()


def _is_ours(part: ReasoningPart) -> bool:
    """Whether OpenAI thought this; other vendors' thoughts mean nothing to it."""
    return (part.reference_id or "").startswith("rs_")


def _reasoning(part: ReasoningPart) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    item: dict[str, Any] = {
        "type": "reasoning",
        "id": part.reference_id,
        "summary": summary,
    }
    if part.signature:
        item["encrypted_content"] = part.signature
    return item


def _tool_output(result: ToolResult) -> dict[str, Any]:
    return {
        "type": "function_call_output",
        "call_id": result.tool_call_id,
        "output": result_text(result),
    }
