"""What the tests of llm-service share: a service on fakes, with a clock moved by hand."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from llm_core import (
    LLMCallRequest,
    ProviderResponse,
    StreamEvent,
    TextPart,
    UnsupportedFeature,
    Usage,
)
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


class InstantProvider:
    """Answers one text always, in the fewest functions."""

    name = "instant"

    def __init__(self, text: str) -> None:
        self._text = text

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        return ProviderResponse(
            provider=self.name,
            model=request.model,
            parts=(TextPart(text=self._text),),
            usage=Usage(input_tokens=9, output_tokens=20),
        )

    def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        raise UnsupportedFeature("it streams nothing")

    async def aclose(self) -> None:
        pass


@pytest.fixture
def instant_service() -> Callable[..., BaseLLMService]:
    """Make services with all limits, whose provider answers a text at once."""

    def make(text: str, **options: Any) -> BaseLLMService:
        return BaseLLMService(
            model="m",
            provider=InstantProvider(text),
            max_rpm=1_000_000,
            max_tpm=1_000_000_000,
            max_concurrent_requests=64,
            telemetry="none",
            **options,
        )

    return make


@pytest.fixture
def functions_of() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[tuple[Any, int]]]:
    """Return what a call returns, and how many Python functions it enters when it is not the first of its kind."""

    async def count_of(call: Callable[[], Awaitable[Any]]) -> tuple[Any, int]:
        entered = 0

        def count(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal entered
            entered += event == "call"

        for _ in range(3):  # what the first calls import, compile and derive is no call's cost
            await call()
        gc.disable()  # the garbage of other tests is no call's cost either
        sys.setprofile(count)
        try:
            result = await call()
        finally:
            sys.setprofile(None)
            gc.enable()
        return result, entered

    return count_of


@pytest.fixture
def model_over() -> Iterator[Callable[..., tuple[Any, ScriptedProvider]]]:
    """Make LangChain models whose answers are scripted; give each with its provider, and close the services."""
    from llm_service.langchain import ServiceChatModel

    services = []

    def make(*replies: Any, **options: Any) -> tuple[ServiceChatModel, ScriptedProvider]:
        arguments = {k: options.pop(k) for k in list(options) if k in ServiceChatModel.model_fields}
        provider = ScriptedProvider(replies)
        services.append(BaseLLMService(provider=provider, **{"model": "m", **options}))
        return ServiceChatModel(service=services[-1], **arguments), provider

    yield make
    for service in services:
        service.close()
