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
    ErrorType,
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
    Value,
    immutable,
)
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


@immutable
class Outcome(Value):
    """What a call comes to."""

    error_type: ErrorType | None = None
    """None: the whole answer."""
    or_type: ErrorType | None = None
    """Another type, where the vendors' own words for one status differ."""
    retryable: bool = False
    keeps_text: bool = False
    """The beginning of the answer is in `error.partial`, with a usage above zero."""
    ends_by: str = "at once"
    """What bounds the time: ``at once``, ``idle timeout`` or ``whole-call timeout``."""


@immutable
class FaultRow(Value):
    """One way for a server to fail, and what a caller gets."""

    fault: str
    meaning: str
    plain: Outcome
    streamed: Outcome


_T = ErrorType
_ANSWER = Outcome()


def _refused(
    fault: str,
    meaning: str,
    error_type: ErrorType,
    *,
    or_type: ErrorType | None = None,
    retryable: bool | None = None,
) -> FaultRow:
    """Build a row for a status that plain and streamed calls meet alike."""
    by_table = error_type.traits.retryable if retryable is None else retryable
    outcome = Outcome(error_type=error_type, or_type=or_type, retryable=by_table)
    return FaultRow(fault=fault, meaning=meaning, plain=outcome, streamed=outcome)


def _broken(
    fault: str,
    meaning: str,
    plain: ErrorType,
    streamed: ErrorType,
    *,
    keeps_text: bool = True,
    or_streamed: ErrorType | None = None,
    plain_ends_by: str = "at once",
    stream_ends_by: str = "at once",
) -> FaultRow:
    """Build a row for a fault of the wire, which may keep a stream's first half."""
    return FaultRow(
        fault=fault,
        meaning=meaning,
        plain=Outcome(error_type=plain, retryable=True, ends_by=plain_ends_by),
        streamed=Outcome(
            error_type=streamed,
            or_type=or_streamed,
            retryable=True,
            keeps_text=keeps_text,
            ends_by=stream_ends_by,
        ),
    )


def _harmless(fault: str, meaning: str) -> FaultRow:
    return FaultRow(fault=fault, meaning=meaning, plain=_ANSWER, streamed=_ANSWER)


FAULT_TABLE: tuple[FaultRow, ...] = (
    _refused("400", "the request is called invalid", _T.INVALID_REQUEST),
    _refused("401", "the key is called wrong", _T.AUTHENTICATION),
    _refused(
        "403",
        "the key may not do this, or not from here",
        _T.UNSUPPORTED_REGION,
        or_type=_T.PERMISSION,
    ),
    _refused("404", "the model is called unknown", _T.MODEL_NOT_FOUND),
    _refused("408", "the vendor timed out", _T.TIMEOUT_READ),
    _refused("409", "a conflict with another request", _T.INVALID_REQUEST, retryable=True),
    _refused("413", "the request is called too large", _T.INVALID_REQUEST),
    _refused("422", "the request is called unprocessable", _T.INVALID_REQUEST),
    _refused("429", "the rate limit is exceeded", _T.RATE_LIMITED),
    _refused("quota", "the account is out of money", _T.QUOTA_EXHAUSTED),
    _refused("500", "the vendor failed", _T.SERVER_ERROR),
    _refused("502", "a gateway got no good answer", _T.SERVER_ERROR),
    _refused("503", "the vendor is overloaded", _T.OVERLOADED),
    _refused("504", "a gateway timed out", _T.SERVER_ERROR, or_type=_T.TIMEOUT_READ),
    _refused("529", "the vendor is overloaded (Anthropic)", _T.OVERLOADED),
    _harmless("slow_headers", "the headers come late"),
    _harmless("slow_body", "the body comes drop by drop"),
    _broken(
        "stall",
        "the body stops half-way and the connection stays open",
        _T.TIMEOUT_READ,
        _T.TIMEOUT_READ,
        plain_ends_by="whole-call timeout",
        stream_ends_by="idle timeout",
    ),
    _broken("reset", "the connection is reset", _T.CONNECTION, _T.CONNECTION),
    _broken("truncate", "the body ends against its own framing", _T.CONNECTION, _T.CONNECTION),
    _broken("cut", "a stream ends without its terminal event", _T.CONNECTION, _T.TRUNCATED),
    _broken("malformed_json", "the JSON is broken", _T.SERVER_ERROR, _T.SERVER_ERROR),
    _broken(
        "html", "an HTML page with status 200", _T.SERVER_ERROR, _T.SERVER_ERROR, keeps_text=False
    ),
    _broken(
        "empty", "an empty body with status 200", _T.SERVER_ERROR, _T.SERVER_ERROR, keeps_text=False
    ),
    _broken(
        "error_event",
        "an error event in the midst of a stream; a plain call gets a 500",
        _T.SERVER_ERROR,
        _T.SERVER_ERROR,
        or_streamed=_T.OVERLOADED,
    ),
    _harmless("wrong_content_type", "the content type is text/plain"),
    _harmless("split_emoji", "characters are split across chunks"),
)
"""Fault → what a plain and a streamed call come to, for every provider."""


def fault_table_markdown() -> str:
    """Return `FAULT_TABLE` as a table for the documentation."""
    lines = [
        "| fault | what happens | plain call | stream |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{row.fault}` | {row.meaning} | {_cell(row.plain)} | {_cell(row.streamed)} |"
        for row in FAULT_TABLE
    ]
    return "\n".join(lines) + "\n"


def _cell(outcome: Outcome) -> str:
    if outcome.error_type is None:
        return "the whole answer"
    kinds = [kind for kind in (outcome.error_type, outcome.or_type) if kind is not None]
    words = [" or ".join(f"`{kind.value}`" for kind in kinds)]
    words.append("retryable" if outcome.retryable else "not retryable")
    if outcome.keeps_text:
        words.append("partial text kept")
    if outcome.ends_by != "at once":
        words.append(f"ends by the {outcome.ends_by}")
    return ", ".join(words)


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
