"""How the package is used, as the type checker sees it: checked by mypy --strict, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, assert_type

from llm_core import (
    Clock,
    Cost,
    ErrorInfo,
    ErrorType,
    Gate,
    Generate,
    GenerationRequest,
    GenerationResult,
    LLMCallRequest,
    Message,
    Permit,
    PipelineStep,
    PriceBook,
    Provider,
    ProviderResponse,
    ResponseCache,
    StepContext,
    StreamDone,
    StreamEvent,
    SystemClock,
    TelemetryClient,
    TextDelta,
    TraceSource,
    Usage,
)
from llm_core.testing import (
    FakePermit,
    FixedPriceBook,
    FunctionStep,
    ManualClock,
    MemoryCache,
    OpenGate,
    RecordingTelemetry,
    ScriptedGenerate,
    ScriptedProvider,
    SimpleStepContext,
    TracingTelemetry,
)

# Each fake is what its interface promises.
clocks: list[Clock] = [SystemClock(), ManualClock()]
provider: Provider = ScriptedProvider(["Lima", ErrorInfo.of(ErrorType.OVERLOADED, "busy")])
permit: Permit = FakePermit()
gate: Gate = OpenGate()
generate: Generate = ScriptedGenerate()
context: StepContext = SimpleStepContext(generate=generate)
step: PipelineStep = FunctionStep(len)
telemetry: TelemetryClient = RecordingTelemetry()
tracer: TraceSource = TracingTelemetry()
prices: PriceBook = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(2))
cache: ResponseCache = MemoryCache()


class Echo:
    """A provider as somebody else would write it, without inheriting anything."""

    name = "echo"

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        return ProviderResponse(provider=self.name, model=request.model)

    async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        yield TextDelta(text=request.messages[-1].text)
        yield StreamDone(response=await self.invoke(request))

    async def aclose(self) -> None:
        return None


own_provider: Provider = Echo()


def chain(result: GenerationResult[str], counted: GenerationResult[int]) -> None:
    """Chaining keeps track of the type of the content."""
    assert_type(result.content, str | None)
    assert_type(result.map(len), GenerationResult[int])
    assert_type(result.map(len).map(float).unwrap(), float)
    assert_type(result.unwrap_or(None), str | None)
    assert_type(result.or_else(lambda failed: failed), GenerationResult[str])
    assert_type(result.and_then(lambda _: counted).unwrap_or(0), int)


def match(result: GenerationResult[str]) -> str:
    match result:
        case GenerationResult(success=True, content=str(city)):
            return assert_type(city, str)
        case GenerationResult(error=ErrorInfo(retryable=True, retry_after=float(seconds))):
            return f"{assert_type(seconds, float)} s"
        case _:
            return ""


def hear(event: StreamEvent) -> None:
    if isinstance(event, TextDelta):
        assert_type(event.text, str)
    if isinstance(event, StreamDone):
        assert_type(event.response, ProviderResponse)


async def give_back(request: GenerationRequest) -> None:
    assert_type(GenerationRequest.from_dict(request.to_dict()), GenerationRequest)
    assert_type(request.to_call("m"), LLMCallRequest)
    assert_type(request.conversation(), tuple[Message, ...])
    assert_type(Usage() + Usage(), Usage)
    assert_type(Cost.total([]), Cost)
    assert_type(await cache.get("k"), GenerationResult[Any] | None)
    async with gate.admit(tokens=5) as admitted:
        assert_type(admitted, Permit)
    async for event in provider.stream(request.to_call("m")):
        hear(event)
