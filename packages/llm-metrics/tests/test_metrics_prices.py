"""What a call costs by the published prices."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers as vendors
from genai_prices.types import ModelInfo

from llm_core import Cost, CostStatus, InvalidValue, Usage
from llm_core import PriceBook as PriceBookInterface
from llm_core.example_call import example_result
from llm_metrics import PriceBook, PriceOverrides, Quantities

AT = datetime(2026, 11, 1, tzinfo=UTC)
SOURCE = f"genai-prices@{genai_prices.__version__}"

USAGES = [
    Usage(input_tokens=1_234, output_tokens=567),
    Usage(
        input_tokens=9_876,
        output_tokens=543,
        cache_read_tokens=1_000,
        cache_write_tokens=77,
        reasoning_tokens=321,
    ),
    Usage(input_tokens=300_001, output_tokens=3),  # beyond the step of models with tiers
]


def chat_models() -> list[tuple[str, str]]:
    """Return (our provider, model) of everything that these three sell by input and output."""
    ours = {"openai": "openai", "anthropic": "anthropic", "google": "gemini"}
    found = []
    for vendor in vendors:
        for model in vendor.models if vendor.id in ours else ():
            prices = model.get_prices(AT)
            matches = vendor.find_model(model.id, all_providers=vendors) is model
            if matches and prices.input_mtok is not None and prices.output_mtok is not None:
                found.append((ours[vendor.id], model.id))
    return found


def theirs(usage: Usage, provider: str, model: str, **context: str) -> Decimal:
    """Return genai-prices' own answer."""
    counts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
    }
    return genai_prices.calc_price(
        genai_prices.Usage(**counts),
        model,
        provider_id={"gemini": "google"}.get(provider, provider),
        genai_request_timestamp=AT,
        price_context=context or None,
    ).total_price


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook()


def test_it_is_the_price_book_that_services_take(book: PriceBook) -> None:
    assert isinstance(book, PriceBookInterface)


def test_at_least_150_chat_models_cost_what_genai_prices_says(book: PriceBook) -> None:
    models = chat_models()
    assert len(models) >= 150
    for provider, model in models:
        for usage in USAGES:
            cost = book.price(usage, provider=provider, model=model, at=AT)
            expected = theirs(usage, provider, model)
            assert cost.amount == expected, (provider, model)
            assert (cost.status, cost.source) == (CostStatus.PRICED, SOURCE)


def test_any_usage_costs_what_genai_prices_says_however_often_it_was_asked(book: PriceBook) -> None:
    dice = random.Random(7)
    for provider, model in dice.sample(chat_models(), 60):
        for _ in range(10):
            parts = [dice.choice((0, 0, dice.randrange(400_000))) for _ in range(3)]
            usage = Usage(
                input_tokens=parts[0] + parts[1] + dice.randrange(300_000),
                output_tokens=parts[2] + dice.randrange(9_000),
                cache_read_tokens=parts[0],
                cache_write_tokens=parts[1],
                reasoning_tokens=parts[2],
            )
            cost = book.price(usage, provider=provider, model=model, at=AT)
            assert cost.amount == theirs(usage, provider, model), (provider, model, usage)


def test_a_model_s_prices_are_asked_of_the_catalogue_a_few_times_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0
    ask = ModelInfo.calc_price

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return ask(*arguments, **options)

    monkeypatch.setattr(ModelInfo, "calc_price", counting)
    book = PriceBook()
    for tokens in range(1, 1_000):
        usage = Usage(input_tokens=tokens, output_tokens=2 * tokens)
        cost = book.price(usage, provider="openai", model="gpt-4o", at=AT)
        assert cost.amount == tokens * Decimal("0.0000225")
    assert asked == 4, "a base, one more for each kind of token, and a trial"


@pytest.mark.parametrize(
    ("tier", "context"),
    [
        ("batch", {"processing": "batch"}),
        ("flex", {"service_tier": "flex"}),
        ("priority", {"service_tier": "priority"}),
        ("default", {}),
        (None, {}),
    ],
)
def test_a_tier_has_its_own_price(
    book: PriceBook, tier: str | None, context: dict[str, str]
) -> None:
    cost = book.price(USAGES[0], provider="openai", model="gpt-5", at=AT, tier=tier)
    assert cost.amount == theirs(USAGES[0], "openai", "gpt-5", **context)
    assert cost.status is CostStatus.PRICED


def test_batch_costs_less_and_priority_more(book: PriceBook) -> None:
    batch, standard, priority = (
        book.price(USAGES[0], provider="openai", model="gpt-5", at=AT, tier=tier).amount
        for tier in ("batch", None, "priority")
    )
    assert batch is not None
    assert standard is not None
    assert priority is not None
    assert batch < standard < priority


