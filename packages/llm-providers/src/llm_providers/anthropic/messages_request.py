"""A request in the words of Anthropic's Messages API (``POST /v1/messages``)."""

from __future__ import annotations

from typing import Any

from llm_core import (
    LLMCallRequest,
    Message,
    ReasoningEffort,
    Role,
    Sampling,
    Tool,
    ToolChoice,
    ToolChoiceMode,
    thaw,
)
from llm_providers.anthropic.content_blocks import message_blocks
from llm_providers.capabilities import ModelFamily
from llm_providers.dialect import PreparedCall
from llm_providers.features import Feature, FeatureFilter
from llm_providers.strict_schema import closed, closed_if_closable
from llm_providers.structured import merged_options, structure

__all__ = ["COUNTED_FIELDS", "MESSAGES_LACKS", "prepare_messages"]

MESSAGES_LACKS = frozenset(
    {
        Feature.AUDIO_INPUT,
        Feature.AUDIO_OUTPUT,
        Feature.IMAGE_OUTPUT,
        Feature.VERBOSITY,
        Feature.FREQUENCY_PENALTY,
        Feature.PRESENCE_PENALTY,
        Feature.SEED,
        Feature.PREVIOUS_RESPONSE_ID,
    }
)
"""What the Messages API has no word for (``MessageCreateParams`` of anthropic 2.12)."""

COUNTED_FIELDS = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"}
)
"""What ``POST /v1/messages/count_tokens`` takes of a request (``MessageCountTokensParams`` of anthropic 2.12)."""

_DEFAULT_MAX_TOKENS = 8192
"""The API demands a limit; this one fits every model that is still served."""

_EFFORTS = {
    ReasoningEffort.MINIMAL: "low",
    ReasoningEffort.LOW: "low",
    ReasoningEffort.MEDIUM: "medium",
    ReasoningEffort.HIGH: "high",
    ReasoningEffort.XHIGH: "xhigh",
}
_BUDGETS = {
    ReasoningEffort.MINIMAL: 1024,
    ReasoningEffort.LOW: 2048,
    ReasoningEffort.MEDIUM: 8192,
    ReasoningEffort.HIGH: 16384,
    ReasoningEffort.XHIGH: 32768,
}
"""Tokens to think in, for models that take a budget instead of an effort; 1024 is the API's least."""
_LEAST_BUDGET = 1024

_CHOICES = {
    ToolChoiceMode.AUTO: "auto",
    ToolChoiceMode.NONE: "none",
    ToolChoiceMode.REQUIRED: "any",
    ToolChoiceMode.NAMED: "tool",
}


def prepare_messages(
    request: LLMCallRequest,
    features: FeatureFilter,
    family: ModelFamily | None,
    *,
    stream: bool,
) -> PreparedCall:
    """Return the call; raises UnsupportedFeature for what the API or the model lacks."""
    chosen = structure(request, features)
    request = chosen.request
    known_limit = family.max_output_tokens if family is not None else None
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens or known_limit or _DEFAULT_MAX_TOKENS,
        "messages": features.require_something(_turns(request, features)),
    }
    system = _system(request.messages, features)
    if system:
        body["system"] = system
    if stream:
        body["stream"] = True
    _add_tools(body, request, features)
    if request.response_schema is not None:
        schema = closed(request.response_schema.json_schema, require_all=False)
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if request.reasoning_effort is not None:
        _add_thinking(body, request.reasoning_effort, features, family)
    _add_sampling(body, request.sampling, features)
    if request.stop and features.allow(Feature.STOP):
        body["stop_sequences"] = list(request.stop)
    features.allow_the_rest()
    return PreparedCall(
        path="/v1/messages",
        body=merged_options(body, request.provider_options),
        structured_by=chosen.by,
        schema_tool=chosen.tool,
        dropped=features.dropped,
    )


def _system(messages: tuple[Message, ...], features: FeatureFilter) -> str | list[dict[str, Any]]:
    """Return all system messages as the one prompt that the API takes, plain text where nothing is to be cached."""
    system = [message for message in messages if message.role is Role.SYSTEM]
    if any(message.cache for message in system):
        return [block for message in system for block in message_blocks(message, features)]
    return "\n\n".join(message.text for message in system if message.text)


