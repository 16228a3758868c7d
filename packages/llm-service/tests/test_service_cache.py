"""The response cache: fresh, stale, shared and bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_core import (
    CacheMode,
    CachePolicy,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    InvalidValue,
)
from llm_core.testing import ManualClock, ScriptedProvider
from llm_service import BaseLLMService, MemoryResponseCache

WRONG_KEY = ErrorInfo.of(ErrorType.AUTHENTICATION, "who?")
KEEP = CachePolicy(mode=CacheMode.USE, ttl_seconds=60.0, stale_seconds=600.0)


class Cached:
    """A service with a cache, a clock and a provider to look at."""

    def __init__(self, *replies: Any) -> None:
        self.clock = ManualClock()
        self.provider = ScriptedProvider(replies)
        self.cache = MemoryResponseCache(clock=self.clock)
        self.service = BaseLLMService(
            model="m", provider=self.provider, cache=self.cache, clock=self.clock
        )


async def test_a_stale_answer_is_given_at_once_and_renewed_for_the_next_caller() -> None:
    c = Cached("old", "new")
    await c.service.generate("?", cache=KEEP)
    c.clock.advance(100.0)

    stale = await c.service.generate("?", cache=KEEP)
    await c.clock.run_for(0.0)
    fresh = await c.service.generate("?", cache=KEEP)

    assert (stale.content, stale.cached) == ("old", True)
    assert stale.degraded.reason is DegradedReason.STALE_CACHE
    assert (fresh.content, fresh.cached, fresh.degraded) == ("new", True, None)


async def test_an_answer_past_all_its_time_is_asked_anew() -> None:
    c = Cached("old", "new")
    await c.service.generate("?", cache=KEEP)
    c.clock.advance(661.0)
    assert (await c.service.generate("?", cache=KEEP)).cached is False


async def test_a_stored_answer_stands_in_for_a_failed_call() -> None:
    c = Cached("stored", WRONG_KEY)
    await c.service.generate("?", cache=KEEP)
    refresh = CachePolicy(mode=CacheMode.REFRESH)

    result = await c.service.generate("?", cache=refresh)

    assert (result.success, result.content, result.cached) == (True, "stored", True)
    assert result.degraded.reason is DegradedReason.STALE_CACHE
    assert result.error == WRONG_KEY
    assert len(result.attempts) == 1


async def test_a_cache_that_cannot_be_read_is_as_good_as_none() -> None:
    class Broken(MemoryResponseCache):
        async def get(self, key: str) -> None:
            raise OSError("gone")

    service = BaseLLMService(model="m", provider=ScriptedProvider(["x"]), cache=Broken())
    assert (await service.generate("?", cache=KEEP)).content == "x"


async def test_identical_calls_at_the_same_time_become_one() -> None:
    async def slow(_: object) -> str:
        await asyncio.sleep(0.01)
        return "one"

    c = Cached(slow)
    results = await asyncio.gather(*[c.service.generate("?", cache=KEEP) for _ in range(20)])

    assert len(c.provider.requests) == 1
    assert {result.content for result in results} == {"one"}
    assert sum(result.cached for result in results) == 19
    assert len({result.request_id for result in results}) == 20


async def test_when_the_call_that_others_wait_for_is_cancelled_one_of_them_takes_over() -> None:
    c = Cached(_first_hangs())
    leader = asyncio.create_task(c.service.generate("?", cache=KEEP))
    while not c.provider.requests:
        await asyncio.sleep(0)
    followers = [asyncio.create_task(c.service.generate("?", cache=KEEP)) for _ in range(3)]
    await asyncio.sleep(0)
    leader.cancel()

    results = await asyncio.gather(*followers)

    assert [result.content for result in results] == ["answer"] * 3
    assert len(c.provider.requests) == 2


async def test_when_the_call_that_others_wait_for_fails_all_of_them_are_told() -> None:
    async def slow_failure(_: object) -> ErrorInfo:
        await asyncio.sleep(0.01)
        return WRONG_KEY

    c = Cached(slow_failure)
    ask = c.service.generate
    results = await asyncio.gather(
        ask("?", cache=KEEP), ask("?", cache=KEEP), ask("?", cache=KEEP, fallback_value="mine")
    )
    assert len(c.provider.requests) == 1
    assert [result.error for result in results] == [WRONG_KEY] * 3
    assert [result.success for result in results] == [False, False, True]
    assert not any(result.cached for result in results)


async def test_a_stored_answer_is_streamed_in_one_piece() -> None:
    c = Cached("stored answer")
    await c.service.generate("?", cache=KEEP)
    delta, last = [event async for event in c.service.stream("?", cache=KEEP)]
    assert delta.text == "stored answer"
    assert last.result.cached


def _first_hangs() -> Any:
    calls = 0

    async def answer(_: object) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)
        return "answer"

    return answer


class TestMemory:
    async def test_the_least_recently_used_goes_first(self) -> None:
        cache = MemoryResponseCache(max_entries=2)
        results = {}
        for name in ("a", "b"):
            results[name] = await _result(name)
            await cache.put(name, results[name], ttl_seconds=60)
        assert await cache.get("a") == results["a"]
        await cache.put("c", results["a"], ttl_seconds=60)
        assert await cache.get("b") is None
        assert len(cache) == 2

    async def test_time_to_live_is_kept_exactly(self) -> None:
        clock = ManualClock()
        cache = MemoryResponseCache(clock=clock)
        await cache.put("a", await _result("a"), ttl_seconds=1.0)
        clock.advance(0.999)
        assert await cache.get("a") is not None
        clock.advance(0.001)
        assert await cache.get("a") is None
        assert len(cache) == 0

    @pytest.mark.parametrize("bad", [0, True, "10"])
    def test_a_size_that_cannot_be_is_refused(self, bad: Any) -> None:
        with pytest.raises(InvalidValue, match="max_entries: got "):
            MemoryResponseCache(bad)


async def _result(text: str) -> Any:
    return await BaseLLMService(model="m", provider=ScriptedProvider([text])).generate("?")