def test_a_tier_without_a_price_is_an_estimate_at_the_standard_one(book: PriceBook) -> None:
    cost = book.price(USAGES[0], provider="openai", model="gpt-4", at=AT, tier="flex")
    assert cost.amount == theirs(USAGES[0], "openai", "gpt-4")
    assert cost.status is CostStatus.ESTIMATED
    assert cost.source == f"{SOURCE} (standard; no flex price)"


def test_a_tier_of_another_vendors_model_is_an_estimate(book: PriceBook) -> None:
    cost = book.price(USAGES[0], provider="azure", model="gpt-5", at=AT, tier="batch")
    assert cost.status is CostStatus.ESTIMATED


def test_prices_are_those_of_the_requests_time(book: PriceBook) -> None:
    changed = next(
        (vendor.id, model.id, model.prices[-1].constraint.start_date)
        for vendor in vendors
        if vendor.id in ("openai", "anthropic", "deepseek")
        for model in vendor.models
        if isinstance(model.prices, list)
        and hasattr(model.prices[-1].constraint, "start_date")
        and len(model.prices) == 2
        and model.prices[0].prices.input_mtok != model.prices[1].prices.input_mtok
        and vendor.find_model(model.id) is model
    )
    provider, model, day = changed
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    usage = Usage(input_tokens=1_000_000)
    before = book.price(usage, provider=provider, model=model, at=start.replace(year=day.year - 1))
    after = book.price(usage, provider=provider, model=model, at=start)
    assert before.amount != after.amount


def test_counted_tokens_give_an_estimate(book: PriceBook) -> None:
    usage = replace(USAGES[0], estimated=True)
    cost = book.price(usage, provider="openai", model="gpt-5", at=AT)
    assert cost.status is CostStatus.ESTIMATED
    assert cost.amount == theirs(USAGES[0], "openai", "gpt-5")


def test_sound_is_billed_apart_also_where_some_of_it_was_cached(book: PriceBook) -> None:
    usage = Usage(
        input_tokens=1_000,
        output_tokens=200,
        audio_input_tokens=600,
        audio_output_tokens=150,
        cache_read_tokens=100,
        reasoning_tokens=10,
    )
    cost = book.price(usage, provider="openai", model="gpt-audio", at=AT)
    prices = next(m for v in vendors if v.id == "openai" for m in v.models if m.id == "gpt-audio")
    rates: Any = prices.get_prices(AT)
    assert cost.amount == (
        400 * rates.input_mtok
        + 600 * rates.input_audio_mtok
        + 50 * rates.output_mtok
        + 150 * rates.output_audio_mtok
    ) / Decimal(1_000_000)


def test_an_hour_of_sound_embeddings_characters_and_searches(book: PriceBook) -> None:
    hour = book.price(
        Usage(),
        provider="openai",
        model="whisper-1",
        at=AT,
        also=Quantities(audio_seconds=Decimal(3600)),
    )
    assert hour.amount == Decimal("0.36")
    embedding = book.price(
        Usage(input_tokens=1_000_000), provider="openai", model="text-embedding-3-small", at=AT
    )
    assert embedding.amount == Decimal("0.02")
    speech = book.price(
        Usage(), provider="openai", model="tts-1", at=AT, also=Quantities(characters=1_000_000)
    )
    assert speech.amount == Decimal(15)
    searches = book.price(
        Usage(), provider="openai", model="gpt-4o", at=AT, also=Quantities(web_searches=1000)
    )
    assert searches.amount == Decimal(10)


def test_a_fee_per_request_is_added(book: PriceBook) -> None:
    vendor, model = next(
        (vendor.id, model.id)
        for vendor in vendors
        for model in vendor.models
        if model.get_prices(AT).requests_kcount and vendor.find_model(model.id) is model
    )
    cost = book.price(Usage(), provider=vendor, model=model, at=AT)
    assert cost.amount is not None
    assert cost.amount > 0


@pytest.mark.parametrize(
    ("provider", "model", "used"),
    [
        ("openai", "gpt-99-unheard-of", {"usage": USAGES[0]}),
        ("ollama", "llama4", {"usage": USAGES[0]}),
        ("openai-compatible", "gpt-5", {"usage": USAGES[0]}),
        ("openai", "whisper-1", {"usage": Usage(input_tokens=10)}),
        ("openai", "text-embedding-3-small", {"usage": Usage(output_tokens=10)}),
        (
            "openai",
            "gpt-4o",
            {"usage": Usage(), "also": Quantities(audio_seconds=Decimal(60))},
        ),
        ("openai", "gpt-4o", {"usage": Usage(), "also": Quantities(characters=60)}),
        (
            "openai",
            "gpt-4o",
            {"usage": Usage(input_tokens=1, cache_read_tokens=2)},
        ),
    ],
)
def test_what_has_no_price_is_unpriced_and_never_a_silent_zero(
    provider: str, model: str, used: dict[str, Any]
) -> None:
    cost = PriceBook().price(**used, provider=provider, model=model, at=AT)
    assert (cost.amount, cost.status, cost.source) == (None, CostStatus.UNPRICED, SOURCE)


