"""Anthropic Messages: `POST /v1/messages`, plain and streamed, and `/v1/messages/count_tokens`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llm_sim import anthropic_wire as wire
from llm_sim import tokens
from llm_sim.brain import count_input
from llm_sim.exchange import Answer, Ask, Chunk, Json, Reply, Request, Stamp, Tool, Usage
from llm_sim.fields import Fields, dump, quote, read_object
from llm_sim.wire import JSON, SSE

COUNT_FIELDS = frozenset(
    [
        "billing_policy",
        "cache_control",
        "compaction",
        "context_management",
        "mcp_servers",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "user_profile_id",
        "workspace_id",
    ]
)
"""The fields of count_tokens, as anthropic 2.12 types them, and those of its betas."""

KNOWN_FIELDS = COUNT_FIELDS.union(
    [
        "container",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "max_tokens",
        "metadata",
        "service_tier",
        "stop_sequences",
        "stream",
        "temperature",
        "thread",
        "top_k",
        "top_p",
    ]
)
"""The request's fields; the vendor refuses any other."""

IMAGE_TOKENS = 1600
"""An image of the largest size that is not scaled down: (width · height) / 750, at most 1,600
(docs.claude.com, "Vision")."""
_DOCUMENT_TOKENS = 1500
"""A page of a PDF: "1,500 to 3,000 tokens per page" (docs.claude.com, "PDF support")."""
_LEAST_BUDGET_TOKENS = 1024

_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "refusal": "refusal",
    "content_filter": "refusal",
}


def read(request: Request) -> Ask:
    """Read a request; raise Refusal as the vendor does."""
    fields = Fields(wire.read_json(request.body), wire.WORDING)
    fields.known(KNOWN_FIELDS)
    most = fields.count("max_tokens")
    if most is None:
        raise wire.WORDING.missing("max_tokens")
    fields.number("temperature", 0, 1)
    fields.number("top_p", 0, 1)
    return _ask(fields, most)


def content_type(ask: Ask) -> bytes:
    """Name the media type of the answer."""
    return SSE if ask.stream else JSON


