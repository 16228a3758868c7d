"""OpenAI Chat Completions: `POST /v1/chat/completions`, plain and streamed."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from llm_sim import logprobs, tokens
from llm_sim import openai_wire as wire
from llm_sim.exchange import Ask, Chunk, Json, Reply, Request, Stamp, Tool, Usage
from llm_sim.fields import Fields, dump, json_type, quote
from llm_sim.sound import FORMATS, encode
from llm_sim.wire import JSON, SSE

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
_FINISH = {"stop_sequence": "stop", "refusal": "stop"}


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


def content_type(ask: Ask) -> bytes:
    """Name the media type of the answer."""
    return SSE if ask.stream else JSON


def render(ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
    """Write a whole completion."""
    head = _head(ask, stamp, "chat.completion")
    message: Json = {
        "role": "assistant",
        "content": None if (reply.tool_calls or reply.refusal) and not reply.pieces else reply.text,
        "refusal": reply.refusal or None,
        "annotations": [],
    }
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in reply.tool_calls
        ]
    if ask.wants_audio:
        message["content"] = None
        message["audio"] = {
            "id": stamp.id("audio_"),
            "data": base64.b64encode(encode(reply.audio, ask.wants_audio)).decode(),
            "expires_at": stamp.created + 3600,
            "transcript": reply.text,
        }
    likely = None
    if ask.body.get("logprobs"):
        content = logprobs.entries(reply.pieces, ask.body.get("top_logprobs"))
        likely = {"content": content, "refusal": None}
    choices = [
        {"index": i, "message": message, "logprobs": likely, "finish_reason": _finish(reply)}
        for i in range(ask.choices)
    ]
    return dump(
        {
            **head,
            "choices": choices,
            "usage": usage(reply.usage),
            "service_tier": "default",
            "system_fingerprint": "fp_llmsim",
        }
    )


def stream(ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
    """Write the chunks of a streamed completion, `[DONE]` included."""
    options = ask.body.get("stream_options") or {}
    with_usage = bool(options.get("include_usage"))
    head = dump(
        {
            **_head(ask, stamp, "chat.completion.chunk"),
            "service_tier": "default",
            "system_fingerprint": "fp_llmsim",
        }
    ).decode()[:-1]
    tail = ',"usage":null}\n\n' if with_usage else "}\n\n"
    for index in range(ask.choices):
        yield from _choice_chunks(ask, reply, stamp, index, head, tail)
    if with_usage:
        yield Chunk(
            f'data: {head},"choices":[],"usage":{dump(usage(reply.usage)).decode()}}}\n\n'.encode()
        )
    yield Chunk(b"data: [DONE]\n\n")


def error_event(message: str) -> bytes:
    """Write the error that ends a stream half-way."""
    return (
        b"data: "
        + dump({"error": {"message": message, "type": "server_error", "param": None, "code": None}})
        + b"\n\n"
    )


def usage(used: Usage) -> Json:
    """Render the usage of a completion."""
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": used.cached_tokens,
            "audio_tokens": used.audio_input_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "audio_tokens": used.audio_output_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _choice_chunks(
    ask: Ask, reply: Reply, stamp: Stamp, index: int, head: str, tail: str
) -> Iterator[Chunk]:
    open_ = f'data: {head},"choices":[{{"index":{index},"delta":'
    ending = f',"finish_reason":null}}]{tail}'
    close = f',"logprobs":null{ending}'

    def delta(value: Json, count: int = 0) -> Chunk:
        return Chunk(f"{open_}{dump(value).decode()}{close}".encode(), count)

    first: Json = {
        "role": "assistant",
        "content": None if reply.tool_calls else "",
        "refusal": None,
    }
    yield delta(first, reply.usage.reasoning_tokens)
    if ask.wants_audio:
        yield from (delta(value, count) for value, count in _audio_deltas(reply, stamp))
    else:
        before = f'{open_}{{"content":'
        after = f"}}{close}"
        for piece in reply.pieces:
            if ask.body.get("logprobs"):
                likely = dump(logprobs.entry(piece, ask.body.get("top_logprobs") or 0)).decode()
                after = f'}},"logprobs":{{"content":[{likely}],"refusal":null}}{ending}'
            yield Chunk(f"{before}{quote(piece)}{after}".encode("utf-8", "replace"), 1)
    for piece in tokens.split(reply.refusal):
        yield delta({"refusal": piece}, 1)
    for place, call in enumerate(reply.tool_calls):
        opening = {"name": call.name, "arguments": ""}
        value = {"index": place, "id": call.id, "type": "function", "function": opening}
        yield delta({"tool_calls": [value]}, tokens.count(call.name))
        for piece in tokens.split(call.arguments):
            yield delta({"tool_calls": [{"index": place, "function": {"arguments": piece}}]}, 1)
    yield Chunk(f'{open_}{{}},"logprobs":null,"finish_reason":"{_finish(reply)}"}}]{tail}'.encode())


def _audio_deltas(reply: Reply, stamp: Stamp) -> Iterator[tuple[Json, int]]:
    yield {"audio": {"id": stamp.id("audio_"), "transcript": ""}}, 0
    size = len(reply.audio) // max(len(reply.pieces), 1)
    for place, piece in enumerate(reply.pieces):
        yield {"audio": {"transcript": piece}}, 1
        data = reply.audio[place * size : (place + 1) * size]
        yield {"audio": {"data": base64.b64encode(data).decode()}}, 5
    yield {"audio": {"expires_at": stamp.created + 3600}}, 0


def _head(ask: Ask, stamp: Stamp, kind: str) -> Json:
    return {
        "id": stamp.id("chatcmpl-"),
        "object": kind,
        "created": stamp.created,
        "model": ask.model,
    }


def _finish(reply: Reply) -> str:
    return _FINISH.get(reply.finish_reason, reply.finish_reason)


class _Prompt:
    """Collects what the messages hold."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.user_text = ""
        self.assistant_turns = 0
        self.image_tokens = 0
        self.audio_tokens = 0

    def add(self, message: object, param: str) -> None:
        if not isinstance(message, dict):
            raise wire.refuse(f"Invalid type for '{param}': expected an object.", param, "type")
        role = message.get("role")
        if role not in _ROLES:
            listed = ", ".join(f"'{word}'" for word in _ROLES)
            raise wire.refuse(
                f"Invalid value: '{role}'. Supported values are: {listed}.",
                f"{param}.role",
                "value",
            )
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
