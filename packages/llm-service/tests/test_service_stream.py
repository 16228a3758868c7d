"""Streamed calls, on fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from llm_core import (
    ErrorInfo,
    ErrorType,
    LLMCallRequest,
    ProviderResponse,
    StreamDone,
    StreamEvent,
    StreamFailed,
    StreamRestarted,
    StreamResult,
    StreamStarted,
    TextDelta,
    TextPart,
    ToolCallStarted,
    Usage,
    UsageUpdate,
)
from llm_service import RetryPolicy

OVERLOADED = ErrorInfo.of(ErrorType.OVERLOADED, "busy")


class Streams:
    """A provider whose streams are lists of events; the last one is repeated."""

    name = "streams"

    def __init__(self, *streams: list[Any]) -> None:
        self.streams = list(streams)
        self.calls = 0
        self.closed = 0

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        raise AssertionError("only streams")

    async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        events = self.streams[min(self.calls, len(self.streams) - 1)]
        self.calls += 1
        try:
            for event in events:
                if event == "hang":
                    await asyncio.Event().wait()
                yield event
        finally:
            self.closed += 1

    async def aclose(self) -> None:
        """Nothing to close."""


def done(text: str) -> StreamDone:
    usage = Usage(input_tokens=3, output_tokens=2)
    parts = (TextPart(text=text),)
    return StreamDone(
        response=ProviderResponse(provider="streams", model="m", parts=parts, usage=usage)
    )


START = StreamStarted(model="m")
GOOD = [START, TextDelta(text="Pa"), TextDelta(text="ris"), done("Paris")]


def service(bench: Any, *streams: list[Any], **options: Any) -> Any:
    b = bench(**options)
    from llm_service import BaseLLMService

    b.provider = Streams(*streams)
    b.service = BaseLLMService(
        model="m",
        provider=b.provider,
        gate=b.gate,
        telemetry=b.telemetry,
        clock=b.clock,
        retry=RetryPolicy(initial_seconds=0.0),
        **options,
    )
    return b


async def events_of(b: Any, **fields: Any) -> list[StreamEvent]:
    return [event async for event in b.service.stream("?", **fields)]


async def test_a_stream_gives_its_pieces_and_then_the_whole_result(bench: Any) -> None:
    b = service(bench, GOOD)
    *pieces, last = await events_of(b, pipeline=str.upper)

    assert pieces == GOOD[:-1]
    assert isinstance(last, StreamResult)
    assert (last.result.content, last.result.raw_content) == ("PARIS", "Paris")
    assert last.result.usage.total_tokens == 5
    assert last.result.timestamps.first_token is not None
    assert b.gate.permits[0].settled == 5


async def test_a_stream_tells_telemetry_of_its_first_token(bench: Any) -> None:
    b = service(bench, GOOD)
    await events_of(b)
    kinds = [event.kind for event in b.telemetry.events]
    assert kinds == [
        "generation_started",
        "attempt_started",
        "first_token",
        "attempt_ended",
        "generation_finished",
    ]


async def test_a_stream_that_fails_before_its_first_token_is_tried_again_unseen(bench: Any) -> None:
    b = service(bench, [START, StreamFailed(error=OVERLOADED)], GOOD)
    *pieces, last = await events_of(b)
    assert [p.text for p in pieces if isinstance(p, TextDelta)] == ["Pa", "ris"]
    assert last.result.success
    assert len(last.result.attempts) == 2


async def test_a_stream_that_fails_half_way_keeps_what_had_arrived(bench: Any) -> None:
    partial = ProviderResponse(
        provider="streams",
        model="m",
        parts=(TextPart(text="Pa"),),
        usage=Usage(input_tokens=3, output_tokens=1, estimated=True),
    )
    cut = ErrorInfo.of(ErrorType.TRUNCATED, "cut off", partial=partial)
    b = service(bench, [START, TextDelta(text="Pa"), StreamFailed(error=cut)], GOOD)

    *_, last = await events_of(b)

    assert last.result.error == cut
    assert last.result.raw_content == "Pa"
    assert last.result.usage == partial.usage
    assert b.provider.calls == 1


async def test_a_stream_may_begin_anew_if_that_is_wanted(bench: Any) -> None:
    broken = [START, TextDelta(text="Pa"), StreamFailed(error=OVERLOADED)]
    b = service(bench, broken, GOOD, restart_streams=True)

    *pieces, last = await events_of(b)

    restart = next(p for p in pieces if isinstance(p, StreamRestarted))
    assert (restart.attempt, restart.error) == (2, OVERLOADED)
    assert last.result.content == "Paris"


async def test_the_next_model_begins_a_stream_anew_only_if_that_is_wanted(bench: Any) -> None:
    expired = ErrorInfo.of(ErrorType.AUTHENTICATION, "no longer")
    broken = [START, TextDelta(text="Pa"), StreamFailed(error=expired)]
    b = service(bench, broken, GOOD, fallbacks=["small"])
    *_, last = await events_of(b)
    assert (last.result.error, b.provider.calls) == (expired, 1)

    b = service(bench, broken, GOOD, fallbacks=["small"], restart_streams=True)
    *pieces, last = await events_of(b)
    restart = next(p for p in pieces if isinstance(p, StreamRestarted))
    assert (restart.attempt, restart.error) == (2, expired)
    assert last.result.content == "Paris"


async def test_a_stream_that_is_left_after_a_pause_paused_no_longer_than_that(bench: Any) -> None:
    later = ErrorInfo.of(ErrorType.OVERLOADED, "busy", retry_after=3.0)
    # As much as a reader may be behind, so that the restart waits for him.
    broken = [*[TextDelta(text="x")] * 64, StreamFailed(error=later)]
    b = service(bench, broken, GOOD, restart_streams=True)
    async with aclosing(b.service.stream("?")) as events:
        await anext(events)
        await b.clock.run_for(10.0)
    assert b.provider.calls == 1
    assert b.telemetry.events[-1].result.backoff.backoff_seconds == 3.0


async def test_a_stream_never_begins_anew_after_a_tool_call(bench: Any) -> None:
    broken = [START, ToolCallStarted(index=0, id="1", name="pay"), StreamFailed(error=OVERLOADED)]
    b = service(bench, broken, GOOD, restart_streams=True)
    *_, last = await events_of(b)
    assert last.result.error == OVERLOADED
    assert b.provider.calls == 1


async def test_a_stream_that_just_stops_is_truncated_and_counted_here(bench: Any) -> None:
    b = service(bench, [START, TextDelta(text="eight ch")])
    *_, last = await events_of(b, max_attempts=1)
    assert last.result.error.type is ErrorType.TRUNCATED
    assert last.result.raw_content == "eight ch"
    assert last.result.usage == Usage(input_tokens=5, output_tokens=2, estimated=True)


async def test_leaving_a_stream_closes_the_upstream_and_books_what_was_used(bench: Any) -> None:
    reported = UsageUpdate(usage=Usage(input_tokens=7, output_tokens=1))
    b = service(bench, [START, reported, TextDelta(text="Paris and so on"), "hang"])

    async with aclosing(b.service.stream("?")) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break

    assert b.provider.closed == 1
    assert b.gate.permits[0].released
    assert b.gate.permits[0].settled == 7 + 4
    result = b.telemetry.events[-1].result
    assert result.error.type is ErrorType.CANCELLED
    assert result.usage == Usage(input_tokens=7, output_tokens=4, estimated=True)
    assert result.raw_content == "Paris and so on"


async def test_a_stream_that_is_left_between_two_events_is_closed_upstream_by_then(
    bench: Any,
) -> None:
    class Endless(Streams):
        async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
            try:
                while True:
                    self.calls += 1
                    yield TextDelta(text="x")
            finally:
                await asyncio.sleep(0)
                self.closed += 1

    b = service(bench, GOOD)
    provider = b.service._router._provider = Endless()
    async with aclosing(b.service.stream("?")) as events:
        await anext(events)
        written = 0
        while provider.calls > written:  # until it waits for its slow reader
            written = provider.calls
            await asyncio.sleep(0)
    assert provider.closed == 1


async def test_a_slow_reader_holds_the_stream_back(bench: Any) -> None:
    sent = 0

    class Fast(Streams):
        async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
            nonlocal sent
            for _ in range(500):
                sent += 1
                yield TextDelta(text="x")
            yield done("x" * 500)

    b = service(bench, GOOD)
    b.service._router._provider = Fast()
    async with aclosing(b.service.stream("?")) as events:
        await anext(events)
        for _ in range(300):
            await asyncio.sleep(0)
        assert sent < 100


def test_a_sync_caller_streams_too(bench: Any) -> None:
    b = service(bench, GOOD)
    events = list(b.service.stream_sync("?"))
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["Pa", "ris"]
    assert events[-1].result.content == "Paris"
    b.service.close()


def test_a_sync_caller_may_leave_early(bench: Any) -> None:
    b = service(bench, [START, TextDelta(text="Pa"), "hang"])
    events = b.service.stream_sync("?")
    assert next(events) == START
    events.close()
    assert b.provider.closed == 1
    b.service.close()


async def test_a_deadline_ends_a_stream_with_what_had_arrived(bench: Any) -> None:
    b = service(bench, [START, TextDelta(text="Pa"), "hang"])
    *_, last = await events_of(b, deadline_seconds=0.05)
    assert last.result.error.type is ErrorType.TIMEOUT_DEADLINE
    assert last.result.raw_content == "Pa"


async def test_a_request_that_cannot_be_made_streams_a_failed_result(bench: Any) -> None:
    b = service(bench, GOOD)
    events = [event async for event in b.service.stream("")]
    assert [type(e) for e in events] == [StreamResult]
    assert events[0].result.error.type is ErrorType.INVALID_REQUEST


async def test_cancelling_the_reading_task_cancels_the_call(bench: Any) -> None:
    b = service(bench, [START, "hang"])
    task = asyncio.create_task(events_of(b))
    while b.provider.calls == 0:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert b.gate.permits[0].released
