"""Our results and stream events as LangChain's messages and chunks."""

from __future__ import annotations

import base64
import json
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from llm_core import (
    AudioPart,
    ErrorInfo,
    ErrorType,
    GenerationResult,
    ReasoningDelta,
    StreamEvent,
    StreamRestarted,
    StreamResult,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)

__all__ = ["ChunkWriter", "message_from"]


def message_from(result: GenerationResult[Any]) -> AIMessage:
    """Return the answer as a message; raise the failure's exception if there is none."""
    _raise_failure(result)
    calls = result.tool_calls
    return AIMessage(
        content=_text(result),
        tool_calls=[_tool_call(call) for call in calls if _is_sound(call)],
        invalid_tool_calls=[_invalid(call) for call in calls if not _is_sound(call)],
        usage_metadata=_usage(result.usage),
        response_metadata=_metadata(result),
        additional_kwargs={
            **({"reasoning_content": result.reasoning} if result.reasoning else {}),
            **_audio(result.audio),
        },
    )


class ChunkWriter:
    """Turns the events of one stream into chunks; the sum of the chunks is the message."""

    def __init__(self) -> None:
        self._text_given = False
        self._reasoning_given = False
        self._calls: dict[int, bool] = {}
        """The tool calls begun, and whether any of their arguments was given."""

    def write(self, event: StreamEvent) -> list[ChatGenerationChunk]:
        """Return the chunks for one event, often none or one; raise the exception of a failure."""
        match event:
            case TextDelta(text=text):
                self._text_given = True
                chunks = [AIMessageChunk(content=text)]
            case ReasoningDelta(text=text):
                self._reasoning_given = True
                chunks = [_reasoning_chunk(text)]
            case ToolCallStarted(index=index, id=call_id, name=name):
                self._calls[index] = False
                chunks = [_call_chunk(index, name=name, call_id=call_id)]
            case ToolCallDelta(index=index, arguments_text=text):
                self._calls[index] = True
                chunks = [_call_chunk(index, arguments=text)]
            case ToolCallEnded(index=index, tool_call=call):
                chunks = self._ended_call(index, call)
            case StreamRestarted(error=error):
                chunks = self._restarted(error)
            case StreamResult(result=result):
                chunks = self._last(result)
            case _:
                chunks = []
        return [ChatGenerationChunk(message=chunk) for chunk in chunks]

    def _ended_call(self, index: int, call: ToolCall) -> list[AIMessageChunk]:
        """Give what had not been given piece by piece."""
        chunks = []
        if index not in self._calls:
            chunks.append(_call_chunk(index, name=call.name, call_id=call.id))
        if not self._calls.get(index):
            self._calls[index] = True
            chunks.append(_call_chunk(index, arguments=_arguments(call)))
        return chunks

    def _restarted(self, error: ErrorInfo) -> list[AIMessageChunk]:
        """Go on if nothing was said yet: a LangChain stream has no way to take something back."""
        if self._text_given or self._reasoning_given or self._calls:
            raise error.to_exception()
        return []

    def _last(self, result: GenerationResult[Any]) -> list[AIMessageChunk]:
        _raise_failure(result)
        chunks = []
        # An answer out of the cache, or a fallback value, was not streamed.
        if not self._reasoning_given and result.reasoning:
            chunks.append(_reasoning_chunk(result.reasoning))
        if not self._text_given and (text := _text(result)):
            chunks.append(AIMessageChunk(content=text))
        if not self._calls:
            for index, call in enumerate(result.tool_calls):
                chunks += self._ended_call(index, call)
        closing = AIMessageChunk(
            content="",
            usage_metadata=_usage(result.usage),
            response_metadata=_metadata(result),
            additional_kwargs=_audio(result.audio),
            chunk_position="last",
        )
        return [*chunks, closing]


def _raise_failure(result: GenerationResult[Any]) -> None:
    if not result.success:
        error = result.error or ErrorInfo.of(ErrorType.INTERNAL, "failed without a recorded error")
        raise error.to_exception()


def _text(result: GenerationResult[Any]) -> str:
    """Return the model's words, or those that the service gave in their place."""
    if isinstance(result.content, str):
        return result.content
    return result.raw_content or ("" if result.content is None else json.dumps(result.content))


def _reasoning_chunk(text: str) -> AIMessageChunk:
    return AIMessageChunk(content="", additional_kwargs={"reasoning_content": text})


def _call_chunk(
    index: int, *, name: str | None = None, call_id: str | None = None, arguments: str = ""
) -> AIMessageChunk:
    piece = tool_call_chunk(name=name, args=arguments, id=call_id, index=index)
    return AIMessageChunk(content="", tool_call_chunks=[piece])


def _arguments(call: ToolCall) -> str:
    return call.arguments_text or json.dumps(dict(call.to_dict()["arguments"]), ensure_ascii=False)


def _is_sound(call: ToolCall) -> bool:
    """Say whether the call may be run: it came whole, and its arguments are an object."""
    return call.complete and (bool(call.arguments) or call.arguments_text.strip() in ("", "{}"))


def _tool_call(call: ToolCall) -> Any:
    return tool_call(name=call.name, args=call.to_dict()["arguments"], id=call.id)


def _invalid(call: ToolCall) -> Any:
    error = (
        "the arguments are no JSON object" if call.complete else "the reply was cut before its end"
    )
    return invalid_tool_call(name=call.name, args=call.arguments_text, id=call.id, error=error)


def _usage(usage: Usage) -> UsageMetadata:
    """Return the tokens of all attempts; LangChain's totals include their parts, as ours do."""
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        input_token_details=InputTokenDetails(
            audio=usage.audio_input_tokens,
            cache_read=usage.cache_read_tokens,
            cache_creation=usage.cache_write_tokens,
        ),
        output_token_details=OutputTokenDetails(
            audio=usage.audio_output_tokens, reasoning=usage.reasoning_tokens
        ),
    )


def _metadata(result: GenerationResult[Any]) -> dict[str, Any]:
    """Return what happened as JSON-able values; ``model_name`` and ``finish_reason`` are LangChain's names."""
    cost = result.cost.amount
    known = {
        "model_name": result.model,
        "provider": result.provider,
        "finish_reason": result.finish_reason and str(result.finish_reason),
        "request_id": result.request_id,
        "response_id": result.response_id,
        "attempts": len(result.attempts),
        "gate_wait_seconds": result.backoff.gate_wait_seconds,
        "backoff_seconds": result.backoff.backoff_seconds,
        "cost": None if cost is None else str(cost),
        "cost_currency": None if cost is None else result.cost.currency,
        "cached": result.cached,
        "degraded": result.degraded and str(result.degraded.reason),
        "structured_by": result.structured_by,
    }
    return {name: value for name, value in known.items() if value is not None}


def _audio(audio: AudioPart | None) -> dict[str, Any]:
    """Return sound as OpenAI's integration of LangChain does."""
    if audio is None:
        return {}
    spoken = {
        "id": audio.reference_id,
        "data": base64.b64encode(audio.data).decode(),
        "format": audio.format,
        "transcript": audio.transcript,
    }
    return {"audio": {name: value for name, value in spoken.items() if value is not None}}