def render(ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
    """Write a whole message."""
    return dump(message(ask, reply, stamp))


def message(ask: Ask, reply: Reply, stamp: Stamp) -> Json:
    """Make the message object."""
    content = _blocks(reply, stamp)
    return {
        **_head(ask, stamp),
        "content": content,
        "stop_reason": _STOP[reply.finish_reason],
        "stop_sequence": reply.stop_sequence,
        "usage": usage(reply.usage),
    }


def stream(ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
    """Write the events of a streamed message."""
    opening = usage(reply.usage) | {"output_tokens": 1}
    start = {
        **_head(ask, stamp),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": opening,
    }
    yield _event("message_start", message=start)
    calls = iter(reply.tool_calls)
    for index, block in enumerate(_blocks(reply, stamp)):
        kind = block["type"]
        if kind == "text":
            yield _event("content_block_start", index=index, content_block={**block, "text": ""})
            if not index:
                yield _event("ping")
            pieces = tokens.split(reply.refusal) if reply.refusal else reply.pieces
            for piece in pieces:
                yield _text_delta(index, piece)
        elif kind == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            yield _event("content_block_start", index=index, content_block=empty)
            for piece in tokens.split(block["thinking"]):
                yield _delta(index, 1, type="thinking_delta", thinking=piece)
            yield _delta(index, 0, type="signature_delta", signature=block["signature"])
        else:
            call = next(calls)
            yield _event("content_block_start", index=index, content_block={**block, "input": {}})
            yield _delta(index, tokens.count(call.name), type="input_json_delta", partial_json="")
            for piece in tokens.split(call.arguments):
                yield _delta(index, 1, type="input_json_delta", partial_json=piece)
        yield _event("content_block_stop", index=index)
    ending = {"stop_reason": _STOP[reply.finish_reason], "stop_sequence": reply.stop_sequence}
    closing = {"output_tokens": reply.usage.output_tokens, **_details(reply.usage)}
    yield _event("message_delta", delta=ending, usage=closing)
    yield _event("message_stop")


def error_event(message: str) -> bytes:
    """Write the error that ends a stream half-way."""
    error = {"type": "overloaded_error", "message": "Overloaded"}
    return b"event: error\ndata: " + dump({"type": "error", "error": error}) + b"\n\n"


def count_tokens(request: Request, stamp: Stamp, /, **names: str) -> Answer:
    """Answer a count of a prompt's tokens."""
    fields = Fields(wire.read_json(request.body), wire.WORDING)
    fields.known(COUNT_FIELDS)
    return Answer(body=dump({"input_tokens": count_input(_ask(fields, None))}))


def usage(used: Usage) -> Json:
    """Render the usage; here `input_tokens` is what the cache neither gave nor took."""
    fresh = used.input_tokens - used.cached_tokens - used.cache_write_tokens
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": used.cache_write_tokens,
        "cache_read_input_tokens": used.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.cache_write_tokens,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": used.output_tokens,
        "service_tier": "standard",
        **_details(used),
    }


def _details(used: Usage) -> Json:
    if not used.reasoning_tokens:
        return {}
    return {"output_tokens_details": {"thinking_tokens": used.reasoning_tokens}}


def _head(ask: Ask, stamp: Stamp) -> Json:
    return {"id": stamp.id("msg_"), "type": "message", "role": "assistant", "model": ask.model}


def _blocks(reply: Reply, stamp: Stamp) -> list[Json]:
    blocks: list[Json] = []
    if reply.reasoning:
        signature = stamp.id("EqQBsimulated")
        blocks.append({"type": "thinking", "thinking": reply.reasoning, "signature": signature})
    if reply.pieces or reply.refusal:
        blocks.append({"type": "text", "text": reply.refusal or reply.text})
    for call in reply.tool_calls:
        blocks.append(
            {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": read_object(call.arguments),
            }
        )
    return blocks


def _event(kind: str, **data: object) -> Chunk:
    body = dump({"type": kind, **data})
    return Chunk(b"event: %s\ndata: %s\n\n" % (kind.encode(), body))


def _delta(index: int, count: int, **delta: str) -> Chunk:
    body = dump({"type": "content_block_delta", "index": index, "delta": delta})
    return Chunk(b"event: content_block_delta\ndata: %s\n\n" % body, count)


def _text_delta(index: int, piece: str) -> Chunk:
    return Chunk(
        f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{index},'
        f'"delta":{{"type":"text_delta","text":{quote(piece)}}}}}\n\n'.encode("utf-8", "replace"),
        1,
    )


def _ask(fields: Fields, most: int | None) -> Ask:
    body = fields.body
    model = fields.text("model")
    prompt = _Prompt()
    prompt.add_system(body.get("system"))
    messages = fields.items("messages")
    if "messages" not in body:
        raise wire.WORDING.missing("messages")
    if not messages:
        raise wire.refuse("messages: at least one message is required")
    for place, item in enumerate(messages):
        prompt.add(item, f"messages.{place}")
    if body.get("cache_control") is not None:
        prompt.marks.append(len(prompt.texts))
    tool_list = fields.items("tools")
    choice = fields.mapping("tool_choice")
    output = fields.mapping("output_config")
    return Ask(
        operation="messages",
        model=model,
        texts=tuple(prompt.texts),
        user_text=prompt.user_text,
        assistant_turns=prompt.assistant_turns,
        tools=tuple(_tools(tool_list)),
        tool_choice=_tool_choice(choice),
        parallel_tools=not choice.get("disable_parallel_tool_use"),
        schema=_schema(output.get("format")),
        max_output_tokens=most,
        stop=fields.words("stop_sequences"),
        stream=fields.flag("stream"),
        effort=_effort(fields.mapping("thinking"), output, most),
        call_prefix="toolu_",
        extra_tokens=prompt.extra_tokens + sum(tokens.count(dump(t).decode()) for t in tool_list),
        image_tokens=prompt.image_tokens,
        cache_marks=tuple(prompt.marks),
        body=body,
    )


class _Prompt:
    """Collects what system and messages hold."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.marks: list[int] = []
        self.user_text = ""
        self.assistant_turns = 0
        self.extra_tokens = 0
        self.image_tokens = 0

    def add_system(self, system: object) -> None:
        if system is None:
            return
        self.texts.append(system if isinstance(system, str) else self._blocks(system, "system")[0])

    def add(self, item: object, param: str) -> None:
        if not isinstance(item, dict):
            raise wire.refuse(f"{param}: Input should be a valid dictionary")
        role = item.get("role")
        if role not in ("user", "assistant", "system"):
            raise wire.refuse(
                f"{param}.role: Input should be 'user', 'assistant' or 'system', got \"{role}\""
            )
        content = item.get("content")
        if isinstance(content, str):
            text, has_text = content, True
            self.texts.append(text)
        else:
            text, has_text = self._blocks(content, f"{param}.content")
            self.texts.append(text)
        if role == "assistant":
            self.assistant_turns += 1
        elif role == "user" and has_text:
            # A message of tool results alone goes on with what was asked before it.
            self.user_text = text

    def _blocks(self, blocks: object, param: str) -> tuple[str, bool]:
        """Return the text of some blocks, and whether any of it is the speaker's own."""
        if not isinstance(blocks, list):
            raise wire.refuse(f"{param}: Input should be a valid list")
        text = ""
        own = False
        for place, block in enumerate(blocks):
            kind = block.get("type") if isinstance(block, dict) else None
            if kind == "text":
                if not block.get("text"):
                    raise wire.refuse("messages: text content blocks must be non-empty")
                text += str(block["text"])
                own = True
            elif kind == "tool_result":
                inner = block.get("content")
                if isinstance(inner, list):
                    text += self._blocks(inner, f"{param}.{place}.content")[0]
                else:
                    text += str(inner or "")
            elif kind == "tool_use":
                text += f"{block.get('name', '')}{dump(block.get('input') or {}).decode()}"
            elif kind == "thinking":
                text += str(block.get("thinking", ""))
            elif kind == "image":
                self.extra_tokens += IMAGE_TOKENS
                self.image_tokens += IMAGE_TOKENS
            elif kind == "document":
                self.extra_tokens += _DOCUMENT_TOKENS
            elif not isinstance(kind, str):
                raise wire.refuse(f"{param}.{place}.type: Field required")
            if block.get("cache_control") is not None:
                self.marks.append(len(self.texts) + 1)
        return text, own


def _tools(values: list[Any]) -> Iterator[Tool]:
    for place, value in enumerate(values):
        if not isinstance(value, dict):
            raise wire.refuse(f"tools.{place}: Input should be a valid dictionary")
        if value.get("type", "custom") != "custom":
            continue  # the vendor's own tools run at the vendor
        if not isinstance(value.get("name"), str):
            raise wire.refuse(f"tools.{place}.custom.name: Field required")
        schema = value.get("input_schema")
        if not isinstance(schema, dict):
            raise wire.refuse(f"tools.{place}.custom.input_schema: Field required")
        if schema.get("type") != "object":
            raise wire.refuse(f"tools.{place}.custom.input_schema.type: Field required")
        yield Tool(name=value["name"], schema=schema)


def _tool_choice(choice: Mapping[str, Any]) -> str:
    kind = choice.get("type", "auto")
    if kind == "tool":
        return str(choice.get("name"))
    if kind not in ("auto", "any", "none"):
        raise wire.refuse(
            f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the "
            "expected tags: 'auto', 'any', 'tool', 'none'"
        )
    return "required" if kind == "any" else str(kind)


def _schema(form: object) -> Mapping[str, Any] | None:
    if form is None:
        return None
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise wire.refuse("output_config.format.type: Input should be 'json_schema'")
    schema = form.get("schema")
    if not isinstance(schema, dict):
        raise wire.refuse("output_config.format.schema: Field required")
    return schema


def _effort(thinking: Mapping[str, Any], output: Mapping[str, Any], most: int | None) -> str | None:
    kind = thinking.get("type", "disabled")
    if kind == "disabled":
        return None
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int):
            raise wire.refuse("thinking.enabled.budget_tokens: Field required")
        if budget < _LEAST_BUDGET_TOKENS:
            raise wire.WORDING.below("thinking.enabled.budget_tokens", budget, _LEAST_BUDGET_TOKENS)
        if most is not None and most <= budget:
            raise wire.refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")
    return str(output.get("effort") or "medium")
