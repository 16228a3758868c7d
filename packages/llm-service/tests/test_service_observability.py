"""What a service tells about itself: rates, usage, snapshots, traces."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from llm_core import (
    AttemptStarted,
    CacheMode,
    CachePolicy,
    ConfigurationError,
    ErrorInfo,
    ErrorType,
    TraceContext,
)
from llm_core.testing import FixedPriceBook, ManualClock, RecordingTelemetry, ScriptedProvider
from llm_metrics import use_trace
from llm_service import BaseLLMService, MemoryResponseCache, RetryPolicy

BUSY = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
PRICES = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(1))


async def test_results_tell_the_rates_before_and_after() -> None:
    service = BaseLLMService(model="m", provider=ScriptedProvider(), clock=ManualClock())
    first = await service.generate("one two")
    second = await service.generate("one two")
    assert (first.rates.rpm_before, first.rates.rpm_after) == (0.0, 1.0)
    assert (second.rates.rpm_before, second.rates.rpm_after) == (1.0, 2.0)
    assert second.rates.tpm_after == 8.0


async def test_a_snapshot_shows_traffic_limits_and_cache_together() -> None:
    service = BaseLLMService(
        model="m",
        provider=ScriptedProvider([BUSY, "two words"]),
        max_rpm=10,
        max_concurrent_requests=4,
        retry=RetryPolicy(initial_seconds=0.0),
        cache=MemoryResponseCache(),
        price_book=PRICES,
    )
    keep = CachePolicy(mode=CacheMode.USE)
    await service.generate("?", cache=keep, operation_name="ask")
    await service.generate("?", cache=keep, operation_name="ask")

    snapshot = service.snapshot()

    assert snapshot.stats.total.sent == 2
    assert snapshot.stats.by_operation["ask"].failed == 1
    assert snapshot.gates["scripted/m"].limit("rpm").used == 2
    assert snapshot.gates["scripted/m"].in_flight == snapshot.in_flight == 0
    assert (snapshot.cache.hits, snapshot.cache.misses) == (1, 1)
    assert snapshot.cache.saved.amount == Decimal("0.000003")
    json.dumps(snapshot.to_dict())


async def test_usage_adds_up_what_the_results_say() -> None:
    service = BaseLLMService(model="m", provider=ScriptedProvider(), price_book=PRICES)
    results = [await service.generate("one two", operation_name="ask") for _ in range(3)]
    (row,) = service.usage.rows()
    assert (row.operation, row.calls, row.attempts) == ("ask", 3, 3)
    assert row.cost["USD"].amount == sum(result.cost.amount for result in results)


async def test_an_active_trace_is_in_the_result_and_sent_to_the_provider() -> None:
    provider = ScriptedProvider()
    service = BaseLLMService(model="m", provider=provider)
    trace = TraceContext.new()
    with use_trace(trace):
        result = await service.generate("?")
    assert (result.trace_id, result.span_id) == (trace.trace_id, trace.span_id)
    assert provider.requests[0].headers["traceparent"] == trace.headers()["traceparent"]


async def test_without_a_trace_a_call_has_ids_of_its_own_and_sends_none() -> None:
    provider = ScriptedProvider()
    service = BaseLLMService(model="m", provider=provider)
    first, second = await service.generate("?"), await service.generate("?")
    assert first.trace_id != second.trace_id
    assert provider.requests[0].headers == {}


def test_telemetry_that_is_not_there_is_an_error_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="no-such-backend"):
        BaseLLMService(model="m", telemetry="no-such-backend")


def test_telemetry_is_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with BaseLLMService(model="m", provider=ScriptedProvider(), telemetry="jsonl") as service:
        service.generate_sync("?", operation_name="ask")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines
    assert "ask" in json.dumps(lines)


async def test_telemetry_hears_where_the_provider_is() -> None:
    class Somewhere(ScriptedProvider):
        server_address = ("api.test", 8443)

    told = RecordingTelemetry()
    for provider in (Somewhere(), ScriptedProvider()):
        async with BaseLLMService(model="m", provider=provider, telemetry=told) as service:
            await service.generate("?")
    started = [event for event in told.events if isinstance(event, AttemptStarted)]
    assert [(e.server_address, e.server_port) for e in started] == [
        ("api.test", 8443),
        (None, None),
    ]
