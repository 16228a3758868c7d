"""Tokens and money add up, and a sum never claims more than its parts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_core import Cost, CostStatus, InvalidValue, Usage

counts = st.integers(0, 10**6)
usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    reasoning_tokens=counts,
    estimated=st.booleans(),
)
amounts = st.decimals(min_value=0, max_value=1000, places=6)
costs = st.one_of(
    st.builds(Cost, source=st.sampled_from(["", "book"])),
    st.builds(
        Cost,
        amount=amounts,
        status=st.sampled_from(CostStatus),
        source=st.sampled_from(["book", "provider", "book,override"]),
    ),
)

priced = Cost(amount=Decimal("0.25"), status=CostStatus.PRICED, source="book")
estimated = Cost(amount=Decimal("0.50"), status=CostStatus.ESTIMATED, source="provider")


def test_every_count_is_added() -> None:
    first = Usage(
        input_tokens=10,
        output_tokens=20,
        cache_read_tokens=1,
        cache_write_tokens=2,
        reasoning_tokens=3,
        audio_input_tokens=4,
        audio_output_tokens=5,
    )
    assert first + first == Usage(
        input_tokens=20,
        output_tokens=40,
        cache_read_tokens=2,
        cache_write_tokens=4,
        reasoning_tokens=6,
        audio_input_tokens=8,
        audio_output_tokens=10,
    )
    assert first.total_tokens == 30


@given(st.lists(usages, max_size=5))
def test_a_sum_of_usage_is_estimated_if_any_part_is(parts: list[Usage]) -> None:
    total = sum(parts, Usage())
    assert total.total_tokens == sum(part.total_tokens for part in parts)
    assert total.reasoning_tokens == sum(part.reasoning_tokens for part in parts)
    assert total.estimated is any(part.estimated for part in parts)


def test_usage_is_not_added_to_numbers() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        Usage() + 5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("first", "second", "status", "amount"),
    [
        (priced, priced, CostStatus.PRICED, "0.50"),
        (priced, estimated, CostStatus.ESTIMATED, "0.75"),
        (estimated, priced, CostStatus.ESTIMATED, "0.75"),
        (priced, Cost(), CostStatus.UNPRICED, "0.25"),
        (Cost(), estimated, CostStatus.UNPRICED, "0.50"),
    ],
)
def test_a_sum_is_trusted_as_little_as_its_worst_part(
    first: Cost, second: Cost, status: CostStatus, amount: str
) -> None:
    total = first + second
    assert total.status is status
    assert total.amount == Decimal(amount)


def test_unknown_prices_add_up_to_an_unknown_price() -> None:
    assert Cost() + Cost() == Cost()
    assert (Cost() + Cost()).amount is None


def test_a_sum_names_every_source_once() -> None:
    assert (priced + estimated + priced).source == "book,provider"


def test_no_digit_is_lost() -> None:
    tiny = Cost(amount=Decimal("0.000000000001"), status=CostStatus.PRICED)
    big = Cost(amount=Decimal(123456), status=CostStatus.PRICED)
    assert (big + tiny).amount == Decimal("123456.000000000001")
    assert Cost.from_dict((big + tiny).to_dict()).amount == Decimal("123456.000000000001")


def test_currencies_do_not_mix() -> None:
    euros = Cost(amount=Decimal(1), currency="EUR", status=CostStatus.PRICED)
    with pytest.raises(InvalidValue) as caught:
        priced + euros
    assert str(caught.value) == (
        "Cost.currency: got 'EUR', expected 'USD', as in what it is added to: convert one first"
    )
    assert (euros + euros).currency == "EUR"


def test_costs_are_not_added_to_numbers() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        priced + Decimal(1)  # type: ignore[operator]


def test_the_total_of_nothing_is_a_known_zero() -> None:
    assert Cost.total([]) == Cost(amount=Decimal(0), status=CostStatus.PRICED)


@given(st.lists(costs, min_size=1, max_size=5))
def test_a_total_is_the_sum_of_the_known_amounts(parts: list[Cost]) -> None:
    total = Cost.total(iter(parts))
    known = [part.amount for part in parts if part.amount is not None]
    assert total.amount == (sum(known) if known else None)
    assert (total.status is CostStatus.PRICED) is all(
        part.status is CostStatus.PRICED for part in parts
    )
