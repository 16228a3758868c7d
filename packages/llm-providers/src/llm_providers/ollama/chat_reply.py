"""Replies and streams of Ollama's chat in our words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from llm_core import (
    FinishReason,
    Part,
    ProviderResponse,
    ReasoningPart,
    StreamEvent,
    TextPart,
    Usage,
)
from llm_providers.classify import VendorError, find_error
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import dict_at, dicts_at, int_at, number_at, parse_object, text_at
from llm_providers.reply import ReplyAssembly, ReplyFrame, tool_call

__all__ = ["OllamaStreamReader", "read_ollama"]

_DURATIONS = ("total", "load", "prompt_eval", "eval")
_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "load": FinishReason.STOP,
    "unload": FinishReason.STOP,
}


def read_ollama(payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
    """Return the reply; raises VendorFailure for an error body or one without message."""
    error = find_error(payload)
    if error is not None or not isinstance(payload.get("message"), dict):
        nothing = VendorError(message="the reply holds no message", code="server_error")
        raise VendorFailure(error or nothing)
    message = payload["message"]
    parts: list[Part] = []
    if thought := text_at(message, "thinking"):
        parts.append(ReasoningPart(text=thought))
    if text := text_at(message, "content"):
        parts.append(TextPart(text=text))
    for index, call in enumerate(dicts_at(message, "tool_calls")):
        parts.append(tool_call(*_call(call, index)))
    return frame.response(
        model=text_at(payload, "model"),
        parts=parts,
        usage=_usage(payload),
        finish_reason=_finish_reason(payload, called=bool(dicts_at(message, "tool_calls"))),
        response_id=None,
        raw=payload,
        server_seconds=_server_seconds(payload),
    )


class OllamaStreamReader:
    """Reads one JSON object a line; complete with ``"done": true``."""

    def __init__(self, assembly: ReplyAssembly) -> None:
        self._assembly = assembly
        self._calls = 0
        self._started = False
        self.complete = False

    def read(self, payload: bytes) -> Iterable[StreamEvent]:
        """Return the events that one line stands for."""
        line = parse_object(payload)
        if line.get("error"):
            raise VendorFailure(find_error(line) or VendorError(message=str(line["error"])[:500]))
        assembly = self._assembly
        events: list[StreamEvent] = []
        if not self._started:
            self._started = True
            events += assembly.start(text_at(line, "model"), "")
        message = line.get("message")
        if isinstance(message, dict):
            events += assembly.reasoning(text_at(message, "thinking"))
            events += assembly.text(text_at(message, "content"))
            for call in dicts_at(message, "tool_calls"):
                events += self._tool(call)
        if line.get("done") is True:
            events += self._done(line)
        return events

    def _tool(self, call: dict[str, Any]) -> list[StreamEvent]:
        key = self._calls
        self._calls += 1
        call_id, name, arguments = _call(call, key)
        assembly = self._assembly
        return [
            *assembly.tool_start(key, call_id, name),
            *assembly.tool_delta(key, arguments),
            *assembly.tool_end(key),
        ]

    def _done(self, line: dict[str, Any]) -> Iterable[StreamEvent]:
        assembly = self._assembly
        assembly.finish_reason = _finish_reason(line, called=assembly.has_tools)
        assembly.server_seconds = _server_seconds(line)
        assembly.raw = line
        self.complete = True
        return assembly.update_usage(_usage(line))


def _call(call: dict[str, Any], index: int) -> tuple[str, str, str]:
    """Return id (made up where the server gives none), name and arguments as JSON text."""
    function = dict_at(call, "function")
    arguments = json.dumps(dict_at(function, "arguments"), ensure_ascii=False)
    return text_at(call, "id") or f"call_{index}", text_at(function, "name"), arguments


def _usage(payload: dict[str, Any]) -> Usage:
    return Usage(
        input_tokens=int_at(payload, "prompt_eval_count"),
        output_tokens=int_at(payload, "eval_count"),
    )


def _server_seconds(payload: dict[str, Any]) -> dict[str, float]:
    """Return the durations that the server measured, from nanoseconds."""
    told = {name: number_at(payload, f"{name}_duration") for name in _DURATIONS}
    return {name: duration / 1e9 for name, duration in told.items() if duration is not None}


def _finish_reason(payload: dict[str, Any], *, called: bool) -> FinishReason:
    reason = text_at(payload, "done_reason")
    if called and reason in ("stop", ""):
        return FinishReason.TOOL_CALLS
    if payload.get("done") is not True:
        return FinishReason.INCOMPLETE
    return _FINISH_REASONS.get(reason or "stop", FinishReason.OTHER)
