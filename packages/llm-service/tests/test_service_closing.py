"""What becomes of calls, threads and connections when a service is closed."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import llm_providers
from llm_core import (
    CacheMode,
    CachePolicy,
    ErrorInfo,
    ErrorType,
    GenerationResult,
    StreamEvent,
    StreamResult,
    TextDelta,
)
from llm_core.testing import MemoryCache, RecordingTelemetry, ScriptedProvider
from llm_service import BaseLLMService, RetryPolicy
from llm_service.in_flight import InFlight


async def hang(_: object) -> str:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


class HalfAStream(ScriptedProvider):
    async def stream(self, request: object) -> AsyncIterator[StreamEvent]:
        yield TextDelta(text="Once")
        await hang(request)


class SlowCache(MemoryCache):
    """Tells that it has begun to store, and takes a while."""

    def __init__(self, seconds: float = 0.1) -> None:
        super().__init__()
        self.storing = threading.Event()
        self.seconds = seconds

    async def put(self, key: str, result: GenerationResult[Any], *, ttl_seconds: float) -> None:
        self.storing.set()
        await asyncio.sleep(self.seconds)
        await super().put(key, result, ttl_seconds=ttl_seconds)


def hanging_service() -> BaseLLMService:
    return BaseLLMService(model="m", provider=ScriptedProvider([hang]))


class TestCallsThatAreEnded:
    async def test_the_caller_gets_a_result_and_its_task_goes_on(self) -> None:
        service = hanging_service()

        async def caller() -> tuple[Any, str]:
            result = await service.generate("?", operation_name="ask")
            await asyncio.sleep(0)
            return result, "went on"

        call = asyncio.create_task(caller())
        await asyncio.sleep(0)
        await service.aclose(drain_seconds=0.01)
        result, after = await call

        assert result.error.type is ErrorType.CANCELLED
        assert result.error.message == "the service was closed"
        assert (result.operation_name, result.request.user) == ("ask", "?")
        assert after == "went on"
        assert (call.cancelled(), call.cancelling()) == (False, 0)

    async def test_a_stream_ends_with_its_result(self) -> None:
        service = hanging_service()

        async def read() -> list[Any]:
            return [event async for event in service.stream("?")]

        reader = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        await service.aclose(drain_seconds=0.01)
        last = (await reader)[-1]
        assert isinstance(last, StreamResult)
        assert last.result.error.type is ErrorType.CANCELLED

    async def test_the_result_tells_what_had_happened_by_then(self) -> None:
        busy = ErrorInfo.of(ErrorType.OVERLOADED, "try again")
        asked_again = asyncio.Event()

        async def never(request: object) -> str:
            asked_again.set()
            return await hang(request)

        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider([busy, never]),
            retry=RetryPolicy(initial_seconds=0),
        )
        call = asyncio.create_task(service.generate("What is asked?"))
        await asked_again.wait()
        await service.aclose(drain_seconds=0)
        result = await call

        assert result.error.type is ErrorType.CANCELLED
        failures = [attempt.error.type for attempt in result.attempts]
        assert failures == [ErrorType.OVERLOADED, ErrorType.CANCELLED]
        assert result.backoff.backoffs == 1
        assert result.usage.input_tokens > 0
        assert result.timestamps.started == result.attempts[-1].timestamps.started

    async def test_a_stream_that_is_ended_keeps_what_had_arrived(self) -> None:
        service = BaseLLMService(model="m", provider=HalfAStream())
        events = service.stream("?")
        assert await anext(events) == TextDelta(text="Once")
        await service.aclose(drain_seconds=0)
        last = [event async for event in events][-1]
        assert isinstance(last, StreamResult)
        assert last.result.error.type is ErrorType.CANCELLED
        assert last.result.raw_content == last.result.error.partial.text == "Once"

    def test_a_thread_gets_a_result(self) -> None:
        asked = threading.Event()

        async def answer(_: object) -> str:
            asked.set()
            return await hang(_)

        service = BaseLLMService(model="m", provider=ScriptedProvider([answer]))
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(service.generate_sync, "?")
            assert asked.wait(5)
            service.close(drain_seconds=0.01)
            assert call.result(5).error.type is ErrorType.CANCELLED

    def test_a_call_that_stores_its_answer_may_finish_that(self) -> None:
        cache = SlowCache()
        service = BaseLLMService(model="m", provider=ScriptedProvider(["Paris"]), cache=cache)
        policy = CachePolicy(mode=CacheMode.USE)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(service.generate_sync, "?", cache=policy)
            assert cache.storing.wait(5)
            service.close()
            assert call.result(5).content == "Paris"
        assert len(cache.results) == 1
        assert sum(row.calls for row in service.usage.rows()) == 1

    def test_an_answer_that_could_not_be_stored_in_time_is_an_answer(self) -> None:
        cache = SlowCache(seconds=30)
        service = BaseLLMService(model="m", provider=ScriptedProvider(["Paris"]), cache=cache)
        policy = CachePolicy(mode=CacheMode.USE)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(service.generate_sync, "?", cache=policy)
            assert cache.storing.wait(5)
            service.close(drain_seconds=0.01)
            assert call.result(5).content == "Paris"
        assert sum(row.calls for row in service.usage.rows()) == 1

    async def test_who_was_cancelled_besides_stays_cancelled(self) -> None:
        service = hanging_service()
        call = asyncio.create_task(service.generate("?"))
        await asyncio.sleep(0)
        service._in_flight.end(call, "the service was closed")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    async def test_a_call_within_a_call_ends_both(self) -> None:
        flights = InFlight()

        async def nested() -> list[str | None]:
            calls = [flights.enter(), flights.enter()]
            ended = []
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                for task, cancelled_before in reversed(calls):
                    ended.append(flights.why_ended(task, cancelled_before))
                    flights.leave(task)
            return ended

        call = asyncio.create_task(nested())
        await asyncio.sleep(0)
        await flights.drain(0)
        assert await call == [None, "the service was closed"]
        assert len(flights) == 0

    async def test_a_call_that_is_over_by_then_is_left_alone(self) -> None:
        flights = InFlight()
        done = asyncio.Event()

        async def short() -> str:
            task, _ = flights.enter()
            await done.wait()
            flights.leave(task)
            await asyncio.sleep(0)
            return "undisturbed"

        call = asyncio.create_task(short())
        await asyncio.sleep(0)
        closing = asyncio.create_task(flights.drain(0))
        done.set()
        await closing
        assert await call == "undisturbed"


class BrokenProvider(ScriptedProvider):
    async def aclose(self) -> None:
        await super().aclose()
        raise OSError("broken pipe")


def portal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llm-service portal"]


class TestWhatIsClosed:
    def test_a_provider_that_cannot_be_closed_does_not_keep_the_rest_open(self) -> None:
        first, second, telemetry = BrokenProvider(), BrokenProvider(), RecordingTelemetry()
        service = BaseLLMService(model="m", provider=first, telemetry=telemetry)
        service.use_provider(second)
        service.generate_sync("?")
        with pytest.raises(OSError, match="broken pipe"):
            service.close()
        assert first.closed
        assert second.closed
        assert telemetry.closed
        assert not portal_threads()

    def test_providers_that_take_turns_are_closed_once_each(self) -> None:
        class Counting(ScriptedProvider):
            closings = 0

            async def aclose(self) -> None:
                self.closings += 1

        first, second = Counting(), Counting()
        service = BaseLLMService(model="m", provider=first)
        for _ in range(3):
            service.use_provider(second)
            service.use_provider(first)
        service.close()
        assert (first.closings, second.closings) == (1, 1)

    def test_aclose_may_run_on_the_background_loop(self) -> None:
        telemetry = RecordingTelemetry()
        service = BaseLLMService(model="m", provider=ScriptedProvider(), telemetry=telemetry)

        async def close_and_go_on() -> str:
            await service.aclose()
            await asyncio.sleep(0)
            return "went on"

        thread = service.run_sync(_this_thread)
        assert service.run_sync(close_and_go_on) == "went on"
        thread.join(5)
        assert not thread.is_alive()
        assert telemetry.closed

    def test_a_service_that_is_dropped_leaves_no_thread(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider())
        service.generate_sync("?")
        thread = service.run_sync(_this_thread)
        assert thread.is_alive()
        del service
        gc.collect()
        thread.join(5)
        assert not thread.is_alive()

    def test_the_first_calls_of_many_threads_share_one_registry(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = []
        original = llm_providers.ProviderRegistry.__init__

        def slow(self: Any, *args: Any, **options: Any) -> None:
            made.append(self)
            threading.Event().wait(0.01)
            original(self, *args, **options)

        monkeypatch.setattr(llm_providers.ProviderRegistry, "__init__", slow)
        service = BaseLLMService(model="gpt-5-mini")
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: service._router.resolve(None)[0], range(8)))
        assert len(made) == 1
        assert len(set(map(id, found))) == 1


class TestSyncCallersAfterTheEnd:
    def test_a_half_read_stream_can_be_read_to_its_result(self) -> None:
        service = BaseLLMService(model="m", provider=HalfAStream())
        events = service.stream_sync("?")
        assert next(events) == TextDelta(text="Once")
        service.close(drain_seconds=0)
        (last,) = events
        assert isinstance(last, StreamResult)
        assert last.result.error is not None
        assert last.result.error.type is ErrorType.CANCELLED
        assert last.result.raw_content == "Once"
        assert not portal_threads()

    def test_a_stream_read_by_another_thread_ends_with_its_result(self) -> None:
        service = BaseLLMService(model="m", provider=HalfAStream())
        begun = threading.Event()

        def read() -> list[Any]:
            events = []
            for event in service.stream_sync("?"):
                events.append(event)
                begun.set()
            return events

        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(read)
            assert begun.wait(5)
            service.close(drain_seconds=0)
            assert reader.result(5)[-1].result.error.type is ErrorType.CANCELLED
        assert not portal_threads()

    def test_what_is_left_of_many_is_refused(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider())
        results = service.generate_many_sync(["a", "b", "c"], in_flight=1, in_order=True)
        assert next(results)[1].content == "a"
        service.close()
        left = list(results)
        assert [position for position, _ in left] == [1, 2]
        assert "the service is closed" in str(left[-1][1].error)
        assert not portal_threads()

    def test_the_thread_ends_with_the_last_iterator_that_is_left_half_read(self) -> None:
        service = BaseLLMService(model="m", provider=HalfAStream())
        first, second = service.stream_sync("?"), service.stream_sync("?")
        next(first), next(second)
        service.close(drain_seconds=0)
        first.close()
        assert portal_threads()
        second.close()
        assert not portal_threads()

    def test_what_comes_later_is_refused_and_leaves_no_thread(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider())
        service.close()
        assert "the service is closed" in str(service.generate_sync("?").error)
        (only,) = service.stream_sync("?")
        assert isinstance(only, StreamResult)
        assert "the service is closed" in str(only.result.error)
        assert [result.success for _, result in service.generate_many_sync(["a", "b"])] == [
            False,
            False,
        ]
        assert not portal_threads()


async def _this_thread() -> threading.Thread:
    return threading.current_thread()
