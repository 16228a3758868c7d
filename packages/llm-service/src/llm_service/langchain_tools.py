"""LangChain's tools, tool choices and schemas in our words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

from llm_core import InvalidValue, ResponseSchema, Tool, ToolChoice, ToolChoiceMode

__all__ = ["response_schema_from", "tool_choice_from", "tools_from"]

_MODES = {
    "auto": ToolChoiceMode.AUTO,
    "none": ToolChoiceMode.NONE,
    "any": ToolChoiceMode.REQUIRED,
    "required": ToolChoiceMode.REQUIRED,
}


def tools_from(tools: Iterable[Any]) -> tuple[Tool, ...]:
    """Return tools given as ours or as anything that LangChain takes for one."""
    return tuple(tool if isinstance(tool, Tool) else _tool(tool) for tool in tools)


def _tool(given: Any) -> Tool:
    described = convert_to_openai_tool(given)
    function = described.get("function")
    if function is None:
        raise InvalidValue.of("tools", described.get("type"), "functions; not a vendor's own tool")
    return Tool(
        name=function["name"],
        description=function.get("description") or "",
        parameters=function.get("parameters") or {},
        strict=bool(function.get("strict")),
    )


def tool_choice_from(
    choice: Any, *, tools: Iterable[Tool], parallel: bool | None
) -> ToolChoice | None:
    """Return the choice that LangChain writes as a mode, a tool's name, a bool, or OpenAI's mapping."""
    if isinstance(choice, ToolChoice):
        return choice
    together = parallel is not False
    if isinstance(choice, Mapping):
        choice = choice.get("function", choice).get("name") or choice.get("type")
    if choice is True:
        choice = "required"
    if choice is None or choice is False:
        return None if parallel is None else ToolChoice(parallel=together)
    offered = [tool.name for tool in tools]
    if choice in offered:
        return ToolChoice(mode=ToolChoiceMode.NAMED, name=choice, parallel=together)
    if choice in _MODES:
        return ToolChoice(mode=_MODES[choice], parallel=together)
    expected = f"one of {', '.join([*_MODES, *offered])}"
    raise InvalidValue.of("tool_choice", choice, expected)


def response_schema_from(schema: Any, *, strict: bool) -> ResponseSchema:
    """Return a pydantic class, a TypedDict or a JSON Schema as what the answer must satisfy."""
    described = convert_to_json_schema(schema)
    title = re.sub(r"[^a-zA-Z0-9_-]", "_", str(described.get("title") or "answer"))[:64]
    return ResponseSchema(
        name=title,
        json_schema=described,
        description=described.get("description"),
        strict=strict,
    )
