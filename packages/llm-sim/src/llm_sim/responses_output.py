"""Writing a response of OpenAI's Responses API: its object, its items, and the events of its stream."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from llm_sim import logprobs, tokens
from llm_sim.exchange import Ask, Chunk, Json, Reply, Stamp, ToolCall, Usage
from llm_sim.fields import dump, quote


class EventWriter:
    """Writes the events of one streamed response, numbered from 0."""

    def __init__(self, ask: Ask, reply: Reply, stamp: Stamp) -> None:
        self._reply = reply
        self._number = -1
        self._start = make_response(ask, reply, stamp, [], status="in_progress")
        self._output = make_output(ask, reply, stamp)
        self.response = make_response(ask, reply, stamp, self._output)
        """The response as it is at the end."""

    def events(self) -> Iterator[Chunk]:
        """Give all events in the vendor's order."""
        yield self._event("response.created", response=self._start)
        yield self._event("response.in_progress", response=self._start)
        write = {
            "message": self._message,
            "function_call": self._function_call,
            "reasoning": self._reasoning,
        }
        for index, item in enumerate(self._output):
            yield self._event("response.output_item.added", item=_opened(item), output_index=index)
            yield from write[item["type"]](item, {"output_index": index, "item_id": item["id"]})
            yield self._event("response.output_item.done", item=item, output_index=index)
        yield self._event(f"response.{self.response['status']}", response=self.response)

    def _message(self, item: Json, place: Json) -> Iterator[Chunk]:
        (content,) = item["content"]
        place |= {"content_index": 0}
        yield self._event("response.content_part.added", part=_emptied(content), **place)
        if content["type"] == "output_text":
            yield from self._text_deltas(item["id"], place["output_index"], content["logprobs"])
            done = {"text": content["text"], "logprobs": content["logprobs"]}
            yield self._event("response.output_text.done", **done, **place)
        else:
            for piece in tokens.split(self._reply.refusal):
                yield self._event("response.refusal.delta", 1, delta=piece, **place)
            yield self._event("response.refusal.done", refusal=self._reply.refusal, **place)
        yield self._event("response.content_part.done", part=content, **place)

    def _text_deltas(self, item_id: str, index: int, likely: list[Json]) -> Iterator[Chunk]:
        """Write what most of a stream is made of; by hand, because it is."""
        kind = "response.output_text.delta"
        head = f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":'
        middle = f',"item_id":"{item_id}","output_index":{index},"content_index":0,"delta":'
        for piece, entry in zip_longest(self._reply.pieces, likely):
            self._number += 1
            entries = dump([entry]).decode() if entry else "[]"
            data = f'{head}{self._number}{middle}{quote(piece)},"logprobs":{entries}}}\n\n'
            yield Chunk(data.encode("utf-8", "replace"), 1)

    def _function_call(self, item: Json, place: Json) -> Iterator[Chunk]:
        kind = "response.function_call_arguments"
        for piece in tokens.split(item["arguments"]):
            yield self._event(f"{kind}.delta", 1, delta=piece, **place)
        done = {"arguments": item["arguments"], "name": item["name"]}
        yield self._event(f"{kind}.done", **done, **place)

    def _reasoning(self, item: Json, place: Json) -> Iterator[Chunk]:
        kind = "response.reasoning_summary"
        for index, part in enumerate(item["summary"]):
            where = {**place, "summary_index": index}
            yield self._event(f"{kind}_part.added", part={**part, "text": ""}, **where)
            for piece in tokens.split(part["text"]):
                yield self._event(f"{kind}_text.delta", 1, delta=piece, **where)
            yield self._event(f"{kind}_text.done", text=part["text"], **where)
            yield self._event(f"{kind}_part.done", part=part, **where)

    def _event(self, kind: str, count: int = 0, **data: object) -> Chunk:
        self._number += 1
        body = dump({"type": kind, "sequence_number": self._number, **data})
        return Chunk(b"event: %s\ndata: %s\n\n" % (kind.encode(), body), count)


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


def make_response(
    ask: Ask, reply: Reply, stamp: Stamp, output: list[Json], status: str | None = None
) -> Json:
    """Make the response object; it is in progress if `status` says so, else as it ended."""
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


def make_output(ask: Ask, reply: Reply, stamp: Stamp) -> list[Json]:
    """Make the items of a reply: reasoning, the message, the calls."""
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
            else {
                "type": "output_text",
                "annotations": [],
                "logprobs": _logprobs(ask, reply),
                "text": reply.text,
            }
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


def _logprobs(ask: Ask, reply: Reply) -> list[Json]:
    wanted = "message.output_text.logprobs" in (ask.body.get("include") or ())
    return logprobs.entries(reply.pieces, ask.body.get("top_logprobs")) if wanted else []


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
    if content["type"] == "refusal":
        return {**content, "refusal": ""}
    return {**content, "text": "", "logprobs": []}
