"""Many requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llm_core import ErrorInfo, ErrorType, InvalidValue
from llm_core.testing import ScriptedProvider
from llm_service import BaseLLMService


async def test_one_failure_sinks_nobody_else() -> None:
    wrong = ErrorInfo.of(ErrorType.AUTHENTICATION, "no")

    def answer(request: Any) -> Any:
        text = request.messages[-1].text
        return wrong if text == "2" else text

    service = BaseLLMService(model="m", provider=ScriptedProvider([answer]))
    results = {n: r async for n, r in service.generate_many([str(n) for n in range(5)])}

    assert [results[n].content for n in range(5)] == ["0", "1", None, "3", "4"]
    assert results[2].error == wrong


async def test_requests_are_read_only_as_fast_as_they_are_answered() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"request {read}"

    service = BaseLLMService(model="m", provider=ScriptedProvider())
    seen = 0
    many = service.generate_many(endless(), in_flight=4)
    async for _ in many:
        seen += 1
        assert read <= seen + 4
        if seen == 50:
            break
    await many.aclose()
    assert seen == 50


async def test_no_more_than_allowed_are_in_flight() -> None:
    running = most = 0

    async def answer(_: Any) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10):
            await asyncio.sleep(0)
        running -= 1
        return "x"

    service = BaseLLMService(model="m", provider=ScriptedProvider([answer]))
    results = [r async for _, r in service.generate_many(map(str, range(20)), in_flight=3)]
    assert len(results) == 20
    assert most == 3


async def test_a_slow_source_does_not_hold_back_answers() -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await more.wait()
        yield "second"

    service = BaseLLMService(model="m", provider=ScriptedProvider())
    many = service.generate_many(source(), in_flight=3)
    assert (await anext(many))[1].content == "first"
    more.set()
    assert (await anext(many))[1].content == "second"
    with pytest.raises(StopAsyncIteration):
        await anext(many)


async def test_what_the_source_raises_is_raised() -> None:
    async def broken() -> AsyncIterator[str]:
        yield "first"
        raise OSError("disk gone")

    service = BaseLLMService(model="m", provider=ScriptedProvider())
    with pytest.raises(OSError, match="disk gone"):
        async for _ in service.generate_many(broken()):
            pass


async def test_leaving_early_cancels_what_is_in_flight() -> None:
    cancelled = 0

    async def answer(request: Any) -> str:
        nonlocal cancelled
        if request.messages[-1].text == "0":
            return "first"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        raise AssertionError("unreachable")

    service = BaseLLMService(model="m", provider=ScriptedProvider([answer]))
    many = service.generate_many(["0", "1", "2"], in_flight=3)
    position, result = await anext(many)
    for _ in range(10):
        await asyncio.sleep(0)
    await many.aclose()

    assert (position, result.content) == (0, "first")
    assert cancelled == 2


def test_a_width_below_one_is_refused() -> None:
    service = BaseLLMService(model="m", provider=ScriptedProvider())
    with pytest.raises(InvalidValue, match="in_flight: got 0"):
        service.generate_many(["x"], in_flight=0)
