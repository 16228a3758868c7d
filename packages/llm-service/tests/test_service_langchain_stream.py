"""What LangChain gets of a stream, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk

from llm_core import (
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    GenerationResult,
    ProviderError,
    ReasoningDelta,
    StreamEvent,
    StreamRestarted,
    StreamResult,
    StreamStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from llm_core.testing import ScriptedProvider
from llm_service import BaseLLMService
from llm_service.langchain import ServiceChatModel

ModelOver = Callable[..., tuple[ServiceChatModel, ScriptedProvider]]


class Streams:
    """A service whose stream is written down."""

    def __init__(self, *events: StreamEvent) -> None:
        self.events = events

    def model(self) -> ServiceChatModel:
        events = self.events

        class Service(BaseLLMService):
            async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[StreamEvent, None]:  # type: ignore[override]
                for event in events:
                    yield event

        return ServiceChatModel(service=Service(model="m", provider=ScriptedProvider()))


def finished(**fields: Any) -> StreamResult:
    timestamps = EventTimestamps(requested_at=datetime(2026, 1, 1, tzinfo=UTC), requested=0)
    result: GenerationResult[Any] = GenerationResult(
        **{"success": True, "timestamps": timestamps, **fields}
    )
    return StreamResult(result=result)


class TestStream:
    """Events as chunks."""

    async def test_pieces_add_up(self) -> None:
        call = ToolCall(id="1", name="f", arguments={"a": 1}, arguments_text='{"a": 1}')
        streams = Streams(
            StreamStarted(model="m"),
            ReasoningDelta(text="I "),
            ReasoningDelta(text="think"),
            TextDelta(text="a"),
            TextDelta(text="b"),
            ToolCallStarted(index=0, id="1", name="f"),
            ToolCallDelta(index=0, arguments_text='{"a":'),
            ToolCallDelta(index=0, arguments_text=" 1}"),
            ToolCallEnded(index=0, tool_call=call),
            finished(
                content="ab", reasoning="I think", tool_calls=(call,), usage=Usage(input_tokens=3)
            ),
        )
        whole = await summed(streams.model())
        assert whole.text == "ab"
        assert whole.additional_kwargs["reasoning_content"] == "I think"
        assert [(c["name"], c["args"]) for c in whole.tool_calls] == [("f", {"a": 1})]
        assert whole.usage_metadata is not None
        assert whole.usage_metadata["input_tokens"] == 3

    async def test_what_was_not_streamed_comes_at_the_end(self) -> None:
        call = ToolCall(id="1", name="f", arguments={"a": 1})
        last = finished(content="ab", reasoning="hm", tool_calls=(call,))
        whole = await summed(Streams(last).model())
        assert (whole.text, whole.tool_calls[0]["args"]) == ("ab", {"a": 1})
        assert whole.additional_kwargs["reasoning_content"] == "hm"

    @pytest.mark.parametrize("begun", [False, True])
    async def test_a_call_that_comes_whole_is_given_once(self, begun: bool) -> None:
        call = ToolCall(id="1", name="f", arguments={"a": 1})
        start = [ToolCallStarted(index=0, id="1", name="f")] if begun else []
        events = [*start, ToolCallEnded(index=0, tool_call=call), finished(tool_calls=(call,))]
        whole = await summed(Streams(*events).model())
        assert [(c["id"], c["args"]) for c in whole.tool_calls] == [("1", {"a": 1})]

    async def test_a_restart_before_the_first_word_is_not_noticed(self) -> None:
        again = StreamRestarted(attempt=2, error=ErrorInfo.of(ErrorType.OVERLOADED, "busy"))
        whole = await summed(Streams(again, TextDelta(text="a"), finished(content="a")).model())
        assert whole.text == "a"

    async def test_a_restart_after_the_first_word_fails(self) -> None:
        again = StreamRestarted(attempt=2, error=ErrorInfo.of(ErrorType.OVERLOADED, "busy"))
        with pytest.raises(ProviderError, match="busy"):
            await summed(Streams(TextDelta(text="a"), again, finished(content="b")).model())

    def test_leaving_early_closes_the_stream(self, model_over: ModelOver) -> None:
        model, _ = model_over("one two three")
        stream = model.stream("hi")
        assert next(stream).text
        stream.close()  # type: ignore[attr-defined]
        assert model.invoke("hi").text == "one two three"


async def summed(model: ServiceChatModel) -> AIMessageChunk:
    whole: AIMessageChunk | None = None
    async for chunk in model.astream("hi"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole
