"""Every fault a vendor can show, through the whole service over real HTTP.

For each fault: plain and streamed, sync and async, without a ladder, with a fallback model and with a fallback value.
Nothing is ever thrown, the kind of failure is right, the gates get everything back, and the ledger is the vendor's bill.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from llm_core import CostStatus, DegradedReason, ErrorType, GenerationResult, StreamResult
from llm_core.testing import FixedPriceBook
from llm_providers import OpenAIProvider
from llm_providers.testing import FAULT_TABLE, FaultRow, Outcome
from llm_service import BaseLLMService, Fallback, RetryPolicy
from llm_sim import Report, SimServer
from llm_sim.faults import Faults

pytestmark = pytest.mark.realtime

ANSWER = "Hello there, my dear friend 😀 how are you today?"
SCRIPT = {
    "rules": [
        {
            "exact": f"fault {row.fault}",
            "model": "gpt-5-mini",
            "reply": {"text": ANSWER, "fault": row.fault},
        }
        for row in FAULT_TABLE
    ],
    "default": {"text": "from the backup"},
}
# The simulator's price of gpt-5-mini, in dollars per million tokens.
PRICES = FixedPriceBook(input_per_million=Decimal("0.25"), output_per_million=Decimal("2"))


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer(SCRIPT, faults=Faults(slow_seconds=0.05, stall_seconds=30)) as server:
        yield server


@pytest.fixture
async def serve(sim: SimServer) -> AsyncIterator[Callable[..., BaseLLMService]]:
    services: list[BaseLLMService] = []

    def make(**options: Any) -> BaseLLMService:
        provider = OpenAIProvider(
            api_key="simulated",
            base_url=sim.openai_base_url,
            timeout_seconds=0.5,
            idle_timeout_seconds=0.2,
        )
        service = BaseLLMService(
            model="gpt-5-mini",
            provider=provider,
            max_rpm=10_000,
            max_tpm=10_000_000,
            max_concurrent_requests=4,
            retry=RetryPolicy(max_attempts=1),
            breaker=None,
            price_book=PRICES,
            telemetry="none",
            **options,
        )
        services.append(service)
        return service

    yield make
    for service in services:
        await service.aclose()


async def in_all_ways(
    service: BaseLLMService, **request: Any
) -> AsyncIterator[tuple[str, GenerationResult[Any]]]:
    """Ask plain and streamed, async and sync, one after the other; give each way with its result."""
    yield "plain", await service.generate(**request)
    yield "plain", service.generate_sync(**request)
    *_, streamed = [event async for event in service.stream(**request)]
    assert isinstance(streamed, StreamResult)
    yield "streamed", streamed.result
    *_, streamed = list(service.stream_sync(**request))
    assert isinstance(streamed, StreamResult)
    yield "streamed", streamed.result


def expected(row: FaultRow, way: str) -> Outcome:
    return row.plain if way == "plain" else row.streamed


def assert_gates_are_whole(service: BaseLLMService) -> None:
    for gate in service.snapshot().gates.values():
        assert gate.in_flight == gate.queued == 0


@pytest.mark.parametrize("row", FAULT_TABLE, ids=lambda row: row.fault)
async def test_a_fault_is_a_typed_result_in_every_way_of_calling(
    row: FaultRow, serve: Callable[..., BaseLLMService]
) -> None:
    service = serve()
    async for way, result in in_all_ways(service, user=f"fault {row.fault}"):
        assert isinstance(result, GenerationResult)
        want = expected(row, way)
        assert (result.error and result.error.type) == want.error_type, (way, result.error)
        assert result.success == (want.error_type is None)
        assert len(result.attempts) == 1
        if want.error_type is None:
            assert result.content == ANSWER
        if want.keeps_text and way == "streamed":
            assert result.raw_content
            assert ANSWER.startswith(result.raw_content)
            assert result.usage.total_tokens > 0
            assert result.cost.amount
    assert_gates_are_whole(service)


@pytest.mark.parametrize("row", FAULT_TABLE, ids=lambda row: row.fault)
async def test_a_fault_is_made_up_for_by_a_fallback_model_or_value(
    row: FaultRow, serve: Callable[..., BaseLLMService]
) -> None:
    service = serve(fallbacks=[Fallback(model="gpt-5-nano")])
    async for way, result in in_all_ways(service, user=f"fault {row.fault}", fallback_value="mine"):
        want = expected(row, way)
        assert result.success, (way, result.error)
        seen = want.keeps_text and way == "streamed"
        if want.error_type is None:
            assert (result.content, result.degraded) == (ANSWER, None)
        elif want.error_type.traits.may_fall_back and not seen:
            assert result.content == "from the backup"
            assert result.degraded.reason is DegradedReason.FALLBACK_MODEL
            assert result.degraded.error.type is want.error_type
            assert len(result.attempts) == 2
        else:
            assert result.content == "mine"
            assert result.degraded.reason is DegradedReason.FALLBACK_VALUE
    assert_gates_are_whole(service)


async def bill(sim: SimServer) -> Report:
    """Return the vendor's bill once it has seen the end of every call."""
    async with asyncio.timeout(5):
        while (report := sim.report()).running:
            await asyncio.sleep(0.005)
    return report


@pytest.mark.parametrize("row", FAULT_TABLE, ids=lambda row: row.fault)
async def test_the_ledger_is_what_the_vendor_billed_to_the_digit_unless_the_answer_got_lost(
    row: FaultRow, sim: SimServer, serve: Callable[..., BaseLLMService]
) -> None:
    service = serve()
    sim.reset()
    async for _, result in in_all_ways(service, user=f"fault {row.fault}"):
        billed = await bill(sim)
        sim.reset()

        assert (len(result.attempts), billed.calls) == (1, 1)
        if result.success or not billed.cost_usd:
            assert result.usage.input_tokens == billed.usage.input_tokens
            assert result.usage.output_tokens == billed.usage.output_tokens
            assert result.cost.amount == billed.cost_usd
            assert result.cost.status is CostStatus.PRICED
        else:
            assert result.usage.estimated
            assert result.usage.input_tokens > 0
            assert 0 < result.cost.amount <= billed.cost_usd
            assert result.cost.status is CostStatus.ESTIMATED


async def test_the_retry_of_a_lost_answer_leaves_both_attempts_on_the_ledger(
    sim: SimServer, serve: Callable[..., BaseLLMService]
) -> None:
    service = serve(fallbacks=[Fallback(model="gpt-5-nano")])
    result = await service.generate(user="fault reset")

    lost, answered = result.attempts
    assert (lost.usage.estimated, answered.usage.estimated) == (True, False)
    assert (lost.cost.status, answered.cost.status) == (CostStatus.ESTIMATED, CostStatus.PRICED)
    assert result.cost.amount == lost.cost.amount + answered.cost.amount
    assert result.cost.status is CostStatus.ESTIMATED


async def test_what_never_reached_the_vendor_costs_nothing() -> None:
    with SimServer() as gone:
        url = gone.openai_base_url
    service = BaseLLMService(
        model="gpt-5-mini",
        provider=OpenAIProvider(api_key="simulated", base_url=url),
        retry=RetryPolicy(max_attempts=1),
        price_book=PRICES,
        telemetry="none",
    )
    async with service:
        result = await service.generate("anyone there?")
    assert result.error is not None
    assert result.error.type is ErrorType.CONNECTION
    assert result.attempts[0].usage is None
    assert (result.cost.amount, result.cost.status) == (0, CostStatus.PRICED)
