"""How a response schema is asked for: natively, by a forced tool, or in the prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_core import (
    LLMCallRequest,
    Message,
    ResponseSchema,
    TextPart,
    Tool,
    ToolChoice,
    ToolChoiceMode,
    thaw,
    unchecked,
    with_unchecked,
)
from llm_providers.features import Feature, FeatureFilter

__all__ = ["Structured", "merged_options", "structure"]


class Structured:
    """A request whose schema is settled: `request` to convert, and the way that was chosen."""

    __slots__ = ("by", "request", "tool")

    def __init__(self, request: LLMCallRequest, by: str | None, tool: str | None) -> None:
        self.request = request
        self.by = by
        self.tool = tool


def structure(request: LLMCallRequest, features: FeatureFilter) -> Structured:
    """Choose the best way the model has for the request's schema.

    ``native`` leaves the request as it is; ``tool`` adds a tool that must be called with the answer as arguments;
    ``prompt`` adds an instruction with the schema in it, whose answer may come with other words around.
    """
    schema = request.response_schema
    if schema is None:
        return Structured(request, None, None)
    if features.has(Feature.NATIVE_SCHEMA):
        return Structured(request, "native", None)
    taken = any(tool.name == schema.name for tool in request.tools)
    if features.has(Feature.TOOLS) and features.has(Feature.FORCED_TOOLS) and not taken:
        return Structured(_by_tool(request, schema), "tool", schema.name)
    return Structured(_by_prompt(request, schema), "prompt", None)


def _by_tool(request: LLMCallRequest, schema: ResponseSchema) -> LLMCallRequest:
    answer = unchecked(Tool)(
        name=schema.name,
        description=schema.description or "Give the answer in this form.",
        parameters=schema.json_schema,
    )
    choice = (
        ToolChoice(mode=ToolChoiceMode.REQUIRED, parallel=False)
        if request.tools
        else ToolChoice(mode=ToolChoiceMode.NAMED, name=schema.name, parallel=False)
    )
    return with_unchecked(
        request,
        tools=(*request.tools, answer),
        tool_choice=choice,
        response_schema=None,
    )


def _by_prompt(request: LLMCallRequest, schema: ResponseSchema) -> LLMCallRequest:
    written = json.dumps(schema.json_schema, ensure_ascii=False)
    instruction = Message.system(
        TextPart(
            text="Answer with one JSON value that satisfies this JSON Schema, and nothing else:\n"
            + written
        )
    )
    return with_unchecked(request, messages=(instruction, *request.messages), response_schema=None)


def merged_options(body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` with `options` over it: objects are merged, anything else is replaced."""
    for key, value in options.items():
        present = body.get(key)
        if isinstance(present, dict) and isinstance(value, Mapping):
            body[key] = merged_options(dict(present), value)
        else:
            body[key] = thaw(value)
    return body
