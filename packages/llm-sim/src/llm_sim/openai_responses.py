"""OpenAI Responses: `POST /v1/responses`, plain and streamed, chained by `previous_response_id`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llm_sim import openai_wire as wire
from llm_sim import tokens
from llm_sim.errors import Refusal
from llm_sim.exchange import Answer, Ask, Chunk, Json, Reply, Request, Stamp, Tool, ToolCall, Usage
from llm_sim.fields import Fields, dump, quote
from llm_sim.wire import JSON, SSE

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

_STORED_RESPONSES = 4096
"""How many responses are kept for `previous_response_id`; the oldest are forgotten."""

_ROLES = ("user", "assistant", "system", "developer")
_TEXT_PARTS = ("input_text", "output_text", "text")


class OpenAIResponses:
    """The Responses endpoint and the responses it has stored."""

    def __init__(self) -> None:
        self._stored: OrderedDict[str, tuple[list[Any], Json]] = OrderedDict()

    def read(self, request: Request) -> Ask:
        """Read a request; raise Refusal as the vendor does."""
        body = wire.read_json(request.body)
        fields = Fields(body, wire.WORDING)
        fields.known(KNOWN_FIELDS)
        model = fields.text("model")
        prompt = _Prompt()
        for item in self._earlier(fields.optional_text("previous_response_id")):
            prompt.add(item, "input")
        for place, item in enumerate(_items(fields)):
            prompt.add(item, f"input[{place}]")
        instructions = fields.optional_text("instructions")
        if instructions:
            prompt.texts.insert(0, instructions)
        fields.number("temperature", 0, 2)
        fields.number("top_p", 0, 1)
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
            schema=_schema(fields.mapping("text").get("format") or {}),
            max_output_tokens=fields.count("max_output_tokens", least=16),
            stream=fields.flag("stream"),
            effort=wire.effort(fields.mapping("reasoning").get("effort"), "reasoning.effort"),
            extra_tokens=prompt.image_tokens + wire.function_tokens(tool_list),
            image_tokens=prompt.image_tokens,
            audio_tokens=prompt.audio_tokens,
            body=body,
        )

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        return SSE if ask.stream else JSON

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write a whole response and store it."""
        response = _response(ask, reply, stamp, _output(ask, reply, stamp))
        self._store(ask, response)
        return dump(response)

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write the events of a streamed response; it is stored once the last one is written."""
        number = -1

        def event(kind: str, count: int = 0, **data: object) -> Chunk:
            nonlocal number
            number += 1
            body = dump({"type": kind, "sequence_number": number, **data}).decode()
            return Chunk(f"event: {kind}\ndata: {body}\n\n".encode("utf-8", "replace"), count)

        start = _response(ask, reply, stamp, [], status="in_progress")
        yield event("response.created", response=start)
        yield event("response.in_progress", response=start)
        output = _output(ask, reply, stamp)
        for index, item in enumerate(output):
            place = {"output_index": index}
            yield event("response.output_item.added", item=_opened(item), **place)
            if item["type"] == "message":
                content = item["content"][0]
                place |= {"item_id": item["id"], "content_index": 0}
                yield event("response.content_part.added", part=_emptied(content), **place)
                if content["type"] == "output_text":
                    for piece in reply.pieces:
                        number += 1
                        yield _text_delta(number, item["id"], index, piece)
                    yield event(
                        "response.output_text.done", text=content["text"], logprobs=[], **place
                    )
                else:
                    for piece in tokens.split(reply.refusal):
                        yield event("response.refusal.delta", 1, delta=piece, **place)
                    yield event("response.refusal.done", refusal=reply.refusal, **place)
                yield event("response.content_part.done", part=content, **place)
            elif item["type"] == "function_call":
                place |= {"item_id": item["id"]}
                for piece in tokens.split(item["arguments"]):
                    yield event("response.function_call_arguments.delta", 1, delta=piece, **place)
                yield event(
                    "response.function_call_arguments.done",
                    arguments=item["arguments"],
                    name=item["name"],
                    **place,
                )
            elif item["summary"]:
                place |= {"item_id": item["id"], "summary_index": 0}
                part = item["summary"][0]
                kind = "response.reasoning_summary"
                yield event(f"{kind}_part.added", part={**part, "text": ""}, **place)
                for piece in tokens.split(part["text"]):
                    yield event(f"{kind}_text.delta", 1, delta=piece, **place)
                yield event(f"{kind}_text.done", text=part["text"], **place)
                yield event(f"{kind}_part.done", part=part, **place)
            yield event("response.output_item.done", item=item, output_index=index)
        response = _response(ask, reply, stamp, output)
        self._store(ask, response)
        yield event(f"response.{response['status']}", response=response)

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        data = {"type": "error", "code": "server_error", "message": message, "param": None}
        return b"event: error\ndata: " + dump({**data, "sequence_number": 0}) + b"\n\n"

    def resources(self) -> Iterator[tuple[str, str, Callable[..., Answer]]]:
        """Give method, path and handler of everything that is stored."""
        one = r"/v1/responses/(?P<response_id>[^/]+)"
        yield "GET", one, self._retrieve
        yield "DELETE", one, self._delete
        yield "GET", f"{one}/input_items", self._input_items

    def _retrieve(self, request: Request, stamp: Stamp, /, *, response_id: str) -> Answer:
        return Answer(body=dump(self._get(response_id)[1]))

    def _input_items(self, request: Request, stamp: Stamp, /, *, response_id: str) -> Answer:
        history, response = self._get(response_id)
        items = [
            {"id": f"msg_{response_id[5:]}{place:02x}", "status": "completed", **item}
            for place, item in enumerate(history[: len(history) - len(response["output"])])
        ]
        for item in items:
            if isinstance(item.get("content"), str):
                item["content"] = [{"type": "input_text", "text": item["content"]}]
        ids = [item["id"] for item in items] or [None]
        page = {"object": "list", "data": items[::-1], "has_more": False}
        return Answer(body=dump({**page, "first_id": ids[-1], "last_id": ids[0]}))

    def _delete(self, request: Request, stamp: Stamp, /, *, response_id: str) -> Answer:
        self._get(response_id)
        del self._stored[response_id]
        return Answer(body=dump({"id": response_id, "object": "response", "deleted": True}))

    def _get(self, response_id: str) -> tuple[list[Any], Json]:
        if response_id not in self._stored:
            raise Refusal(
                404,
                f"Response with id '{response_id}' not found.",
                type="invalid_request_error",
                param=None,
            )
        return self._stored[response_id]

    def _earlier(self, response_id: str | None) -> list[Any]:
        if response_id is None:
            return []
        if response_id not in self._stored:
            raise wire.refuse(
                f"Previous response with id '{response_id}' not found.",
                "previous_response_id",
                "previous_response_not_found",
            )
        return self._stored[response_id][0]

    def _store(self, ask: Ask, response: Json) -> None:
        if ask.body.get("store") is False:
            return
        earlier = self._stored.get(ask.body.get("previous_response_id") or "", ([], {}))[0]
        history = [*earlier, *_items(Fields(ask.body, wire.WORDING)), *response["output"]]
        self._stored[response["id"]] = (history, response)
        while len(self._stored) > _STORED_RESPONSES:
            self._stored.popitem(last=False)


def usage(used: Usage) -> Json:
    """Render the usage of a response."""
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {
            "cached_tokens": used.cached_tokens,
            "cache_write_tokens": used.cache_write_tokens,
        },
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.total_tokens,
    }


def _text_delta(number: int, item_id: str, index: int, piece: str) -> Chunk:
    return Chunk(
        f'event: response.output_text.delta\ndata: {{"type":"response.output_text.delta",'
        f'"sequence_number":{number},"item_id":"{item_id}","output_index":{index},'
        f'"content_index":0,"delta":{quote(piece)},"logprobs":[]}}\n\n'.encode("utf-8", "replace"),
        1,
    )


def _response(
    ask: Ask, reply: Reply, stamp: Stamp, output: list[Json], status: str | None = None
) -> Json:
    body = ask.body
    cut = reply.finish_reason in ("length", "content_filter")
    status = status or ("incomplete" if cut else "completed")
    reason = "max_output_tokens" if reply.finish_reason == "length" else "content_filter"
    done = status != "in_progress"
    return {
        "id": stamp.id("resp_"),
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "background": bool(body.get("background")),
        "completed_at": stamp.created if status == "completed" else None,
        "error": None,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": ask.model,
        "output": output,
        "parallel_tool_calls": ask.parallel_tools,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": ask.effort, "summary": _wants_summary(ask)},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default" if done else "auto",
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | (body.get("text") or {}),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_logprobs": body.get("top_logprobs", 0),
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": usage(reply.usage) if done else None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _output(ask: Ask, reply: Reply, stamp: Stamp) -> list[Json]:
    output: list[Json] = []
    status = "incomplete" if reply.finish_reason == "length" else "completed"
    if reply.usage.reasoning_tokens:
        summary = [{"type": "summary_text", "text": reply.reasoning}] if _wants_summary(ask) else []
        item: Json = {"id": stamp.id("rs_"), "type": "reasoning", "summary": summary}
        if "reasoning.encrypted_content" in (ask.body.get("include") or ()):
            item["encrypted_content"] = stamp.id("gAAAAAB")
        output.append(item)
    if reply.pieces or reply.refusal or not reply.tool_calls:
        content: Json = (
            {"type": "refusal", "refusal": reply.refusal}
            if reply.refusal
            else {"type": "output_text", "annotations": [], "logprobs": [], "text": reply.text}
        )
        output.append(
            {
                "id": stamp.id("msg_"),
                "type": "message",
                "status": status,
                "content": [content],
                "role": "assistant",
            }
        )
    output.extend(_call_item(call, stamp, place) for place, call in enumerate(reply.tool_calls))
    return output


def _call_item(call: ToolCall, stamp: Stamp, place: int) -> Json:
    return {
        "id": stamp.id("fc_", place),
        "type": "function_call",
        "status": "completed",
        "arguments": call.arguments,
        "call_id": call.id,
        "name": call.name,
    }


def _wants_summary(ask: Ask) -> Any:
    reasoning = ask.body.get("reasoning") or {}
    return reasoning.get("summary") or reasoning.get("generate_summary")


def _opened(item: Json) -> Json:
    """The item as it is when it begins: nothing in it yet."""
    empty: dict[str, Json] = {
        "message": {"status": "in_progress", "content": []},
        "function_call": {"status": "in_progress", "arguments": ""},
        "reasoning": {"summary": []},
    }
    return {**item, **empty[item["type"]]}


def _emptied(content: Json) -> Json:
    return {**content, ("text" if content["type"] == "output_text" else "refusal"): ""}


def _items(fields: Fields) -> list[Any]:
    given = fields.body.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if given is None:
        if fields.body.get("prompt") or fields.body.get("previous_response_id"):
            return []
        raise wire.refuse("Missing required parameter: 'input'.", "input", "missing")
    return fields.items("input")


class _Prompt:
    """Collects what the input items hold."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.user_text = ""
        self.assistant_turns = 0
        self.image_tokens = 0
        self.audio_tokens = 0
        self._speaking = False

    def add(self, item: object, param: str) -> None:
        if not isinstance(item, dict):
            raise wire.refuse(f"Invalid type for '{param}': expected an object.", param, "type")
        kind = item.get("type", "message")
        if kind == "message":
            role = item.get("role")
            if role not in _ROLES:
                listed = ", ".join(f"'{word}'" for word in _ROLES)
                raise wire.refuse(
                    f"Invalid value: '{role}'. Supported values are: {listed}.",
                    f"{param}.role",
                    "value",
                )
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
