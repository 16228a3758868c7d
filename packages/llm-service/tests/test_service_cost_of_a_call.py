"""What a call costs beside its provider, counted in Python functions: times would depend on the machine."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from llm_core.testing import FixedPriceBook

MOST_FUNCTIONS = 110
"""Of a call over the full path; a few more than the 103 it enters, so that small changes need no new number."""


async def test_a_call_over_the_full_path_enters_few_functions(
    instant_service: Any, functions_of: Any
) -> None:
    prices = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(2))
    service = instant_service(" Paris ", price_book=prices)
    result, entered = await functions_of(
        lambda: service.generate("Capital of France?", operation_name="capital", pipeline=str.strip)
    )
    assert result.content == "Paris"
    assert entered <= MOST_FUNCTIONS
