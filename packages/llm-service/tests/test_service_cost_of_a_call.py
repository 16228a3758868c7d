"""What a call costs beside its provider, counted in Python functions: times would depend on the machine."""

from __future__ import annotations

import sys
from decimal import Decimal
from types import FrameType

from llm_core import LLMCallRequest, ProviderResponse, TextPart, Usage
from llm_core.testing import FixedPriceBook
from llm_service import BaseLLMService

MOST_FUNCTIONS = 175
"""Of a call over the full path; a few more than it enters, so that small changes need no new number."""


class InstantProvider:
    name = "instant"

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        return ProviderResponse(
            provider=self.name,
            model=request.model,
            parts=(TextPart(text=" Paris "),),
            usage=Usage(input_tokens=9, output_tokens=1),
        )

    async def aclose(self) -> None:
        pass


async def test_a_call_over_the_full_path_enters_few_functions() -> None:
    prices = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(2))
    service = BaseLLMService(
        model="m",
        provider=InstantProvider(),  # type: ignore[arg-type]
        max_rpm=1_000_000,
        max_tpm=1_000_000_000,
        max_concurrent_requests=64,
        price_book=prices,
        telemetry="none",
    )
    entered = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal entered
        entered += event == "call"

    for _ in range(3):  # what the first calls import and compile is no call's cost
        await service.generate("Capital of France?", operation_name="capital", pipeline=str.strip)
    sys.setprofile(count)
    try:
        result = await service.generate(
            "Capital of France?", operation_name="capital", pipeline=str.strip
        )
    finally:
        sys.setprofile(None)
    assert result.content == "Paris"
    assert entered <= MOST_FUNCTIONS
