"""Whatever its collaborators raise, a call has a result: nothing but cancellation leaves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from llm_core import (
    CacheMode,
    CachePolicy,
    ErrorInfo,
    ErrorType,
    GenerationResult,
    ProviderResponse,
    RateLimitFacts,
    RateLimitWindow,
    StreamEvent,
    StreamResult,
    TextPart,
    Usage,
)
from llm_core.testing import (
    FakePermit,
    FixedPriceBook,
    FunctionStep,
    MemoryCache,
    OpenGate,
    ScriptedProvider,
    TracingTelemetry,
)
from llm_service import BaseLLMService, Fallback, RetryPolicy

FACTS = RateLimitFacts(requests=RateLimitWindow(limit=9, remaining=1, reset_seconds=1.0))
GOOD = ProviderResponse(
    provider="scripted",
    model="m",
    parts=(TextPart(text="answer"),),
    usage=Usage(input_tokens=3, output_tokens=1),
    rate_limits=FACTS,
)
REFUSED = ErrorInfo.of(ErrorType.RATE_LIMITED, "later", retry_after=0.001, rate_limits=FACTS)

FAULTS = [
    *product(["cache"], ["get", "put"]),
    *product(["price_book"], ["price"]),
    *product(["telemetry"], ["emit", "trace_context", "activate"]),
    *product(["provider"], ["name", "server_address", "invoke", "stream", "pieces"]),
    *product(["step"], ["name", "run"]),
    *product(["gate"], ["admit", "enter", "exit", "observe", "hold"]),
    *product(["permit"], ["wait_seconds", "waited_for", "settle", "fail", "cancel"]),
    *product(["fallback"], ["on"]),
]


def fail(*_: Any, **__: Any) -> Any:
    raise OSError("broken")


def broken(thing: Any, name: str) -> Any:
    """Let one method or attribute of `thing` raise."""
    is_method = callable(getattr(type(thing), name, None))
    fields = {"__slots__": (), name: fail if is_method else property(fail)}
    thing.__class__ = type("Broken", (type(thing),), fields)
    return thing


class Provider(ScriptedProvider):
    server_address = ("localhost", 80)
    pieces_break = False

    async def stream(self, request: Any) -> AsyncIterator[StreamEvent]:
        async for event in super().stream(request):
            yield event
            if self.pieces_break:
                fail()


class Gate(OpenGate):
    """A gate whose permits, entrance or exit can be broken."""

    def __init__(self, part: str, name: str) -> None:
        super().__init__()
        self.part, self.fault = part, name

    @asynccontextmanager
    async def admit(self, **_: Any) -> AsyncIterator[FakePermit]:
        if self.fault == "enter":
            fail()
        yield broken(FakePermit(), self.fault) if self.part == "permit" else FakePermit()
        if self.fault == "exit":
            fail()


def service_with(part: str, name: str, reply: Any) -> tuple[BaseLLMService, FunctionStep]:
    collaborators: dict[str, Any] = {
        "cache": MemoryCache(),
        "price_book": FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(1)),
        "telemetry": TracingTelemetry(),
        "provider": Provider([reply]),
        "step": FunctionStep(str.upper),
        "gate": Gate(part, name),
    }
    if name == "pieces":
        collaborators["provider"].pieces_break = True
    elif part in collaborators and name not in ("enter", "exit"):
        broken(collaborators[part], name)
    step = collaborators.pop("step")
    service = BaseLLMService(
        model="m",
        **collaborators,
        retry=RetryPolicy(max_attempts=2, initial_seconds=0.0),
        fallbacks=[Fallback(model="small", on=fail if part == "fallback" else None)],
    )
    return service, step


@pytest.mark.parametrize(("part", "name"), FAULTS)
@pytest.mark.parametrize("reply", [GOOD, REFUSED])
async def test_what_a_collaborator_raises_does_not_leave_the_call(
    part: str, name: str, reply: Any
) -> None:
    for mode, seconds in product(CacheMode, [None, 60.0]):
        service, step = service_with(part, name, reply)
        asked: dict[str, Any] = {"pipeline": step, "deadline_seconds": seconds}
        asked["cache"] = CachePolicy(mode=mode)
        results = [await service.generate("?", **asked) for _ in range(2)]
        *_, last = [event async for event in service.stream("?", **asked)]
        assert isinstance(last, StreamResult)
        made_up = await service.generate("?", **asked, fallback_value="mine")
        for result in (*results, last.result, made_up):
            assert isinstance(result, GenerationResult)
            assert result.success or result.error is not None
        assert made_up.success
        assert service.snapshot().in_flight == 0


def test_the_faults_are_those_of_every_method() -> None:
    """A new method of an interface has to be broken here, too."""
    from llm_core import interfaces

    foreign = {
        "cache": [interfaces.ResponseCache],
        "price_book": [interfaces.PriceBook],
        "telemetry": [interfaces.TelemetryClient, interfaces.TraceSource],
        "provider": [interfaces.Provider],
        "step": [interfaces.PipelineStep],
        "gate": [interfaces.Gate],
        "permit": [interfaces.Permit],
    }
    closing = {("telemetry", "close"), ("provider", "aclose")}
    declared = {
        (part, name)
        for part, kinds in foreign.items()
        for kind in kinds
        for name in vars(kind)
        if not name.startswith("_")
    }
    assert declared - closing <= set(FAULTS)
