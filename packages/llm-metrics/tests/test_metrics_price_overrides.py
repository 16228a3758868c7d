"""Prices of one's own, over the published ones."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_core import Cost, CostStatus, InvalidValue, LLMError, Usage
from llm_metrics import PriceBook, PriceOverrides, Quantities

TEXT = """
prices:
  - provider: openai
    model: "ft:gpt-4o:acme:*"
    per_million_tokens: {input: 3.75, output: 15, cache_read: 1.875, reasoning: 20}
  - provider: "*"
    model: house-model
    from: 2026-01-01
    until: 2026-07-01
    currency: EUR
    per_million_tokens: {input: 0.1, output: 0.1}
    per_request: 0.001
  - provider: "*"
    model: house-model
    tier: batch
    per_million_tokens: {input: 0.05, output: 0.05}
  - {provider: ear, model: hear-1, per_audio_minute: 0.006}
  - {provider: mouth, model: say-1, per_million_characters: 15.50}
  - {provider: home, model: "*", per_million_tokens: {input: 0, output: 0}}
"""


def price_of(provider: str, model: str, at: str = "2026-03-01", **more: Any) -> Cost:
    usage = more.pop("usage", Usage(input_tokens=1_000_000, output_tokens=1_000_000))
    book = PriceBook(overrides=PriceOverrides.parse(TEXT))
    when = datetime.fromisoformat(at).replace(tzinfo=UTC)
    return book.price(usage, provider=provider, model=model, at=when, **more)


def test_other_prices_of_ones_own_hold_from_the_next_call_on(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("prices: 3", encoding="utf-8")
    book, noon = PriceBook(), datetime(2026, 3, 1, 12, tzinfo=UTC)
    book.use_overrides(PriceOverrides.parse(TEXT))
    with pytest.raises(LLMError):
        book.use_overrides(wrong)
    asked = {"provider": "home", "model": "any", "at": noon}
    assert book.price(Usage(input_tokens=5), **asked).amount == 0
    book.use_overrides(None)
    assert book.price(Usage(input_tokens=5), **asked).amount is None


def test_names_may_have_a_star_and_numbers_are_exact() -> None:
    cost = price_of("openai", "ft:gpt-4o:acme:support:9a")
    assert (str(cost.amount), cost.source, cost.status) == ("18.75", "override", "priced")


def test_parts_with_a_price_of_their_own_are_taken_out_of_the_total() -> None:
    usage = Usage(
        input_tokens=1_000_000,
        cache_read_tokens=400_000,
        cache_write_tokens=100_000,
        output_tokens=500_000,
        reasoning_tokens=100_000,
        audio_output_tokens=50_000,
    )
    cost = price_of("openai", "ft:gpt-4o:acme:x", usage=usage)
    expected = (
        Decimal("0.4") * Decimal("1.875")
        + Decimal("0.6") * Decimal("3.75")
        + Decimal("0.1") * 20
        + Decimal("0.4") * 15
    )
    assert cost.amount == expected


def test_an_entry_holds_from_its_first_day_to_the_day_before_its_end() -> None:
    for day in ("2026-01-01", "2026-06-30T23:59:59"):
        cost = price_of("any", "house-model", day)
        assert (cost.amount, cost.currency) == (Decimal("0.201"), "EUR")
    for day in ("2025-12-31", "2026-07-01"):
        assert price_of("any", "house-model", day).status is CostStatus.UNPRICED


def test_a_tiers_entry_holds_for_that_tier_only() -> None:
    cost = price_of("any", "house-model", tier="batch")
    assert (cost.amount, cost.currency) == (Decimal("0.10"), "USD")


def test_minutes_and_characters_have_prices_too() -> None:
    nothing = Usage()
    minutes = Quantities(audio_seconds=Decimal(90))
    assert price_of("ear", "hear-1", usage=nothing, also=minutes).amount == Decimal("0.009")
    text = Quantities(characters=2_000_000)
    assert price_of("mouth", "say-1", usage=nothing, also=text).amount == Decimal(31)


@pytest.mark.parametrize(
    ("provider", "model", "used"),
    [
        ("ear", "hear-1", {}),
        ("mouth", "say-1", {"usage": Usage(), "also": Quantities(audio_seconds=Decimal(1))}),
        ("ear", "hear-1", {"usage": Usage(), "also": Quantities(characters=1)}),
        ("home", "x", {"usage": Usage(), "also": Quantities(web_searches=1)}),
    ],
)
def test_what_an_entry_has_no_price_for_is_unpriced(
    provider: str, model: str, used: dict[str, Any]
) -> None:
    cost = price_of(provider, model, **used)
    assert (cost.amount, cost.source) == (None, "override")


def test_a_price_of_zero_that_somebody_wrote_down_is_a_price() -> None:
    cost = price_of("home", "llama4")
    assert (cost.amount, cost.status) == (Decimal(0), CostStatus.PRICED)


def test_a_file_is_read_and_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(TEXT, encoding="utf-8")
    assert len(PriceOverrides.read(path)) == 6
    assert PriceBook(overrides=str(path)).prices_file is None
    path.write_text("prices: 3", encoding="utf-8")
    with pytest.raises(InvalidValue, match=r"prices\.yaml: prices: got 3"):
        PriceOverrides.read(path)


def test_an_empty_file_has_no_entries() -> None:
    assert len(PriceOverrides.parse("")) == len(PriceOverrides.parse("prices:")) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices: [", "not valid YAML"),
        ("[1]", "expected a mapping with prices"),
        ("price: []", "did you mean 'prices'"),
        ("prices: [{provider: a, model: b}]", r"prices\[0\]: got no price"),
        ("prices: [{provider: a, per_request: 1}]", r"prices\[0\].model: got None"),
        ("prices: [{provider: 3, model: b, per_request: 1}]", r"prices\[0\].provider: got 3"),
        (
            "prices: [{provider: a, model: b, per_million_tokens: {inptu: 1}}]",
            "did you mean 'input'",
        ),
        ("prices: [{provider: a, model: b, zzz: 1}]", "got 'zzz', expected only the fields"),
        ("prices: [{provider: a, model: b, per_request: -1}]", "per_request: got -1"),
        ("prices: [{provider: a, model: b, per_request: .nan}]", "per_request: got"),
        ("prices: [{provider: a, model: b, per_request: true}]", "per_request: got True"),
        (
            "prices: [{provider: a, model: b, per_request: 1, currency: dollars}]",
            "currency: got 'dollars'",
        ),
        ("prices: [{provider: a, model: b, per_request: 1, tier: 7}]", "tier: got 7"),
        ("prices: [{provider: a, model: b, per_request: 1, from: soon}]", "from: got 'soon'"),
        (
            "prices: [{provider: a, model: b, per_request: 1, from: 2026-02-01, until: 2026-01-01}]",
            "until: got .*expected a day after from, 2026-02-01",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        PriceOverrides.parse(text)


def test_a_time_of_day_may_be_given_in_any_timezone() -> None:
    entry = PriceOverrides.parse(
        "prices: [{provider: a, model: b, per_request: 1, from: 2026-01-01T02:00:00+02:00,"
        " until: 2026-02-01T00:00:00}]"
    )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert entry.find(provider="a", model="b", at=at) is not None
    assert entry.find(provider="a", model="b", at=at.replace(month=2)) is None


def test_aliases_that_stand_for_billions_of_values_are_refused() -> None:
    names = "abcdefghij"
    pairs = itertools.pairwise(names)
    lines = [f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]" for before, name in pairs]
    with pytest.raises(InvalidValue, match=r"prices: its aliases stand for more than 100,000"):
        PriceOverrides.parse("\n".join(["a: &a [1]", *lines]))


def test_a_book_knows_the_models_that_have_a_price() -> None:
    entry = "{{provider: {}, model: {}, per_request: 1}}"
    entries = [
        entry.format("openai", "own"),
        entry.format("openai", "'ft:*'"),
        entry.format("x", "y"),
    ]
    book = PriceBook(overrides=PriceOverrides.parse(f"prices: [{', '.join(entries)}]"))
    models = book.models("openai")
    assert {"own", "gpt-5-mini"} <= set(models)
    assert not {"ft:*", "y"} & set(models)
    assert models == sorted(models)
    assert book.models("nobody") == []
