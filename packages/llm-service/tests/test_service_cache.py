"""The response cache: fresh, stale, shared and bounded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from llm_core import (
    AudioDelta,
    AudioPart,
    CacheMode,
    CachePolicy,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    InvalidValue,
    LLMCallRequest,
    ProviderResponse,
    ReasoningDelta,
    ReasoningPart,
    StepContext,
    StreamStarted,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    TraceContext,
    Usage,
)
from llm_core.testing import FixedPriceBook, ManualClock, MemoryCache, ScriptedProvider
from llm_metrics import use_trace
from llm_service import BaseLLMService, MemoryResponseCache
from llm_service.cache_key import cache_key
from llm_service.standstill import Standstill, standstill

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


def counts_of(service: BaseLLMService) -> tuple[int, int, int]:
    """Return how many calls were hits, misses and shared."""
    stats = service.snapshot().cache
    return stats.hits, stats.misses, stats.shared


class TestCounts:
    """Each call that asks the cache counts once."""

    @staticmethod
    async def slow(_: object) -> str:
        await asyncio.sleep(0.01)
        return "one"

    @staticmethod
    async def slow_failure(_: object) -> ErrorInfo:
        await asyncio.sleep(0.01)
        return WRONG_KEY

    async def test_a_call_that_asks_a_provider_is_a_miss_and_the_next_a_hit(self) -> None:
        c = Cached("one")
        for counts in ((0, 1, 0), (1, 1, 0), (2, 1, 0)):
            await c.service.generate("?", cache=KEEP)
            assert counts_of(c.service) == counts

    @pytest.mark.parametrize("reply", [slow, slow_failure])
    async def test_those_that_share_a_call_are_neither_hits_nor_misses(self, reply: Any) -> None:
        c = Cached(reply)
        await asyncio.gather(*[c.service.generate("?", cache=KEEP) for _ in range(5)])
        assert counts_of(c.service) == (0, 1, 4)

    async def test_what_a_shared_answer_had_cost_is_saved_and_a_shared_failure_saves_nothing(
        self,
    ) -> None:
        prices = FixedPriceBook(input_per_million=Decimal(10), output_per_million=Decimal(10))
        for reply, saved in ((self.slow, True), (self.slow_failure, False)):
            service = BaseLLMService(
                model="m",
                provider=ScriptedProvider([reply]),
                cache=MemoryCache(),
                price_book=prices,
            )
            await asyncio.gather(*[service.generate("?", cache=KEEP) for _ in range(2)])
            assert bool(service.snapshot().cache.saved.amount) is saved

    async def test_one_whose_leader_was_late_asks_itself_and_is_a_miss(self) -> None:
        c = Cached(_first_hangs())
        late = asyncio.create_task(c.service.generate("?", cache=KEEP, deadline_seconds=0.02))
        while not c.provider.requests:
            await asyncio.sleep(0)
        follower = await c.service.generate("?", cache=KEEP)
        assert ((await late).success, follower.content) == (False, "answer")
        assert counts_of(c.service) == (0, 2, 0)

    async def test_one_that_ends_while_it_waits_for_another_is_a_miss(self) -> None:
        c = Cached(self.slow)
        leader = asyncio.create_task(c.service.generate("?", cache=KEEP))
        while not c.provider.requests:
            await asyncio.sleep(0)
        late = await c.service.generate("?", cache=KEEP, deadline_seconds=0.001)
        cancelled = asyncio.create_task(c.service.generate("?", cache=KEEP))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(leader, cancelled, return_exceptions=True)
        assert late.error is not None
        assert counts_of(c.service) == (0, 3, 0)

    async def test_one_that_asks_anew_whatever_is_there_counts_nowhere(self) -> None:
        c = Cached("one")
        await c.service.generate("?", cache=CachePolicy(mode=CacheMode.REFRESH))
        await c.service.generate("?", cache=CachePolicy(mode=CacheMode.OFF))
        assert counts_of(c.service) == (0, 0, 0)


class HangingCache(MemoryCache):
    """Never comes to an end with some of what it does."""

    def __init__(self, *hanging: str) -> None:
        super().__init__()
        self.hanging = set(hanging)
        self.asked: list[str] = []

    async def get(self, key: str) -> Any:
        await self._note("get")
        return await super().get(key)

    async def put(self, key: str, result: Any, *, ttl_seconds: float) -> None:
        await self._note("put")
        await super().put(key, result, ttl_seconds=ttl_seconds)

    async def _note(self, what: str) -> None:
        self.asked.append(what)
        if what in self.hanging:
            await asyncio.Event().wait()


class TestSlowCaches:
    """A cache that does not answer holds no call beyond its deadline."""

    async def ask(self, cache: HangingCache, /, **fields: Any) -> GenerationResult[Any]:
        async def slow(_: object) -> str:
            await asyncio.sleep(0.001)
            return "answer"

        self.service = BaseLLMService(
            model="m", provider=ScriptedProvider([fields.pop("reply", slow)]), cache=cache
        )
        asking = self.service.generate("?", deadline_seconds=0.05, **{"cache": KEEP, **fields})
        return await asyncio.wait_for(asking, timeout=2)

    async def test_a_call_whose_time_goes_by_at_the_cache_ends_as_late(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache = HangingCache("get")
        result = await self.ask(cache)
        assert result.error is not None
        assert result.error.type is ErrorType.TIMEOUT_DEADLINE
        assert result.error.message == "the deadline passed while the response cache was asked"
        assert not result.attempts
        assert cache.asked == ["get"]
        assert counts_of(self.service) == (0, 1, 0)
        assert "the response cache did not answer call" in caplog.text

    async def test_its_fallback_value_stands_in(self) -> None:
        assert (await self.ask(HangingCache("get"), fallback_value="mine")).content == "mine"

    async def test_a_good_answer_is_given_whether_it_can_be_stored_or_not(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache = HangingCache("put")
        result = await self.ask(cache)
        assert (result.success, result.content) == (True, "answer")
        assert cache.asked == ["get", "put"]
        assert "the response cache did not take call" in caplog.text

    async def test_a_failure_waits_for_a_stored_answer_no_longer_than_a_moment(self) -> None:
        refresh = CachePolicy(mode=CacheMode.REFRESH)
        result = await self.ask(HangingCache("get"), reply=WRONG_KEY, cache=refresh)
        assert result.error == WRONG_KEY

    async def test_a_cache_nearby_still_has_an_answer_for_a_call_that_was_too_late(self) -> None:
        class Nearby(HangingCache):
            async def _note(self, what: str) -> None:
                await asyncio.sleep(0.001)

        async def hang(_: object) -> str:
            await asyncio.Event().wait()
            raise AssertionError

        cache = Nearby()
        assert (await self.ask(cache)).content == "answer"
        refresh = CachePolicy(mode=CacheMode.REFRESH)
        result = await self.ask(cache, reply=hang, cache=refresh)
        assert (result.content, result.cached) == ("answer", True)

    async def test_without_a_deadline_a_call_waits_for_its_cache(self) -> None:
        cache = HangingCache("get")
        service = BaseLLMService(model="m", provider=ScriptedProvider(["x"]), cache=cache)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.generate("?", cache=KEEP), timeout=0.05)


class BadCache(MemoryCache):
    """Gives the same for every key, whatever it is."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found

    async def get(self, key: str) -> Any:
        return self.found