def test_an_unknown_model_is_logged_once_with_the_entry_to_paste(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book = PriceBook()
    for _ in range(3):
        book.price(USAGES[0], provider="ollama", model="llama4", at=AT)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert book.snippet(provider="ollama", model="llama4") in record.getMessage()


def test_the_entry_to_paste_must_be_filled_in_and_then_works() -> None:
    snippet = PriceBook().snippet(provider="ollama", model="llama4")
    with pytest.raises(InvalidValue, match=r"per_million_tokens.input: got 'FILL_IN'"):
        PriceOverrides.parse(snippet)
    overrides = PriceOverrides.parse(snippet.replace("FILL_IN", "0.50"))
    cost = PriceBook(overrides=overrides).price(
        Usage(input_tokens=1_000_000), provider="ollama", model="llama4", at=AT
    )
    assert (cost.amount, cost.source) == (Decimal("0.50"), "override")


def test_the_providers_own_bill_goes_before_everything(book: PriceBook) -> None:
    bill = Cost(amount=Decimal("0.7"), currency="EUR", status=CostStatus.ESTIMATED)
    cost = book.price(USAGES[0], provider="openai", model="gpt-5", at=AT, reported=bill)
    assert cost == replace(bill, status=CostStatus.PRICED, source="provider")


def test_a_bill_without_an_amount_is_no_bill(book: PriceBook) -> None:
    cost = book.price(USAGES[0], provider="openai", model="gpt-5", at=AT, reported=Cost())
    assert cost.source == SOURCE


def test_a_time_without_timezone_is_refused(book: PriceBook) -> None:
    with pytest.raises(InvalidValue, match="timezone"):
        book.price(USAGES[0], provider="openai", model="gpt-5", at=datetime(2026, 1, 1))


def test_stored_usage_is_priced_anew_attempt_by_attempt() -> None:
    made = example_result()
    cut = replace(made.attempts[1], usage=Usage(input_tokens=10, estimated=True), cost=None)
    billed = replace(
        made.attempts[1],
        cost=Cost(amount=Decimal(1), status=CostStatus.PRICED, source="provider"),
    )
    overrides = PriceOverrides.parse(
        "prices: [{provider: openai, model: gpt-5-mini, per_million_tokens: {input: 2, output: 3}}]"
    )
    again = PriceBook(overrides=overrides).reprice(
        replace(made, attempts=(*made.attempts, cut, billed), cost=Cost())
    )
    costs = [attempt.cost and attempt.cost.amount for attempt in again.attempts]
    assert costs == [None, Decimal("0.002120"), Decimal("0.00002"), Decimal(1)]
    assert again.cost.amount == Decimal("1.00214")
    assert again.cost.status is CostStatus.ESTIMATED
    assert again.cost.source == "override,provider"


def test_a_result_without_usage_keeps_its_cost(book: PriceBook) -> None:
    made = example_result()
    alone = replace(made, attempts=made.attempts[:1])
    assert book.reprice(alone, at=AT) == alone


def test_minutes_of_sound_are_not_priced_anew_as_nothing(book: PriceBook) -> None:
    made = example_result()
    by_the_minute = Cost(amount=Decimal("0.006"), status=CostStatus.PRICED, source="override")
    spoken = replace(made.attempts[1], usage=Usage(), cost=by_the_minute)
    again = book.reprice(replace(made, attempts=(spoken,), cost=by_the_minute), at=AT)
    assert again.cost == again.attempts[0].cost == by_the_minute


def test_the_published_prices_are_read_at_the_first_question_only() -> None:
    code = (
        "import sys; from llm_metrics import PriceBook; book = PriceBook(); "
        "assert 'genai_prices' not in sys.modules; book.preload(); "
        "assert 'genai_prices' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


def test_preloading_may_happen_meanwhile(book: PriceBook) -> None:
    PriceBook().preload(wait=False)
    book.preload()
    assert book.price(USAGES[0], provider="openai", model="gpt-5", at=AT).amount


def test_answers_are_remembered_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_metrics import price_catalogue

    monkeypatch.setattr(price_catalogue, "_REMEMBERED", 2)
    book = PriceBook()
    for number in range(5):
        book.price(USAGES[0], provider="openai", model=f"unheard-of-{number}", at=AT)
    assert len(book._catalogue._current().found) <= 2
