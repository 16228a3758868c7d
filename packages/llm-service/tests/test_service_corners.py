"""Corners in which several features meet: sharing and cancelling, caching and pipelines, hedging and streams, money."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from llm_core import (
    CacheMode,
    CachePolicy,
    Cost,
    CostStatus,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    LLMCallRequest,
    ProviderResponse,
    RateLimitFacts,
    RateLimitWindow,
    StreamDone,
    StreamEvent,
    TextDelta,
    TextPart,
    UnsupportedFeature,
    Usage,
)
from llm_core.testing import FixedPriceBook, ManualClock, OpenGate, ScriptedProvider
from llm_gates import BudgetGate
from llm_service import BaseLLMService, HedgePolicy, MemoryResponseCache, RetryPolicy

KEEP = CachePolicy(mode=CacheMode.USE, ttl_seconds=60.0)
OVERLOADED = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
ONCE = RetryPolicy(max_attempts=1)
PRICES = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(1))


class Slow:
    """Answers when told to."""

    def __init__(self, reply: Any = "answer") -> None:
        self.go = asyncio.Event()
        self.reply = reply
        self.provider = ScriptedProvider([self.answer])

    async def answer(self, _: object) -> Any:
        await self.go.wait()
        return self.reply

    async def started(self) -> None:
        while not self.provider.requests:
            await asyncio.sleep(0)


class TestSharing:
    async def test_one_who_stops_waiting_takes_nobody_with_him(self) -> None:
        slow = Slow()
        service = BaseLLMService(model="m", provider=slow.provider, cache=MemoryResponseCache())
        leader, leaver, waiter = [
            asyncio.create_task(service.generate("?", cache=KEEP)) for _ in range(3)
        ]
        await slow.started()
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(0)
        slow.go.set()

        assert (await leader).content == (await waiter).content == "answer"
        assert leaver.cancelled() or leaver.cancelling()
        with pytest.raises(asyncio.CancelledError):
            await leaver

    async def test_a_waiter_keeps_his_own_deadline(self) -> None:
        slow = Slow()
        service = BaseLLMService(model="m", provider=slow.provider, cache=MemoryResponseCache())
        leader = asyncio.create_task(service.generate("?", cache=KEEP))
        await slow.started()

        waiter = await service.generate("?", cache=KEEP, deadline_seconds=0.02)

        assert waiter.error.type is ErrorType.TIMEOUT_DEADLINE
        slow.go.set()
        assert (await leader).success

    async def test_a_waiter_does_not_inherit_anothers_deadline(self) -> None:
        slow = Slow()
        service = BaseLLMService(model="m", provider=slow.provider, cache=MemoryResponseCache())
        leader = asyncio.create_task(service.generate("?", cache=KEEP, deadline_seconds=0.02))
        await slow.started()
        waiter = asyncio.create_task(service.generate("?", cache=KEEP))
        assert (await leader).error.type is ErrorType.TIMEOUT_DEADLINE
        slow.go.set()
        assert (await waiter).content == "answer"


class TestCachedReplies:
    async def test_each_caller_refines_the_stored_reply_by_his_own_pipeline(self) -> None:
        provider = ScriptedProvider(["42"])
        service = BaseLLMService(model="m", provider=provider, cache=MemoryResponseCache())
        number = await service.generate("?", cache=KEEP, pipeline=[int])
        text = await service.generate("?", cache=KEEP)
        float_ = await service.generate("?", cache=KEEP, pipeline=[float])

        assert [number.content, text.content, float_.content] == [42, "42", 42.0]
        assert [number.cached, text.cached, float_.cached] == [False, True, True]
        assert [len(r.steps) for r in (number, text, float_)] == [1, 0, 1]

    async def test_a_lesser_answer_is_not_stored_as_the_wanted_one(self) -> None:
        replies = [OVERLOADED, "from small", "from large"]
        service = BaseLLMService(
            model="large",
            provider=ScriptedProvider(replies),
            cache=MemoryResponseCache(),
            fallbacks=["small"],
            retry=ONCE,
        )
        first = await service.generate("?", cache=KEEP)
        second = await service.generate("?", cache=KEEP)
        assert first.degraded.reason is DegradedReason.FALLBACK_MODEL
        assert (second.content, second.cached, second.degraded) == ("from large", False, None)

    async def test_many_stale_hits_are_renewed_once(self) -> None:
        clock = ManualClock()
        slow = Slow("new")
        slow.go.set()
        service = BaseLLMService(
            model="m", provider=slow.provider, cache=MemoryResponseCache(clock=clock), clock=clock
        )
        stale = CachePolicy(mode=CacheMode.USE, ttl_seconds=1.0, stale_seconds=100.0)
        await service.generate("?", cache=stale)
        clock.advance(10.0)
        slow.go.clear()
        hits = await asyncio.gather(*[service.generate("?", cache=stale) for _ in range(20)])
        await asyncio.sleep(0)
        assert all(hit.cached for hit in hits)
        assert len(slow.provider.requests) == 2
        slow.go.set()

    async def test_a_cancel_while_storing_keeps_the_call_in_the_books(self) -> None:
        class SlowCache(MemoryResponseCache):
            async def put(self, key: str, result: Any, *, ttl_seconds: float) -> None:
                await asyncio.Event().wait()

        service = BaseLLMService(model="m", provider=ScriptedProvider(["x"]), cache=SlowCache())
        task = asyncio.create_task(service.generate("?", cache=KEEP))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.usage.rows()[0].calls == 1


class TestHedgedStreams:
    async def test_what_is_returned_is_what_was_shown(self) -> None:
        class Two:
            name = "two"

            def __init__(self) -> None:
                self.calls = 0

            async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
                raise AssertionError("only streams")

            async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
                self.calls += 1
                name = "first" if self.calls == 1 else "hedge"
                await asyncio.sleep(0.03 if name == "first" else 0.01)
                yield TextDelta(text=name)
                await asyncio.sleep(0.05 if name == "first" else 0.0)
                parts = (TextPart(text=name),)
                yield StreamDone(response=ProviderResponse(provider="two", model="m", parts=parts))

            async def aclose(self) -> None:
                """Nothing to close."""

        for after in (0.001, 0.025):
            service = BaseLLMService(
                model="m", provider=Two(), hedge=HedgePolicy(after_seconds=after)
            )
            *pieces, last = [event async for event in service.stream("?")]
            assert "".join(p.text for p in pieces) == last.result.content
            assert last.result.attempts[-1].success or last.result.attempts[0].success

    async def test_waiting_at_our_own_gates_is_not_slowness(self) -> None:
        async def answer(_: object) -> str:
            await asyncio.sleep(0.01)
            return "x"

        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider([answer]),
            max_concurrent_requests=1,
            hedge=HedgePolicy(after_seconds=0.5, budget_ratio=1.0),
        )
        results = await asyncio.gather(*[service.generate("?") for _ in range(5)])
        assert [len(result.attempts) for result in results] == [1] * 5

    async def test_the_times_are_those_of_the_attempt_that_answered(self) -> None:
        calls = 0

        async def answer(_: object) -> str:
            nonlocal calls
            calls += 1
            if calls == 1:
                await asyncio.Event().wait()
            return "from the hedge"

        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider([answer]),
            hedge=HedgePolicy(after_seconds=0.01),
        )
        result = await service.generate("?")
        assert result.timestamps.started == result.attempts[1].timestamps.started


class TestMoney:
    async def test_a_broken_price_book_spoils_no_answer(self) -> None:
        class Broken:
            def price(self, usage: Usage, *, provider: str, model: str, at: datetime) -> Cost:
                raise KeyError(model)

        service = BaseLLMService(model="m", provider=ScriptedProvider(["x"]), price_book=Broken())
        result = await service.generate("?")
        assert result.content == "x"
        assert result.cost.status is CostStatus.UNPRICED

    async def test_two_currencies_have_no_sum_and_break_nothing(self) -> None:
        class ByModel:
            def price(self, usage: Usage, *, provider: str, model: str, at: datetime) -> Cost:
                currency = "EUR" if model == "small" else "USD"
                return Cost(amount=Decimal(1), currency=currency, status=CostStatus.PRICED)

        partial = ProviderResponse(provider="p", model="m", usage=Usage(input_tokens=1))
        cut = ErrorInfo.of(ErrorType.OVERLOADED, "cut", partial=partial)
        service = BaseLLMService(
            model="large",
            provider=ScriptedProvider([cut, "x"]),
            fallbacks=["small"],
            retry=ONCE,
            price_book=ByModel(),
        )
        result = await service.generate("?")
        assert result.content == "x"
        assert (result.cost.amount, result.cost.status) == (None, CostStatus.UNPRICED)
        assert [a.cost.currency for a in result.attempts] == ["USD", "EUR"]

    async def test_a_budget_counts_what_calls_cost(self) -> None:
        reply = ProviderResponse(
            provider="p", model="m", parts=(TextPart(text="x"),), usage=Usage(input_tokens=20_000)
        )
        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider([reply]),
            gate=BudgetGate(Decimal("0.05"), per="total"),
            price_book=PRICES,
        )
        results = [await service.generate("?") for _ in range(4)]
        assert [result.success for result in results] == [True, True, True, False]
        assert results[-1].error.type is ErrorType.BUDGET_DENIED

    @pytest.mark.parametrize(
        ("failure", "spent"),
        [
            pytest.param(ErrorInfo.of(ErrorType.RATE_LIMITED, "slower"), 0, id="refused"),
            pytest.param(RuntimeError("a fault of the provider's code"), 0, id="broken"),
            pytest.param(UnsupportedFeature("no such thing"), 0, id="never sent"),
            pytest.param(
                ErrorInfo.of(
                    ErrorType.TRUNCATED,
                    "cut",
                    partial=ProviderResponse(
                        provider="p", model="m", usage=Usage(input_tokens=20_000)
                    ),
                ),
                Decimal("0.02"),
                id="billed in part",
            ),
        ],
    )
    async def test_a_failed_call_costs_its_budget_what_it_cost(
        self, failure: Any, spent: Decimal
    ) -> None:
        budget = BudgetGate(Decimal(1), per="total")
        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider([failure]),
            gate=budget,
            price_book=PRICES,
            retry=ONCE,
        )
        result = await service.generate("?", max_output_tokens=100_000)
        assert not result.success
        assert (result.cost.amount or 0) == spent
        assert budget.snapshot().limits[0].used == spent

    async def test_a_cancelled_call_costs_its_budget_what_was_sent(self) -> None:
        slow = Slow()
        budget = BudgetGate(Decimal(1), per="total")
        service = BaseLLMService(model="m", provider=slow.provider, gate=budget, price_book=PRICES)
        call = asyncio.create_task(service.generate("x" * 4_000, max_output_tokens=100_000))
        await slow.started()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert budget.snapshot().limits[0].used == Decimal("0.001004")

    async def test_a_reply_without_usage_is_counted_here(self) -> None:
        reply = ProviderResponse(provider="p", model="m", parts=(TextPart(text="eight ch"),))
        gate = OpenGate()
        service = BaseLLMService(model="m", provider=ScriptedProvider([reply]), gate=gate)
        result = await service.generate("four")
        assert result.usage == Usage(input_tokens=5, output_tokens=2, estimated=True)
        assert gate.permits[0].settled == 7


class TestDeadlinesAndRefusals:
    async def test_the_deadline_holds_in_the_pipeline_too(self) -> None:
        async def dawdle(text: str) -> str:
            await asyncio.Event().wait()
            return text

        service = BaseLLMService(model="m", provider=ScriptedProvider(["raw"]))
        result = await service.generate("?", pipeline=[dawdle], deadline_seconds=0.02)
        assert result.error.type is ErrorType.TIMEOUT_DEADLINE
        assert result.content == "raw"

    async def test_the_deadline_holds_in_the_pipeline_of_a_stored_answer_too(self) -> None:
        async def dawdle(text: str) -> str:
            await asyncio.Event().wait()
            return text

        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider(["stored", ErrorInfo.of(ErrorType.AUTHENTICATION, "who?")]),
            cache=MemoryResponseCache(),
        )
        await service.generate("?", cache=KEEP)
        result = await service.generate(
            "?",
            cache=CachePolicy(mode=CacheMode.REFRESH),
            pipeline=[dawdle],
            deadline_seconds=0.02,
            fallback_value="nothing",
        )
        assert (result.success, result.content) == (True, "nothing")
        assert result.degraded.reason is DegradedReason.FALLBACK_VALUE
        assert result.error.type is ErrorType.TIMEOUT_DEADLINE

    async def test_a_timeout_of_the_provider_is_not_taken_for_the_deadline(self) -> None:
        service = BaseLLMService(model="m", provider=ScriptedProvider([TimeoutError("its own")]))
        result = await service.generate("?", deadline_seconds=60)
        assert result.error.type is not ErrorType.TIMEOUT_DEADLINE

    async def test_a_refusal_teaches_the_gates_and_holds_nobody_for_a_day(self) -> None:
        facts = RateLimitFacts(requests=RateLimitWindow(limit=10, remaining=0, reset_seconds=9.0))
        refusal = ErrorInfo.of(
            ErrorType.RATE_LIMITED, "tomorrow", retry_after=86_400.0, rate_limits=facts
        )
        gate = OpenGate()
        service = BaseLLMService(model="m", provider=ScriptedProvider([refusal]), gate=gate)
        await service.generate("?")
        assert gate.observed == [facts]
        assert gate.held_seconds == [120.0]

    async def test_what_a_refusal_says_of_limits_holds_nobody_for_a_day_either(self) -> None:
        refusal = ErrorInfo.of(
            ErrorType.RATE_LIMITED, "tomorrow", rate_limits=RateLimitFacts(retry_after=86_400.0)
        )
        gate = OpenGate()
        service = BaseLLMService(
            model="m", provider=ScriptedProvider([refusal]), gate=gate, retry=ONCE
        )
        await service.generate("?")
        assert gate.observed == [RateLimitFacts(retry_after=120.0)]

    @pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
    async def test_a_wait_that_is_no_wait_neither_stops_a_retry_nor_loses_an_answer(
        self, seconds: float
    ) -> None:
        facts = RateLimitFacts(retry_after=seconds)
        refusal = ErrorInfo.of(
            ErrorType.RATE_LIMITED, "slow down", retry_after=seconds, rate_limits=facts
        )
        answer = ProviderResponse(
            provider="p", model="m", parts=(TextPart(text="yes"),), rate_limits=facts
        )
        service = BaseLLMService(
            model="m",
            provider=ScriptedProvider([refusal, answer]),
            max_rpm=100,
            retry=RetryPolicy(initial_seconds=0),
        )
        result = await service.generate("?")
        assert (result.content, len(result.attempts)) == ("yes", 2)

    async def test_an_absurd_wait_loses_no_answer(self) -> None:
        answer = ProviderResponse(
            provider="p",
            model="m",
            parts=(TextPart(text="yes"),),
            rate_limits=RateLimitFacts(retry_after=1e300),
        )
        service = BaseLLMService(model="m", provider=ScriptedProvider([answer]), max_rpm=100)
        assert (await service.generate("?")).content == "yes"

    async def test_a_rung_that_cannot_be_asked_is_stepped_over(self) -> None:
        class Picky(ScriptedProvider):
            pass

        from llm_providers import ProviderRegistry

        registry = ProviderRegistry(
            {"a": Picky([OVERLOADED], name="a"), "c": Picky(["from c"], name="c")}
        )
        service = BaseLLMService(
            model="a/m", registry=registry, fallbacks=["no-such-model", "c/m"], retry=ONCE
        )
        result = await service.generate("?")
        assert (result.content, result.provider) == ("from c", "c")
