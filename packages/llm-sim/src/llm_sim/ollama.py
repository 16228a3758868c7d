"""Ollama: `/api/chat` and `/api/generate`, streamed as lines of JSON unless told otherwise."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from llm_sim import logprobs, tokens
from llm_sim import ollama_wire as wire
from llm_sim.exchange import Ask, Chunk, Json, Reply, Request, Stamp, Tool, Usage
from llm_sim.fields import Fields, dump, quote, read_object
from llm_sim.wire import JSON

IMAGE_TOKENS = 576
"""Patches of an image in LLaVA 1.5: 24 · 24."""
_LOAD_NS = 1_000_000
_PROMPT_NS_PER_TOKEN = 50_000
_REPLY_NS_PER_TOKEN = 1_000_000

_NO_MODEL = "model is required"


class _OllamaDialogue(ABC):
    """What chat and generate have in common; a subclass says how one piece is written."""

    operation: str

    def read(self, request: Request) -> Ask:
        """Read a request; fields that Ollama does not know are ignored, as it does."""
        fields = Fields(wire.read_json(request.body), wire.WORDING)
        body = fields.body
        if not body.get("model"):
            raise wire.refuse(_NO_MODEL)
        options = fields.mapping("options")
        fields.number("top_logprobs", 0, logprobs.MOST_ALTERNATIVES)
        most = options.get("num_predict")
        texts, user_text, turns, images = self._prompt(fields)
        tool_list = fields.items("tools")
        return Ask(
            operation=self.operation,
            model=fields.text("model"),
            texts=texts,
            user_text=user_text,
            assistant_turns=turns,
            tools=tuple(_tools(tool_list)),
            schema=_schema(body.get("format")),
            # Negative numbers ask for as much as there is.
            max_output_tokens=most if isinstance(most, int) and most >= 0 else None,
            stop=Fields(dict(options), wire.WORDING).words("stop"),
            stream=fields.flag("stream", True),
            effort=_effort(body.get("think")),
            silent=not texts,
            extra_tokens=images * IMAGE_TOKENS
            + sum(tokens.count(dump(tool).decode()) for tool in tool_list),
            image_tokens=images * IMAGE_TOKENS,
            cache_marks=(),
            body=body,
        )

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        return wire.NDJSON if ask.stream else JSON

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write a whole reply."""
        whole = self._piece(reply.refusal or reply.text, reply.reasoning, reply)
        if ask.body.get("logprobs"):
            whole["logprobs"] = logprobs.entries(reply.pieces, ask.body.get("top_logprobs"))
        return dump({**_head(ask, stamp), **whole, **self._end(ask, reply)})

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write one line for each token, and a last one that is done."""
        head = dump(_head(ask, stamp)).decode()[:-1]
        for piece in tokens.split(reply.reasoning):
            line = {**_head(ask, stamp), **self._piece("", piece, None), "done": False}
            yield Chunk(dump(line) + b"\n", 1)
        before, after = self._frame(head)
        for piece in tokens.split(reply.refusal) or reply.pieces:
            if ask.body.get("logprobs"):
                likely = logprobs.entry(piece, ask.body.get("top_logprobs") or 0)
                line = {**_head(ask, stamp), **self._piece(piece, "", None), "done": False}
                yield Chunk(dump({**line, "logprobs": [likely]}) + b"\n", 1)
                continue
            yield Chunk(f"{before}{quote(piece)}{after}".encode("utf-8", "replace"), 1)
        if reply.tool_calls:
            count = sum(tokens.count(call.name + call.arguments) for call in reply.tool_calls)
            line = {**_head(ask, stamp), **self._piece("", "", reply), "done": False}
            yield Chunk(dump(line) + b"\n", count)
        last = {**_head(ask, stamp), **self._piece("", "", None), **self._end(ask, reply)}
        yield Chunk(dump(last) + b"\n")

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        return dump({"error": message}) + b"\n"

    @abstractmethod
    def _prompt(self, fields: Fields) -> tuple[tuple[str, ...], str, int, int]:
        """Return all texts, the last one of the user, turns of the assistant, images."""

    @abstractmethod
    def _piece(self, text: str, thinking: str, reply: Reply | None) -> Json:
        """Write a piece of text and thinking, with the reply's tool calls if it is given."""

    @abstractmethod
    def _frame(self, head: str) -> tuple[str, str]:
        """Return what stands before and after the JSON string of a piece of text."""

    def _end(self, ask: Ask, reply: Reply) -> Json:
        reason = "length" if reply.finish_reason == "length" else "stop"
        if not ask.texts:
            reason = "unload" if ask.body.get("keep_alive") == 0 else "load"
            return {"done": True, "done_reason": reason}
        return {"done": True, "done_reason": reason, **_numbers(reply.usage)}