FAILED: GenerationResult[Any] = GenerationResult(
    success=False, timestamps=EventTimestamps(requested_at=ManualClock().now(), requested=0)
)


@pytest.mark.parametrize("found", [{"content": "x"}, "text", FAILED])
@pytest.mark.parametrize("mode", [CacheMode.USE, CacheMode.REFRESH])
@pytest.mark.parametrize("reply", ["fresh", WRONG_KEY])
async def test_a_cache_that_gives_what_is_no_answer_is_as_good_as_none(
    found: Any, mode: CacheMode, reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = BaseLLMService(model="m", provider=ScriptedProvider([reply]), cache=BadCache(found))
    result = await service.generate("?", cache=CachePolicy(mode=mode))
    assert (result.content, result.error) == ("fresh", None) or result.error == WRONG_KEY == reply
    asked = (mode is CacheMode.USE) + (reply is WRONG_KEY)
    assert caplog.text.count("that is no successful GenerationResult") == asked


@pytest.mark.parametrize("mode", [CacheMode.USE, CacheMode.REFRESH])
async def test_a_stored_answer_that_nobody_can_read_fails_the_call_at_most(mode: CacheMode) -> None:
    spoilt: Any = replace(FAILED, success=True, raw_content=5)
    service = BaseLLMService(
        model="m", provider=ScriptedProvider([WRONG_KEY]), cache=BadCache(spoilt)
    )
    result = await service.generate("?", cache=CachePolicy(mode=mode), fallback_value="mine")
    assert (result.success, result.content) == (True, "mine")
    assert len(service._in_flight) == 0


FULL = ProviderResponse(
    provider="scripted",
    model="m-2026",
    parts=(
        ReasoningPart(text="Hm."),
        TextPart(text="Two calls."),
        ToolCall(id="1", name="pay", arguments={"sum": 3}, arguments_text='{"sum": 3}'),
        ToolCall(id="2", name="go", arguments_text='{"wh', complete=False),
        AudioPart(data=b"RIFF", transcript="Two calls."),
    ),
    usage=Usage(input_tokens=3, output_tokens=9),
    finish_reason=FinishReason.TOOL_CALLS,
    response_id="response-1",
    dropped=("seed",),
)
FULL_AT_ONCE = [
    StreamStarted(model="m-2026", response_id="response-1"),
    ReasoningDelta(text="Hm."),
    TextDelta(text="Two calls."),
    ToolCallStarted(index=0, id="1", name="pay"),
    ToolCallDelta(index=0, arguments_text='{"sum": 3}'),
    ToolCallEnded(index=0, tool_call=FULL.tool_calls[0]),
    ToolCallStarted(index=1, id="2", name="go"),
    ToolCallDelta(index=1, arguments_text='{"wh'),
    AudioDelta(data=b"RIFF", transcript="Two calls."),
]


async def test_a_stored_answer_is_all_that_the_reply_was() -> None:
    c = Cached(FULL)
    first = await c.service.generate("?", cache=KEEP)
    again = await c.service.generate("?", cache=KEEP)
    assert again.cached
    for result in (first, again):
        assert result.reasoning == "Hm."
        assert result.tool_calls == FULL.tool_calls
        assert result.audio is not None
        assert (result.audio.data, result.audio.transcript) == (b"RIFF", "Two calls.")
        assert result.dropped == ("seed",)
        assert result.finish_reason is FinishReason.TOOL_CALLS
        assert (result.model, result.response_id) == ("m-2026", "response-1")


class TestStreams:
    async def test_a_stored_answer_is_streamed_with_every_part_in_one_piece(self) -> None:
        c = Cached(FULL)
        await c.service.generate("?", cache=KEEP)
        *pieces, last = [event async for event in c.service.stream("?", cache=KEEP)]
        assert pieces == FULL_AT_ONCE
        assert last.result.cached

    async def test_a_stream_gives_the_answer_of_an_identical_call_that_was_under_way(self) -> None:
        async def slow(_: object) -> ProviderResponse:
            await asyncio.sleep(0.01)
            return FULL

        c = Cached(slow)
        plain = asyncio.create_task(c.service.generate("?", cache=KEEP))
        await asyncio.sleep(0)
        *pieces, last = [event async for event in c.service.stream("?", cache=KEEP)]
        assert pieces == FULL_AT_ONCE
        assert last.result.tool_calls == (await plain).tool_calls
        assert len(c.provider.requests) == 1

    async def test_nobody_waits_for_the_reader_of_an_identical_stream(self) -> None:
        c = Cached("many words " * 100, "direct")
        async with aclosing(c.service.stream("?", cache=KEEP)) as stalled:
            await anext(stalled)
            result = await asyncio.wait_for(c.service.generate("?", cache=KEEP), timeout=5)
            assert result.content == "direct"

    async def test_identical_streams_are_asked_each_by_itself(self) -> None:
        async def slow(_: object) -> str:
            await asyncio.sleep(0.01)
            return "one"

        c = Cached(slow)

        async def last_of() -> Any:
            return [event async for event in c.service.stream("?", cache=KEEP)][-1]

        first, second = await asyncio.gather(last_of(), last_of())
        assert [event.result.cached for event in (first, second)] == [False, False]
        assert len(c.provider.requests) == 2


class TestRenewal:
    async def test_what_its_pipeline_refuses_does_not_take_a_good_answers_place(self) -> None:
        c = Cached("1", "no number", "3")
        ask = partial(c.service.generate, "?", cache=KEEP)
        await ask(pipeline=[int])
        c.clock.advance(100.0)
        await ask(pipeline=[int])
        await c.clock.run_for(0.0)
        stale = await ask(pipeline=[int])
        await c.clock.run_for(0.0)
        fresh = await ask(pipeline=[int])
        assert (stale.content, stale.degraded is None) == (1, False)
        assert (fresh.content, fresh.degraded) == (3, None)

    async def test_it_stands_still_for_nobody_and_belongs_to_the_callers_trace(self) -> None:
        c = Cached("old", lambda _: seen.append(standstill.get()) or "new")
        seen: list[Any] = []
        await c.service.generate("?", cache=KEEP)
        c.clock.advance(100.0)
        trace = TraceContext.new()
        token = standstill.set(Standstill(frozenset(), c.service._in_flight))
        with use_trace(trace):
            await c.service.generate("?", cache=KEEP)
        standstill.reset(token)
        await c.clock.run_for(0.0)
        assert seen == [None]
        assert trace.trace_id in str(c.provider.requests[-1].headers)

    async def test_it_is_not_begun_once_the_service_is_closed(self) -> None:
        c = Cached("old", "new")
        await c.service.generate("?", cache=KEEP)
        c.clock.advance(100.0)
        call = asyncio.create_task(c.service.generate("?", cache=KEEP))
        await asyncio.sleep(0)
        c.service._in_flight.closed = True
        assert (await call).content == "old"
        await c.clock.run_for(0.0)
        assert len(c.provider.requests) == 1

    async def test_closing_ends_it_in_order(self) -> None:
        async def hang(_: object) -> str:
            await asyncio.Event().wait()
            return "never"

        c = Cached("old", hang)
        await c.service.generate("?", cache=KEEP)
        c.clock.advance(100.0)
        await c.service.generate("?", cache=KEEP)
        await asyncio.sleep(0)
        assert len(c.service._in_flight) == 1
        (renewal,) = c.service._engine._recall_stage._renewals.values()
        await c.service.aclose(drain_seconds=0)
        assert (renewal.done(), renewal.cancelled()) == (True, False)
        assert c.service.usage.rows()[0].failures == 1

    def test_one_whose_loop_has_ended_is_begun_again(self) -> None:
        async def hang(_: object) -> str:
            await asyncio.Event().wait()
            return "never"

        c = Cached("old", hang, "new")
        left = asyncio.new_event_loop()
        left.run_until_complete(c.service.generate("?", cache=KEEP))
        c.clock.advance(100.0)
        left.run_until_complete(c.service.generate("?", cache=KEEP))
        left.close()

        async def stale_then_fresh() -> Any:
            await c.service.generate("?", cache=KEEP)
            await c.clock.run_for(0.0)
            return await c.service.generate("?", cache=KEEP)

        assert asyncio.run(stale_then_fresh()).degraded is None


class TestStats:
    async def test_helper_calls_are_not_saved_as_every_hit_makes_them_again(self) -> None:
        class Check:
            name = "check"

            async def run(self, text: str, context: StepContext) -> str:
                assert context.generate is not None
                await context.generate(GenerationRequest(user="right?"), purpose="check")
                return text

        c = Cached(FULL)
        service = BaseLLMService(
            model="m",
            provider=c.provider,
            cache=c.cache,
            clock=c.clock,
            price_book=FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(1)),
        )
        first, hit = [await service.generate("?", cache=KEEP, pipeline=Check()) for _ in range(2)]
        assert [len(result.attempts) for result in (first, hit)] == [2, 1]
        assert first.cost.amount == Decimal(24) / 1_000_000
        assert service.snapshot().cache.saved.amount == Decimal(12) / 1_000_000

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_a_forked_worker_counts_from_zero_and_renews_by_itself(self) -> None:
        program = """
import asyncio, os, sys
from llm_core import CacheMode, CachePolicy
from llm_core.testing import ManualClock, ScriptedProvider
from llm_service import BaseLLMService, MemoryResponseCache

keep = CachePolicy(mode=CacheMode.USE, ttl_seconds=10, stale_seconds=1000)
replies = ["old", lambda _: asyncio.Event().wait(), "new"]
clock = ManualClock()
service = BaseLLMService(
    model="m", provider=ScriptedProvider(replies), cache=MemoryResponseCache(clock=clock), clock=clock
)

async def ask(times):
    for _ in range(times):
        result = await service.generate("?", cache=keep)
        await asyncio.sleep(0.01)
    return result

loop = asyncio.new_event_loop()
loop.run_until_complete(ask(1))
clock.advance(20)
loop.run_until_complete(ask(1))
child = os.fork()
if child == 0:
    stats = service.snapshot().cache
    good = (stats.hits, stats.misses) == (0, 0) and not stats.saved.amount
    fresh = asyncio.run(ask(2))
    stats = service.snapshot().cache
    good = good and (fresh.content, fresh.degraded, stats.hits) == ("new", None, 2)
    os._exit(0 if good else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
        assert done.returncode == 0


class TestKeys:
    CALL = GenerationRequest(user="?").to_call("m")

    def key(self, call: LLMCallRequest) -> str:
        return cache_key("p", call, tenant=None)

    def test_how_a_call_is_carried_out_is_not_what_it_asks(self) -> None:
        sent = self.CALL.sent_with(headers={"traceparent": "00-1-2-01"}, timeout_seconds=3.0)
        assert self.key(sent) == self.key(self.CALL)

    def test_everything_else_is(self) -> None:
        # A reply in which something was dropped is none for a caller who wants an error then.
        drop = GenerationRequest(user="?", on_unsupported="drop").to_call("m")
        seed = GenerationRequest(user="?", seed=1).to_call("m")
        assert len({self.key(call) for call in (self.CALL, drop, seed)}) == 3


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
