from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from llm_core import (
    Cost,
    CostStatus,
    GenerationResult,
    MissingDependencyError,
    TelemetryEvent,
    Usage,
)
from llm_core.example_call import example_result
from llm_metrics import UsageStats


def test_a_call_is_added_with_its_attempts_tokens_money_and_waits(
    events: list[TelemetryEvent],
) -> None:
    stats = UsageStats()
    for event in events:
        stats.emit(event)
    stats.close()
    [row] = stats.rows()
    assert (row.operation, row.provider, row.model) == ("translate", "openai", "gpt-5-mini")
    assert (row.calls, row.failures, row.attempts, row.unpriced_attempts) == (1, 0, 2, 0)
    assert row.usage == Usage(input_tokens=1000, output_tokens=40, cache_read_tokens=200)
    assert row.cost["USD"].amount == Decimal("0.0002850")
    assert (row.gate_wait_seconds, row.backoff_seconds) == (0.1, 0.2)


def test_retries_reasks_and_cut_streams_are_all_paid_for() -> None:
    made = example_result()
    answer = made.attempts[1]
    price = Cost(amount=Decimal("0.01"), status=CostStatus.PRICED, source="override")
    cut = replace(
        answer,
        number=3,
        error=made.attempts[0].error,
        usage=Usage(input_tokens=1000, output_tokens=7, estimated=True),
        cost=replace(price, status=CostStatus.ESTIMATED),
    )
    reask = replace(answer, number=4, purpose="reask", cost=price)
    isolation = replace(answer, number=5, purpose="isolation", cost=price, model="gpt-5-nano")
    attempts = (*made.attempts, cut, reask, isolation)
    stats = UsageStats()
    stats.record(replace(made, attempts=attempts))
    mini, nano = stats.rows()
    assert (mini.attempts, nano.attempts) == (4, 1)
    assert mini.cost["USD"].amount == Decimal("0.0202850")
    assert mini.cost["USD"].status is CostStatus.ESTIMATED
    assert mini.usage.estimated
    assert nano.cost["USD"].amount == Decimal("0.01")
    assert mini.calls + nano.calls == 1


def test_an_unknown_price_is_counted_and_not_a_silent_zero() -> None:
    made = example_result()
    unpriced = replace(made.attempts[1], cost=Cost())
    stats = UsageStats()
    stats.record(replace(made, attempts=(unpriced,)))
    [row] = stats.rows()
    assert (row.unpriced_attempts, row.cost) == (1, {})


def test_currencies_are_not_mixed() -> None:
    made = example_result()
    euro = Cost(amount=Decimal(1), currency="EUR", status=CostStatus.PRICED)
    stats = UsageStats()
    stats.record(made)
    stats.record(replace(made, attempts=(replace(made.attempts[1], cost=euro),)))
    [row] = stats.rows()
    assert {name: cost.amount for name, cost in row.cost.items()} == {
        "USD": Decimal("0.0002850"),
        "EUR": Decimal(1),
    }


def test_a_failure_without_any_attempt_still_counts() -> None:
    stats = UsageStats()
    stats.record(example_result(success=False, attempts=(), model=None, provider=None))
    [row] = stats.rows()
    assert (row.calls, row.failures, row.model) == (1, 1, "")


def test_reset_hands_over_what_there_was(result: GenerationResult[Any]) -> None:
    stats = UsageStats()
    stats.record(result)
    before = stats.rows()
    assert stats.reset() == before
    assert stats.rows() == ()


def test_it_is_data_that_json_takes(result: GenerationResult[Any]) -> None:
    stats = UsageStats()
    stats.record(result)
    [row] = json.loads(json.dumps(stats.to_dict()))["rows"]
    assert row["usage"]["input_tokens"] == 1000
    assert row["cost"]["USD"]["amount"] == "0.0002850"


def shown(stats: UsageStats, *, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(stats.table())
    return console.export_text()


def test_the_table_shows_a_row_for_people() -> None:
    stats = UsageStats()
    stats.record(example_result())
    unpriced = replace(example_result().attempts[1], cost=None)
    stats.record(example_result(operation_name=None, attempts=(unpriced,)))
    text = shown(stats, width=200)
    assert "openai" in text
    assert "gpt-5-mini" in text
    assert "0.000285 USD" in text
    assert "1 unpriced" in text


def test_a_terminal_of_80_characters_shows_the_whole_table() -> None:
    stats = UsageStats()
    many = Usage(
        input_tokens=1_234_567_890,
        output_tokens=98_765_432,
        cache_read_tokens=1_000_000_000,
        reasoning_tokens=87_654_321,
    )
    attempt = replace(example_result().attempts[1], usage=many, model="claude-sonnet-4-5-20250929")
    stats.record(example_result(operation_name="summarise_letter", attempts=(attempt,)))
    text = shown(stats, width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for figure in ("summarise_letter", "attempts", "reasoning", "1,234,567,890", "87,654,321"):
        assert figure in text, text


def test_without_rich_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.table", None)
    with pytest.raises(MissingDependencyError, match=r"llm-metrics\[table\]"):
        UsageStats().table()
