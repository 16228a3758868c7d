"""Streams of Anthropic's Messages API, event by event."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from llm_core import FinishReason, StreamEvent
from llm_providers.anthropic.content_blocks import REDACTED
from llm_providers.anthropic.messages_reply import anthropic_finish_reason, anthropic_usage
from llm_providers.classify import VendorError, find_error
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import dict_at, int_at, parse_object, text_at
from llm_providers.reply import ReplyAssembly, is_whole

__all__ = ["MessagesStreamReader"]


class MessagesStreamReader:
    """Reads ``message_*`` and ``content_block_*`` events; complete with ``message_stop`` after a stop reason."""

    def __init__(self, assembly: ReplyAssembly) -> None:
        self._assembly = assembly
        self._usage: dict[str, Any] = {}
        self._stop_reason = ""
        self.complete = False

    def read(self, payload: bytes) -> Iterable[StreamEvent]:
        """Return the events that one message stands for; pings and unknown kinds stand for none."""
        event = parse_object(payload)
        handler = self._HANDLERS.get(text_at(event, "type"))
        if handler is not None:
            return handler(self, event)
        return self._error(event) if event.get("error") else ()

    def _message_start(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        message = dict_at(event, "message")
        started = self._assembly.start(text_at(message, "model"), text_at(message, "id"))
        return [*started, *self._add_usage(message)]

    def _block_start(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        block, index = dict_at(event, "content_block"), int_at(event, "index")
        self._assembly.close_part()
        kind = block.get("type")
        if kind == "tool_use":
            started = self._assembly.tool_start(index, text_at(block, "id"), text_at(block, "name"))
            whole = dict_at(block, "input")
            if whole:  # some compatible servers send the input at once
                text = json.dumps(whole, ensure_ascii=False)
                return [*started, *self._assembly.tool_delta(index, text)]
            return started
        if kind == "text":
            return self._assembly.text(text_at(block, "text"))
        if kind == "thinking":
            return self._assembly.reasoning(text_at(block, "thinking"))
        if kind == "redacted_thinking":
            self._assembly.sign_reasoning(signature=text_at(block, "data"), reference_id=REDACTED)
        return ()

    def _delta(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        delta = dict_at(event, "delta")
        kind = delta.get("type")
        if kind == "text_delta":
            return self._assembly.text(text_at(delta, "text"))
        if kind == "input_json_delta":
            return self._assembly.tool_delta(int_at(event, "index"), text_at(delta, "partial_json"))
        if kind == "thinking_delta":
            return self._assembly.reasoning(text_at(delta, "thinking"))
        if kind == "signature_delta":
            self._assembly.sign_reasoning(signature=text_at(delta, "signature"))
        return ()

    def _block_stop(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        self._assembly.close_part()
        key = int_at(event, "index")
        # A block that the token limit cuts is stopped like any other; why it was stopped comes with message_delta.
        return self._assembly.tool_end(key) if is_whole(self._assembly.tool_text(key)) else ()

    def _message_delta(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        reason = text_at(event, "delta", "stop_reason")
        if reason:
            self._stop_reason = reason
            finish_reason = anthropic_finish_reason(reason)
            self._assembly.finish_reason = finish_reason
            if finish_reason is not FinishReason.LENGTH:
                return [*self._assembly.end_all_tools(), *self._add_usage(event)]
        return self._add_usage(event)

    def _message_stop(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        self.complete = bool(self._stop_reason)
        return ()

    def _add_usage(self, holder: dict[str, Any]) -> Iterable[StreamEvent]:
        """Take over the counts that are told; later ones are cumulative and replace earlier ones."""
        told = {key: count for key, count in dict_at(holder, "usage").items() if count is not None}
        if not told:
            return ()
        self._usage.update(told)
        return self._assembly.update_usage(anthropic_usage(self._usage))

    def _error(self, event: dict[str, Any]) -> Iterable[StreamEvent]:
        raise VendorFailure(
            find_error(event) or VendorError(message="the stream failed", code="api_error")
        )

    _HANDLERS: ClassVar[dict[str, Callable[[Any, dict[str, Any]], Iterable[StreamEvent]]]] = {
        "content_block_delta": _delta,
        "content_block_start": _block_start,
        "content_block_stop": _block_stop,
        "message_start": _message_start,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "error": _error,
    }
