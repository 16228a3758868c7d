"""Reading a request of OpenAI's Chat Completions: parameters and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_sim import logprobs
from llm_sim import openai_wire as wire
from llm_sim.exchange import Ask, Json, Request, Tool
from llm_sim.fields import Fields, json_type
from llm_sim.sound import FORMATS

KNOWN_FIELDS = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)
"""The request's fields, as openai-python 3.54 types them; the vendor refuses any other."""

_MOST_CHOICES = 128
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def read(request: Request) -> Ask:
    """Read a request; raise Refusal as the vendor does."""
    body = wire.read_json(request.body)
    fields = Fields(body, wire.WORDING)
    fields.known(KNOWN_FIELDS)
    model = fields.text("model")
    messages = fields.items("messages")
    if not messages:
        if "messages" not in body:
            raise wire.WORDING.missing("messages")
        raise wire.refuse(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            "messages",
            "empty_array",
        )
    prompt = _Prompt()
    for place, message in enumerate(messages):
        prompt.add(message, f"messages[{place}]")
    _check_the_rest(fields)
    tool_list = fields.items("tools")
    functions = tuple(_tool(value, f"tools[{i}]") for i, value in enumerate(tool_list))
    audio = fields.mapping("audio")
    return Ask(
        operation="chat",
        model=model,
        texts=tuple(prompt.texts),
        user_text=prompt.user_text,
        assistant_turns=prompt.assistant_turns,
        tools=tuple(tool for tool in functions if tool is not None),
        tool_choice=_tool_choice(fields, functions),
        parallel_tools=fields.flag("parallel_tool_calls", True),
        schema=_schema(fields.mapping("response_format")),
        max_output_tokens=fields.count("max_completion_tokens") or fields.count("max_tokens"),
        stop=fields.words("stop"),
        stream=fields.flag("stream"),
        effort=wire.effort(body.get("reasoning_effort"), "reasoning_effort"),
        choices=fields.count("n", most=_MOST_CHOICES) or 1,
        extra_tokens=prompt.image_tokens + wire.function_tokens(tool_list),
        image_tokens=prompt.image_tokens,
        audio_tokens=prompt.audio_tokens,
        wants_audio=_voice(audio) if "audio" in fields.items("modalities") else None,
        body=body,
    )


class _Prompt(wire.Prompt):
    """Collects what the messages hold."""

    def add(self, message: object, param: str) -> None:
        if not isinstance(message, dict):
            raise wire.refuse(f"Invalid type for '{param}': expected an object.", param, "type")
        role = wire.role(message, _ROLES, param)
        content = message.get("content")
        if role == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise wire.refuse(
                f"Missing required parameter: '{param}.tool_call_id'.",
                f"{param}.tool_call_id",
                "missing",
            )
        text = content if isinstance(content, str) else self._parts(content, param, message)
        if role == "user":
            self.user_text = text
        elif role == "assistant":
            self.assistant_turns += 1
            for call in message.get("tool_calls") or ():
                function = call.get("function") or {}
                text += f"{function.get('name', '')}{function.get('arguments', '')}"
        self.texts.append(text)

    def _parts(self, content: object, param: str, message: Json) -> str:
        if content is None and message["role"] == "assistant":
            return ""
        if not isinstance(content, list):
            raise wire.refuse(
                f"Invalid value for 'content': expected a string, got {json_type(content)}.",
                f"{param}.content",
                "type",
            )
        text = ""
        for place, part in enumerate(content):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("text", "refusal"):
                text += str(part.get(kind, ""))
            elif kind == "image_url":
                self.image_tokens += wire.image_tokens((part.get("image_url") or {}).get("detail"))
            elif kind == "input_audio":
                self.audio_tokens += wire.audio_tokens((part.get("input_audio") or {}).get("data"))
            elif kind == "file":
                text += str((part.get("file") or {}).get("filename", ""))
            else:
                raise wire.refuse(
                    f"Invalid value: '{kind}'. Supported values are: 'text', 'image_url', "
                    "'input_audio', 'refusal', and 'file'.",
                    f"{param}.content[{place}].type",
                    "value",
                )
        return text


def _tool(value: object, param: str) -> Tool | None:
    if not isinstance(value, dict):
        raise wire.refuse(f"Invalid type for '{param}': expected an object.", param, "type")
    if value.get("type") != "function":
        return None
    return wire.tool(value.get("function"), f"{param}.function")


def _tool_choice(fields: Fields, tools: tuple[Tool | None, ...]) -> str:
    choice: Any = fields.body.get("tool_choice")
    if choice is None:
        return "auto"
    if not tools:
        raise wire.refuse(
            "Invalid value for 'tool_choice': "
            "'tool_choice' is only allowed when 'tools' are specified.",
            "tool_choice",
            "value",
        )
    if isinstance(choice, str):
        return choice
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return str(choice["function"].get("name"))
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return str((choice.get("allowed_tools") or {}).get("mode", "auto"))
    raise wire.refuse("Invalid value for 'tool_choice'.", "tool_choice", "value")


def _check_the_rest(fields: Fields) -> None:
    """Check what a simulated model takes no notice of, but the vendor looks at."""
    fields.number("temperature", 0, 2)
    fields.number("top_p", 0, 1)
    fields.number("presence_penalty", -2, 2)
    fields.number("frequency_penalty", -2, 2)
    fields.number("top_logprobs", 0, logprobs.MOST_ALTERNATIVES)
    if fields.body.get("top_logprobs") and not fields.flag("logprobs"):
        raise wire.refuse(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
            "top_logprobs",
            "value",
        )
    if fields.mapping("stream_options") and not fields.flag("stream"):
        raise wire.refuse(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
            "value",
        )


def _voice(audio: Mapping[str, Any]) -> str:
    form = audio.get("format", "wav")
    if form not in FORMATS:
        raise wire.refuse(
            f"Invalid value: '{form}'. The simulator speaks 'wav', 'mp3' and 'pcm16'.",
            "audio.format",
            "value",
        )
    return str(form)


def _schema(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    kind = form.get("type", "text")
    if kind == "json_object":
        return {}
    if kind == "json_schema":
        return wire.schema_of(form.get("json_schema") or {}, "response_format.json_schema")
    if kind != "text":
        raise wire.refuse(
            f"Invalid value: '{kind}'. "
            "Supported values are: 'json_object', 'json_schema', and 'text'.",
            "response_format.type",
            "value",
        )
    return None
