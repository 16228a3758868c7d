"""What the tests of llm-service share: a service on fakes, with a clock moved by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_core.testing import ManualClock, OpenGate, RecordingTelemetry, ScriptedProvider
from llm_service import BaseLLMService


class Bench:
    """A service whose every collaborator is a fake that can be looked at."""

    def __init__(self, *replies: Any, **options: Any) -> None:
        self.clock = ManualClock()
        self.gate = OpenGate()
        self.telemetry = RecordingTelemetry()
        self.provider = ScriptedProvider(replies)
        wanted = {"model": "m", "gate": self.gate, "telemetry": self.telemetry, **options}
        self.service = BaseLLMService(provider=self.provider, clock=self.clock, **wanted)

    async def generate_over(self, seconds: float, *args: Any, **fields: Any) -> Any:
        """Answer one request while `seconds` pass on the clock."""
        import asyncio

        task = asyncio.create_task(self.service.generate(*args, **fields))
        await self.clock.run_for(seconds)
        return await asyncio.wait_for(task, timeout=5)


@pytest.fixture
def bench() -> Callable[..., Bench]:
    return Bench
