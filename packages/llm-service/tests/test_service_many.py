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


async def test_in_order_the_finished_wait_for_those_before_them() -> None:
    first_may_end = asyncio.Event()
    read = 0

    def numbers() -> Iterator[str]:
        nonlocal read
        for read in range(1, 41):
            yield str(read)

    async def answer(request: Any) -> str:
        text = str(request.messages[-1].text)
        if text == "1":
            await first_may_end.wait()
        return text

    service = BaseLLMService(model="m", provider=ScriptedProvider([answer]))
    many = service.generate_many(numbers(), in_flight=3, in_order=True)
    first = asyncio.ensure_future(anext(many))
    for _ in range(500):
        await asyncio.sleep(0)
    assert not first.done()
    assert read == 12
    first_may_end.set()
    results = [await first, *[pair async for pair in many]]
    assert [(n, r.content) for n, r in results] == [(n, str(n + 1)) for n in range(40)]


async def _broken_async() -> AsyncIterator[str]:
    yield "first"
    yield "second"
    raise OSError("disk gone")


def _broken() -> Iterator[str]:
    yield "first"
    yield "second"
    raise OSError("disk gone")


@pytest.mark.parametrize("source", [_broken, _broken_async])
async def test_what_the_source_raises_is_raised_after_what_it_gave_is_answered(source: Any) -> None:
    service = BaseLLMService(model="m", provider=ScriptedProvider())
    seen = []
    with pytest.raises(OSError, match="disk gone"):  # noqa: PT012 - the loop is what raises
        async for _, result in service.generate_many(source()):
            seen.append(result.content)
    assert sorted(seen) == ["first", "second"]


def test_sync_callers_have_it_too() -> None:
    with BaseLLMService(model="m", provider=ScriptedProvider()) as service:
        results = list(service.generate_many_sync(["a", "b", "c"], in_flight=2, in_order=True))
    assert [(n, r.content) for n, r in results] == [(0, "a"), (1, "b"), (2, "c")]


def test_a_sync_caller_who_leaves_early_cancels_what_is_in_flight() -> None:
    async def answer(request: Any) -> str:
        if request.messages[-1].text != "0":
            await asyncio.Event().wait()
        return "first"

    with BaseLLMService(model="m", provider=ScriptedProvider([answer])) as service:
        many = service.generate_many_sync(["0", "1", "2"])
        assert next(many)[1].content == "first"
        assert service.snapshot().in_flight == 2
        many.close()
        assert service.snapshot().in_flight == 0


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