class OllamaChat(_OllamaDialogue):
    """`POST /api/chat`."""

    operation = "chat"

    def _prompt(self, fields: Fields) -> tuple[tuple[str, ...], str, int, int]:
        texts, user_text, turns, images = [], "", 0, 0
        for message in fields.items("messages"):
            if not isinstance(message, dict):
                raise wire.WORDING.wrong_type("messages", message, "an object")
            text = str(message.get("content") or "")
            if message.get("role") == "user":
                user_text = text
            elif message.get("role") == "assistant":
                turns += 1
                text += dump(message["tool_calls"]).decode() if message.get("tool_calls") else ""
            texts.append(text)
            images += len(Fields(message, wire.WORDING).items("images"))
        return tuple(texts), user_text, turns, images

    def _piece(self, text: str, thinking: str, reply: Reply | None) -> Json:
        message: Json = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if reply is not None and reply.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "function": {
                        "index": i,
                        "name": call.name,
                        "arguments": read_object(call.arguments),
                    },
                }
                for i, call in enumerate(reply.tool_calls)
            ]
        return {"message": message}

    def _frame(self, head: str) -> tuple[str, str]:
        return f'{head},"message":{{"role":"assistant","content":', '},"done":false}\n'


class OllamaGenerate(_OllamaDialogue):
    """`POST /api/generate`."""

    operation = "generate"

    def _prompt(self, fields: Fields) -> tuple[tuple[str, ...], str, int, int]:
        prompt = fields.optional_text("prompt") or ""
        system = fields.optional_text("system") or ""
        texts = tuple(text for text in (system, prompt) if text)
        return texts if prompt else (), prompt, 0, len(fields.items("images"))

    def _piece(self, text: str, thinking: str, reply: Reply | None) -> Json:
        return {"response": text, "thinking": thinking} if thinking else {"response": text}

    def _frame(self, head: str) -> tuple[str, str]:
        return f'{head},"response":', ',"done":false}\n'

    def _end(self, ask: Ask, reply: Reply) -> Json:
        end = super()._end(ask, reply)
        if ask.texts:
            end["context"] = [len(text) for text in ask.texts]
        return end


def _head(ask: Ask, stamp: Stamp) -> Json:
    return {"model": ask.model, "created_at": wire.timestamp(stamp.created)}


def _numbers(used: Usage) -> Json:
    """The counts and their times, by a nominal speed: the simulator does not compute."""
    prompt = used.input_tokens * _PROMPT_NS_PER_TOKEN
    reply = used.output_tokens * _REPLY_NS_PER_TOKEN
    return {
        "total_duration": _LOAD_NS + prompt + reply,
        "load_duration": _LOAD_NS,
        "prompt_eval_count": used.input_tokens,
        "prompt_eval_duration": prompt,
        "eval_count": used.output_tokens,
        "eval_duration": reply,
    }


def _tools(values: list[Any]) -> Iterator[Tool]:
    for value in values:
        function = value.get("function") if isinstance(value, dict) else None
        if not isinstance(function, dict):
            raise wire.WORDING.wrong_type("tools", value, "an object")
        schema = function.get("parameters")
        yield Tool(
            name=str(function.get("name", "")),
            schema=schema if isinstance(schema, dict) else {"type": "object"},
        )


def _schema(form: object) -> Mapping[str, Any] | None:
    if form is None or form == "":
        return None
    if form == "json":
        return {}
    if isinstance(form, dict):
        return form
    raise wire.refuse(f'invalid format: {json.dumps(form)}; expected "json" or a JSON schema')


def _effort(think: object) -> str | None:
    if think is True:
        return "medium"
    if isinstance(think, str) and think:
        if think not in ("low", "medium", "high"):
            raise wire.refuse(
                f'invalid think value: "{think}" (must be "high", "medium", "low", true, or false)'
            )
        return think
    return None
