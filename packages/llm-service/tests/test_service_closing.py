"""What becomes of calls, threads and connections when a service is closed."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llm_core import ErrorType, StreamResult
from llm_core.testing import ScriptedProvider
from llm_service import BaseLLMService
from llm_service.in_flight import EndedByClosing, InFlight


async def hang(_: object) -> str:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


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

    async def test_who_was_cancelled_besides_stays_cancelled(self) -> None:
        service = hanging_service()
        call = asyncio.create_task(service.generate("?"))
        await asyncio.sleep(0)
        service._in_flight._end(call)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    async def test_a_call_within_a_call_ends_both(self) -> None:
        flights = InFlight()

        async def nested() -> None:
            with flights.enter(), flights.enter():
                await asyncio.Event().wait()

        call = asyncio.create_task(nested())
        await asyncio.sleep(0)
        await flights.drain(0)
        with pytest.raises(EndedByClosing):
            await call
        assert len(flights) == 0

    async def test_a_call_that_is_over_by_then_is_left_alone(self) -> None:
        flights = InFlight()
        done = asyncio.Event()

        async def short() -> str:
            with flights.enter():
                await done.wait()
            await asyncio.sleep(0)
            return "undisturbed"

        call = asyncio.create_task(short())
        await asyncio.sleep(0)
        closing = asyncio.create_task(flights.drain(0))
        done.set()
        await closing
        assert await call == "undisturbed"
