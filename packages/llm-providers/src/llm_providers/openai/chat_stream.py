"""Streams of Chat Completions, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llm_core import StreamEvent
from llm_providers.classify import find_error
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import dict_at, dicts_at, int_at, parse_object, text_at
from llm_providers.media import from_base64
from llm_providers.openai.chat_reply import chat_finish_reason
from llm_providers.openai.usage import chat_usage
from llm_providers.reply import ReplyAssembly

__all__ = ["ChatStreamReader"]

_DONE = b"[DONE]"


class ChatStreamReader:
    """Reads chunks; complete with ``[DONE]``, and only if a finish reason came before it."""

    def __init__(self, assembly: ReplyAssembly) -> None:
        self._assembly = assembly
        self._reason = ""
        self._refused = False
        self._model = ""
        self._ids: dict[int, str] = {}
        self._keys: dict[int, object] = {}
        self.complete = False

    def read(self, payload: bytes) -> Iterable[StreamEvent]:
        """Return the events that one chunk stands for."""
        if payload.strip() == _DONE:
            self.complete = bool(self._reason)
            return ()
        chunk = parse_object(payload)
        if chunk.get("error") is not None or chunk.get("object") == "error":
            error = find_error(chunk)
            if error is not None:
                raise VendorFailure(error)
        assembly = self._assembly
        events: list[StreamEvent] = []
        if not self._model:
            self._model = text_at(chunk, "model") or "?"
            events += assembly.start(text_at(chunk, "model"), text_at(chunk, "id"))
        for choice in dicts_at(chunk, "choices"):
            if choice.get("index"):
                continue  # of several answers (`n`) only the first is read
            delta = choice.get("delta")
            if isinstance(delta, dict):
                events += self._delta(delta)
            reason = text_at(choice, "finish_reason")
            if reason:
                events += self._finish(reason)
        if chunk.get("usage"):
            events += assembly.update_usage(chat_usage(chunk["usage"]))
        return events

    def _delta(self, delta: dict[str, Any]) -> list[StreamEvent]:
        assembly = self._assembly
        events: list[StreamEvent] = []
        thought = text_at(delta, "reasoning_content") or text_at(delta, "reasoning")
        if thought:
            events += assembly.reasoning(thought)
        refusal = text_at(delta, "refusal")
        self._refused |= bool(refusal)
        text = text_at(delta, "content") or refusal
        if text:
            events += assembly.text(text)
        for call in dicts_at(delta, "tool_calls"):
            events += self._tool(call)
        audio = dict_at(delta, "audio")
        if audio:
            data = from_base64(text_at(audio, "data"))
            events += assembly.audio(data, text_at(audio, "transcript"), text_at(audio, "id"))
        return events

    def _tool(self, call: dict[str, Any]) -> list[StreamEvent]:
        index, function = int_at(call, "index"), dict_at(call, "function")
        call_id, name = text_at(call, "id"), text_at(function, "name")
        events: list[StreamEvent] = []
        if call_id and self._ids.get(index, call_id) != call_id:
            # Some servers give every call the index 0, or none at all: a new id is a new call.
            self._keys[index] = call_id
        if call_id:
            self._ids[index] = call_id
        key = self._keys.get(index, index)
        if name or call_id:
            events += self._assembly.tool_start(key, call_id, name)
        events += self._assembly.tool_delta(key, text_at(function, "arguments"))
        return events

    def _finish(self, reason: str) -> list[StreamEvent]:
        self._reason = reason
        self._assembly.finish_reason = chat_finish_reason(
            reason, refused=self._refused, called=self._assembly.has_tools
        )
        assembly = self._assembly
        return [*(assembly.end_whole_tools() if reason == "length" else assembly.end_all_tools())]
