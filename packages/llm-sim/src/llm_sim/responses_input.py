"""Reading a request of OpenAI's Responses API: parameters and input items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llm_sim import openai_wire as wire
from llm_sim.exchange import Ask, Tool
from llm_sim.fields import Fields
from llm_sim.logprobs import MOST_ALTERNATIVES

KNOWN_FIELDS = frozenset(
    [
        "access_programs",
        "background",
        "background_options",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)
"""The request's fields, as openai-python 3.54 types them; the vendor refuses any other."""

_ROLES = ("user", "assistant", "system", "developer")
_TEXT_PARTS = ("input_text", "output_text", "text")


def read_ask(fields: Fields, earlier: Iterable[Any], *, size_bytes: int = 0) -> Ask:
    """Read a request that goes on after earlier items; raise Refusal as the vendor does."""
    fields.known(KNOWN_FIELDS)
    model = fields.text("model")
    prompt = _Prompt()
    for item in earlier:
        prompt.add(item, "input")
    for place, item in enumerate(items_of(fields)):
        prompt.add(item, f"input[{place}]")
    instructions = fields.optional_text("instructions")
    if instructions:
        prompt.texts.insert(0, instructions)
    fields.number("temperature", 0, 2)
    fields.number("top_p", 0, 1)
    fields.number("top_logprobs", 0, MOST_ALTERNATIVES)
    tool_list = fields.items("tools")
    return Ask(
        operation="responses",
        model=model,
        texts=tuple(prompt.texts),
        user_text=prompt.user_text,
        assistant_turns=prompt.assistant_turns,
        tools=tuple(_tools(tool_list)),
        tool_choice=_tool_choice(fields.body.get("tool_choice")),
        parallel_tools=fields.flag("parallel_tool_calls", True),
        schema=_schema(Fields(dict(fields.mapping("text")), wire.WORDING).mapping("format")),
        max_output_tokens=fields.count("max_output_tokens", least=16),
        stream=fields.flag("stream"),
        effort=wire.effort(fields.mapping("reasoning").get("effort"), "reasoning.effort"),
        extra_tokens=prompt.image_tokens + wire.function_tokens(tool_list),
        image_tokens=prompt.image_tokens,
        audio_tokens=prompt.audio_tokens,
        body=fields.body,
        size_bytes=size_bytes,
    )


def items_of(fields: Fields) -> list[Any]:
    """Return the input as a list of items; a text is a message of the user."""
    given = fields.body.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if given is None:
        if fields.body.get("prompt") or fields.body.get("previous_response_id"):
            return []
        raise wire.refuse("Missing required parameter: 'input'.", "input", "missing")
    return fields.items("input")


class _Prompt(wire.Prompt):
    """Collects what the input items hold."""

    def __init__(self) -> None:
        super().__init__()
        self._speaking = False

    def add(self, item: object, param: str) -> None:
        if not isinstance(item, dict):
            raise wire.refuse(f"Invalid type for '{param}': expected an object.", param, "type")
        kind = item.get("type", "message")
        if kind == "message":
            role = wire.role(item, _ROLES, param)
            text = self._content(item.get("content"), f"{param}.content")
            if role == "user":
                self.user_text = text
        elif kind == "function_call":
            text = f"{item.get('name', '')}{item.get('arguments', '')}"
        elif kind == "function_call_output":
            output = item.get("output")
            text = output if isinstance(output, str) else self._content(output, f"{param}.output")
        else:
            text = ""
        # One turn of the assistant may be several items: reasoning, a message, parallel calls.
        speaking = item.get("role") == "assistant" or kind in ("function_call", "reasoning")
        self.assistant_turns += speaking and not self._speaking
        self._speaking = speaking
        if text:
            self.texts.append(text)

    def _content(self, content: object, param: str) -> str:
        if isinstance(content, str):
            return content
        if not isinstance(content, list):
            raise wire.refuse(
                f"Invalid type for '{param}': expected a string or an array.", param, "type"
            )
        text = ""
        for place, part in enumerate(content):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in _TEXT_PARTS:
                text += str(part.get("text", ""))
            elif kind == "input_image":
                self.image_tokens += wire.image_tokens(part.get("detail"))
            elif kind == "input_audio":
                self.audio_tokens += wire.audio_tokens((part.get("input_audio") or {}).get("data"))
            elif kind == "input_file":
                text += str(part.get("filename") or "")
            elif kind == "refusal":
                text += str(part.get("refusal", ""))
            else:
                raise wire.refuse(
                    f"Invalid value: '{kind}'. Supported values are: 'input_text', 'input_image', "
                    "'input_audio', 'input_file', 'output_text', and 'refusal'.",
                    f"{param}[{place}].type",
                    "value",
                )
        return text


def _tools(values: list[Any]) -> Iterator[Tool]:
    for place, value in enumerate(values):
        if not isinstance(value, dict):
            raise wire.refuse(
                f"Invalid type for 'tools[{place}]': expected an object.", f"tools[{place}]", "type"
            )
        if value.get("type") == "function":
            yield wire.tool(value, f"tools[{place}]")


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, dict):
        if choice.get("type") == "allowed_tools":
            return str(choice.get("mode", "auto"))
        return str(choice.get("name", "auto"))
    return str(choice or "auto")


def _schema(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    kind = form.get("type", "text")
    if kind == "json_object":
        return {}
    if kind == "json_schema":
        return wire.schema_of(form, "text.format")
    if kind != "text":
        raise wire.refuse(
            f"Invalid value: '{kind}'. "
            "Supported values are: 'json_object', 'json_schema', and 'text'.",
            "text.format.type",
            "value",
        )
    return None
