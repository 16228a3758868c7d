"""From a call that fills a sink to a stream that a caller reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from llm_core import GenerationResult, StreamEvent, StreamResult
from llm_core.later import asyncio
from llm_service.invocation import Sink

__all__ = ["stream_batches", "stream_events"]

# A reader this far behind holds the provider's stream back.
_MAX_BUFFERED_EVENTS = 64


async def stream_events(
    call: Callable[[Sink], Awaitable[GenerationResult[Any]]],
) -> AsyncGenerator[StreamEvent, None]:
    """Run `call` beside the reader; yield what it puts into its sink, and at the end its result.

    Closing the generator cancels the call and waits until it has let go of what it held.
    """
    async with aclosing(stream_batches(call, most=1)) as batches:
        async for batch in batches:
            yield batch[0]


async def stream_batches(
    call: Callable[[Sink], Awaitable[GenerationResult[Any]]],
    *,
    most: int = _MAX_BUFFERED_EVENTS,
) -> AsyncGenerator[list[StreamEvent], None]:
    """Do as `stream_events` does, but yield all that is there at a time, up to `most`."""
    # Unbounded, so that the end always finds a place; the sink itself waits for a slow reader.
    events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
    room = asyncio.Event()

    async def sink(event: StreamEvent) -> None:
        events.put_nowait(event)
        if events.qsize() >= _MAX_BUFFERED_EVENTS:
            room.clear()
            await room.wait()

    async def run() -> None:
        try:
            result = await call(sink)
            events.put_nowait(StreamResult(result=result))
        finally:
            events.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        ended = False
        while not ended:
            batch = [await events.get()]
            while len(batch) < most and not events.empty():
                batch.append(events.get_nowait())
            ended = batch[-1] is None
            if events.qsize() < _MAX_BUFFERED_EVENTS:
                room.set()
            if some := [event for event in batch if event is not None]:
                yield some
        # Raises if the call was cancelled from outside and so had no result to give.
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
