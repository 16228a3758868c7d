"""The conformance suite: what every provider must do, whatever goes wrong at the server; and a transport without a server.

    from llm_providers.testing import FAULT_TABLE, check_fault

    @pytest.mark.parametrize("row", FAULT_TABLE, ids=lambda row: row.fault)
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_my_provider(row, streamed):
        provider = MyProvider(idle_timeout_seconds=0.5)
        await check_fault(provider, row, streamed=streamed, model="my-model", idle_seconds=0.5)

`FAULT_TABLE` is at once the expectation of the tests and the documentation of what a caller gets.
The faults are those of llm-sim, asked for by request header; any server that can misbehave on demand will do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence

from llm_core import (
    EMPTY,
    ErrorInfo,
    FinishReason,
    LLMCallRequest,
    Message,
    Provider,
    ProviderError,
    ProviderResponse,
    ResponseSchema,
    StreamDone,
    StreamEvent,
    StreamFailed,
    StreamStarted,
    TextDelta,
    Tool,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    ToolResult,
)
from llm_providers.fault_table import FAULT_TABLE, FaultRow, Outcome, fault_table_markdown
from llm_providers.wire import WireCall, WireReply, WireStream

__all__ = [
    "FAULT_TABLE",
    "CannedTransport",
    "FaultRow",
    "Outcome",
    "check_answer",
    "check_closing",
    "check_fault",
    "check_stream_protocol",
    "check_structured",
    "check_tool_call",
    "fault_table_markdown",
]

PROMPT = "Say something kind."
"""What the checks ask; the server must answer with `ANSWER`."""
ANSWER = "Hello there, my dear friend 😀 how are you today?"

TOOL_PROMPT = "What is the weather in Rome?"
TOOL_ARGUMENTS = {"city": "Rome"}
WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
)
CITY = ResponseSchema(
    name="city",
    json_schema={
        "type": "object",
        "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["name", "people"],
    },
)

SLACK_SECONDS = 5.0
"""What a machine under load may take beyond the time that a failure itself needs."""


class CannedTransport:
    """A transport that gives the bytes it was made with to every call, and keeps the calls in `calls`.

    `chunks` is how a stream's body is cut; None gives it in one piece.
    """

    def __init__(
        self,
        content: bytes = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] = EMPTY,
        chunks: Sequence[bytes] | None = None,
    ) -> None:
        self._reply = WireReply(status=status, headers=dict(headers), content=content)
        self._chunks = [content] if chunks is None else list(chunks)
        self.calls: list[WireCall] = []

    def check(self) -> None:
        """Find nothing missing."""

    async def ready(self) -> None:
        """Be ready."""

    async def send(self, call: WireCall) -> WireReply:
        """Give the whole body."""
        self.calls.append(call)
        return self._reply

    async def open(self, call: WireCall) -> WireStream:
        """Give the body piece by piece."""
        self.calls.append(call)
        return _CannedStream(self._reply, self._chunks)

    async def aclose(self) -> None:
        """Have nothing to close."""


class _CannedStream:
    def __init__(self, reply: WireReply, chunks: Sequence[bytes]) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self._chunks = chunks

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    async def aclose(self) -> None:
        pass


def asking(
    model: str,
    *,
    headers: Mapping[str, str] = EMPTY,
    timeout_seconds: float | None = None,
) -> LLMCallRequest:
    """Return the request that the checks of plain answers send."""
    return LLMCallRequest(
        model=model,
        messages=(Message.user(PROMPT),),
        headers=headers,
        timeout_seconds=timeout_seconds,
    )


async def check_fault(
    provider: Provider,
    row: FaultRow,
    *,
    streamed: bool,
    model: str,
    idle_seconds: float,
    whole_call_seconds: float = 1.0,
    fault_header: str = "x-llm-sim-fault",
) -> None:
    """Assert that `provider` gives what the row says, in time.

    `idle_seconds` is the idle timeout that the provider was built with; where the whole-call timeout is what ends a call,
    the request asks for `whole_call_seconds`.
    """
    expected = row.streamed if streamed else row.plain
    by_whole_call = expected.ends_by == "whole-call timeout"
    request = asking(
        model,
        headers={fault_header: row.fault},
        timeout_seconds=whole_call_seconds if by_whole_call else None,
    )
    needed = {"idle timeout": idle_seconds, "whole-call timeout": whole_call_seconds}
    async with asyncio.timeout(needed.get(expected.ends_by, 0.0) + SLACK_SECONDS):
        outcome = await (_streamed(provider, request) if streamed else _plain(provider, request))
    if expected.error_type is None:
        assert isinstance(outcome, ProviderResponse), outcome
        assert outcome.text == ANSWER
        return
    assert isinstance(outcome, ErrorInfo), f"expected {expected.error_type}, got an answer"
    assert outcome.type in (expected.error_type, expected.or_type), outcome
    assert outcome.retryable is expected.retryable, outcome
    assert outcome.provider == provider.name
    if expected.keeps_text:
        partial = outcome.partial
        assert partial is not None, outcome
        assert partial.text, outcome
        assert ANSWER.startswith(partial.text), partial.text
        assert partial.finish_reason is FinishReason.INCOMPLETE
        assert partial.usage.input_tokens > 0, partial.usage
        assert partial.usage.output_tokens > 0, partial.usage


async def check_answer(provider: Provider, *, model: str) -> None:
    """Assert that plain and streamed calls give the same answer and the same usage."""
    plain = await _plain(provider, asking(model))
    streamed = await _streamed(provider, asking(model))
    assert isinstance(plain, ProviderResponse), plain
    assert isinstance(streamed, ProviderResponse), streamed
    assert plain.text == streamed.text == ANSWER
    assert plain.usage == streamed.usage
    assert plain.usage.input_tokens > 0
    assert plain.usage.output_tokens > 0
    assert plain.finish_reason is streamed.finish_reason is FinishReason.STOP
    assert plain.provider == streamed.provider == provider.name
    assert plain.model == streamed.model


async def check_stream_protocol(provider: Provider, *, model: str) -> None:
    """Assert that a stream begins with StreamStarted and ends, exactly once, with a terminal event."""
    events = [event async for event in provider.stream(asking(model))]
    assert isinstance(events[0], StreamStarted), events[0]
    assert isinstance(events[-1], StreamDone), events[-1]
    assert not any(_is_terminal(event) for event in events[:-1])
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(texts) > 1, "expected the answer in several pieces"
    assert "".join(texts) == events[-1].response.text == ANSWER


async def check_tool_call(provider: Provider, *, model: str) -> None:
    """Assert that a tool call comes whole, plain and streamed alike, and that its result may be sent back.

    The server must answer `TOOL_PROMPT` with one call of ``weather`` with `TOOL_ARGUMENTS`, and its result with `ANSWER`.
    """
    asked = Message.user(TOOL_PROMPT)
    request = LLMCallRequest(model=model, messages=(asked,), tools=(WEATHER,))
    plain = await _plain(provider, request)
    assert isinstance(plain, ProviderResponse), plain
    assert plain.finish_reason is FinishReason.TOOL_CALLS
    (call,) = plain.tool_calls
    assert (call.name, call.arguments, call.complete) == ("weather", TOOL_ARGUMENTS, True)
    events = [event async for event in provider.stream(request)]
    (ended,) = [event for event in events if isinstance(event, ToolCallEnded)]
    started = next(event for event in events if isinstance(event, ToolCallStarted))
    pieces = [event.arguments_text for event in events if isinstance(event, ToolCallDelta)]
    assert (started.index, started.name, started.id) == (0, "weather", ended.tool_call.id)
    assert "".join(pieces) == ended.tool_call.arguments_text
    assert ended.tool_call.arguments == TOOL_ARGUMENTS
    assert isinstance(events[-1], StreamDone), events[-1]
    assert events[-1].response.tool_calls == (ended.tool_call,)
    assert events[-1].response.finish_reason is FinishReason.TOOL_CALLS
    result = Message.tool(ToolResult(tool_call_id=call.id, content="sunny"))
    conversation = (asked, plain.message, result)
    after = await _plain(
        provider, LLMCallRequest(model=model, messages=conversation, tools=(WEATHER,))
    )
    assert isinstance(after, ProviderResponse), after
    assert after.text == ANSWER


async def check_structured(provider: Provider, *, model: str) -> None:
    """Assert that a schema is satisfied and that the reply says how it was asked for, plain and streamed alike."""
    request = LLMCallRequest(
        model=model, messages=(Message.user("Rome, please."),), response_schema=CITY
    )
    for answer in (await _plain(provider, request), await _streamed(provider, request)):
        assert isinstance(answer, ProviderResponse), answer
        assert answer.structured_by in ("native", "tool")
        assert answer.tool_calls == ()
        assert answer.finish_reason is FinishReason.STOP
        city = json.loads(answer.text)
        assert isinstance(city["name"], str), city
        assert isinstance(city["people"], int), city


async def check_closing(provider: Provider, *, model: str) -> None:
    """Assert that a stream closed early ends quietly, and that the provider serves on and may be closed twice."""
    stream = provider.stream(asking(model))
    async for event in stream:
        if isinstance(event, TextDelta):
            break
    await stream.aclose()  # type: ignore[attr-defined]
    assert [event async for event in stream] == []
    await check_answer(provider, model=model)
    await provider.aclose()
    await provider.aclose()


async def _plain(provider: Provider, request: LLMCallRequest) -> ProviderResponse | ErrorInfo:
    try:
        return await provider.invoke(request)
    except ProviderError as error:
        return error.info


async def _streamed(provider: Provider, request: LLMCallRequest) -> ProviderResponse | ErrorInfo:
    last: StreamEvent | None = None
    async for event in provider.stream(request):
        assert not _is_terminal(last), f"an event after the terminal one: {event}"
        last = event
    if isinstance(last, StreamDone):
        return last.response
    assert isinstance(last, StreamFailed), f"the stream ended with {last}"
    return last.error


def _is_terminal(event: StreamEvent | None) -> bool:
    return isinstance(event, (StreamDone, StreamFailed))