def _turns(request: LLMCallRequest, features: FeatureFilter) -> list[dict[str, Any]]:
    """Return the conversation, neighbours of one role joined: results of parallel tool calls must be one turn."""
    messages = [message for message in request.messages if message.role is not Role.SYSTEM]
    prefilled = bool(messages) and messages[-1].role is Role.ASSISTANT
    if prefilled and not features.allow(Feature.PREFILL):
        messages.pop()
        prefilled = False
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = message_blocks(message, features)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        if turn["role"] == "user":  # the API wants tool results before anything else
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if prefilled and turns and turns[-1]["content"][-1]["type"] == "text":
        last = turns[-1]["content"][-1]
        last["text"] = last["text"].rstrip()  # the API refuses trailing white space here
    return [_shortened(turn) for turn in turns]


def _shortened(turn: dict[str, Any]) -> dict[str, Any]:
    blocks = turn["content"]
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return {"role": turn["role"], "content": blocks[0]["text"]}
    return turn


def _add_tools(body: dict[str, Any], request: LLMCallRequest, features: FeatureFilter) -> None:
    if not request.tools or not features.allow(Feature.TOOLS):
        return
    body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        choice = _tool_choice(request.tool_choice, features)
        if choice is not None:
            body["tool_choice"] = choice


def _tool_choice(choice: ToolChoice, features: FeatureFilter) -> dict[str, Any] | None:
    forced = choice.mode in (ToolChoiceMode.REQUIRED, ToolChoiceMode.NAMED)
    if forced and not features.allow(Feature.FORCED_TOOLS):
        return None
    written: dict[str, Any] = {"type": _CHOICES[choice.mode]}
    if choice.name is not None:
        written["name"] = choice.name
    if not choice.parallel and choice.mode is not ToolChoiceMode.NONE:
        written["disable_parallel_tool_use"] = True
    return written


def _tool(tool: Tool) -> dict[str, Any]:
    schema = thaw(tool.parameters) or {"type": "object", "properties": {}}
    written: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **schema}}
    if tool.description:
        written["description"] = tool.description
    strict = closed_if_closable(tool.parameters, require_all=False) if tool.strict else None
    if strict is not None:
        written["strict"] = True
        written["input_schema"] = strict
    return written


def _add_thinking(
    body: dict[str, Any],
    effort: ReasoningEffort,
    features: FeatureFilter,
    family: ModelFamily | None,
) -> None:
    if effort is ReasoningEffort.NONE:
        if family is not None and family.always_thinks:
            features.refuse("reasoning_effort 'none'")
        elif features.has(Feature.REASONING_EFFORT):
            body["thinking"] = {"type": "disabled"}
        return
    if not features.allow_effort(effort):
        return
    if family is not None and family.thinks_in_tokens:
        _add_budget(body, effort, features)
        return
    body["thinking"] = {"type": "adaptive"}
    body.setdefault("output_config", {})["effort"] = _EFFORTS[effort]


def _add_budget(body: dict[str, Any], effort: ReasoningEffort, features: FeatureFilter) -> None:
    """Set a budget below ``max_tokens``, which the API counts thinking into."""
    budget = min(_BUDGETS[effort], body["max_tokens"] - 1)
    if budget < _LEAST_BUDGET:
        features.refuse(
            f"reasoning_effort within max_output_tokens={body['max_tokens']}",
            "allow more than 1024 output tokens",
        )
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _add_sampling(body: dict[str, Any], sampling: Sampling | None, features: FeatureFilter) -> None:
    if sampling is None:
        return
    if sampling.temperature is not None and features.allow(Feature.TEMPERATURE):
        if sampling.temperature <= 1:
            body["temperature"] = sampling.temperature
        else:
            features.refuse(f"a temperature of {sampling.temperature}", "stay within 0 to 1")
    for feature in (Feature.TOP_P, Feature.TOP_K):
        value = getattr(sampling, feature.value)
        if value is not None and features.allow(feature):
            body[feature.value] = value
    for feature in (Feature.FREQUENCY_PENALTY, Feature.PRESENCE_PENALTY):
        if getattr(sampling, feature.value) is not None:
            features.allow(feature)
