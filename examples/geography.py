"""What a user writes: a service whose methods are business operations."""

from __future__ import annotations

from typing import Self

from llm_core import GenerationResult
from llm_providers import OpenAIProvider
from llm_service import BaseLLMService


class Geography(BaseLLMService):
    """Knows where things are."""

    async def capital_of(self, country: str) -> GenerationResult[str]:
        """Return the name of a country's capital."""
        return await self.generate(
            f"What is the capital of {country}?",
            system="Answer with the name of the city alone.",
            operation_name="capital_of",
            deadline_seconds=30,
        )

    @classmethod
    def on_simulator(cls, base_url: str, *, max_concurrent_requests: int = 8) -> Self:
        """Return a service whose OpenAI is a simulator on this machine."""
        return cls(
            model="gpt-5-mini",
            provider=OpenAIProvider(api_key="simulated", base_url=base_url),
            max_concurrent_requests=max_concurrent_requests,
        )
