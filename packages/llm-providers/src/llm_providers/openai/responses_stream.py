"""Streams of OpenAI's Responses API, event by event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from llm_core import StreamEvent
from llm_providers.classify import VendorError, find_error
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import dict_at, dicts_at, int_at, parse_object, text_at
from llm_providers.openai.responses_reply import finish_reason_of
from llm_providers.openai.usage import responses_usage
from llm_providers.reply import ReplyAssembly

__all__ = ["ResponsesStreamReader"]

_DONE = b"[DONE]"
_NUMBERED = b'"sequence_number"'


class ResponsesStreamReader:
    """Reads ``response.*`` events; complete with ``response.completed`` or ``response.incomplete``."""

    def __init__(self, assembly: ReplyAssembly) -> None:
        self._assembly = assembly
        self._refused = False
        self._last = b""
        self.complete = False

    def read(self, payload: bytes) -> Iterable[StreamEvent]:
        """Return the events that one message stands for; unknown kinds stand for none."""
        if payload == _DONE or (payload == self._last and _NUMBERED in payload):
            return ()  # events are numbered, so one that equals the one before was sent twice
        self._last = payload
        event = parse_object(payload)
        handler = self._HANDLERS.get(text_at(event, "type"))
        if handler is not None:
            return handler(self, event)
        if "type" not in event and event.get("error"):
            return self._failed(event)
        return ()

    def _text(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        return self._assembly.text(text_at(event, "delta"))

    def _refusal(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        self._refused = True
        return self._assembly.text(text_at(event, "delta"))

    def _reasoning(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        return self._assembly.reasoning(text_at(event, "delta"))

    def _reasoning_break(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        return self._assembly.reasoning("\n\n") if int_at(event, "summary_index") else ()

    def _arguments(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        return self._assembly.tool_delta(int_at(event, "output_index"), text_at(event, "delta"))

    def _created(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        response = dict_at(event, "response")
        return self._assembly.start(text_at(response, "model"), text_at(response, "id"))

    def _item_added(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        item, key = dict_at(event, "item"), int_at(event, "output_index")
        self._assembly.close_part()
        if item.get("type") == "function_call":
            return self._assembly.tool_start(key, text_at(item, "call_id"), text_at(item, "name"))
        return ()

    def _item_done(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        item, key = dict_at(event, "item"), int_at(event, "output_index")
        if item.get("type") == "reasoning":
            self._assembly.sign_reasoning(
                signature=text_at(item, "encrypted_content"),
                reference_id=text_at(item, "id"),
            )
            self._assembly.close_part()
        elif item.get("type") == "image_generation_call":
            self._assembly.image(text_at(item, "result"))
        elif item.get("type") == "function_call" and item.get("status") != "incomplete":
            events = [
                *self._assembly.tool_start(key, text_at(item, "call_id"), text_at(item, "name"))
            ]
            if not self._assembly.tool_text(key):  # a server that sends arguments only as a whole
                events += self._assembly.tool_delta(key, text_at(item, "arguments"))
            return [*events, *self._assembly.tool_end(key)]
        return ()

    def _completed(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        response = dict_at(event, "response")
        assembly = self._assembly
        events = [*assembly.start(text_at(response, "model"), text_at(response, "id"))]
        if assembly.is_empty:
            events += self._at_once(response)
        if text_at(response, "status") != "incomplete":
            events += assembly.end_all_tools()
        if response.get("usage"):
            events += assembly.update_usage(responses_usage(response["usage"]))
        reason = finish_reason_of(
            {"status": event["type"].removeprefix("response."), **response},
            refused=self._refused,
        )
        assembly.finish_reason = reason
        assembly.raw = response
        self.complete = True
        return events

    def _at_once(self, response: dict[str, Any]) -> list[StreamEvent]:
        """Take the output from the terminal event, for servers that send nothing before it."""
        events: list[StreamEvent] = []
        for index, item in enumerate(dicts_at(response, "output")):
            if item.get("type") == "message":
                for content in dicts_at(item, "content"):
                    refusal = text_at(content, "refusal")
                    self._refused |= bool(refusal)
                    events += self._assembly.text(text_at(content, "text") or refusal)
                continue
            for thought in dicts_at(item, "summary"):
                events += self._assembly.reasoning(text_at(thought, "text"))
            events += self._item_done({"item": item, "output_index": index})
        return events

    def _failed(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        response = dict_at(event, "response")
        if response.get("usage"):
            self._assembly.update_usage(responses_usage(response["usage"]))
        raise VendorFailure(
            find_error(event) or VendorError(message="the response failed", code="server_error")
        )

    _HANDLERS: ClassVar[dict[str, Callable[[Any, dict[str, Any]], Iterable[StreamEvent]]]] = {
        "response.output_text.delta": _text,
        "response.refusal.delta": _refusal,
        "response.reasoning_summary_text.delta": _reasoning,
        "response.reasoning_text.delta": _reasoning,
        "response.reasoning_summary_part.added": _reasoning_break,
        "response.function_call_arguments.delta": _arguments,
        "response.output_item.added": _item_added,
        "response.output_item.done": _item_done,
        "response.created": _created,
        "response.completed": _completed,
        "response.incomplete": _completed,
        "response.failed": _failed,
        "response.cancelled": _failed,
        "error": _failed,
    }
