"""What the floors above need of each other, as Protocols of one to four methods.

Packages of one floor do not import each other; they meet here.
Each Protocol has a working fake in `llm_core.testing`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from llm_core.error_info import ErrorInfo
from llm_core.events import StreamEvent
from llm_core.request import GenerationRequest, LLMCallRequest
from llm_core.response import ProviderResponse, RateLimitFacts
from llm_core.result import GenerationResult
from llm_core.telemetry import TelemetryEvent
from llm_core.trace import TraceContext
from llm_core.usage import Cost, Usage

__all__ = [
    "Clock",
    "Gate",
    "Generate",
    "Permit",
    "PipelineStep",
    "PriceBook",
    "Provider",
    "ResponseCache",
    "StepContext",
    "TelemetryClient",
    "TraceSource",
]


@runtime_checkable
class Clock(Protocol):
    """Time, so that tests can move it by hand."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never go back; only differences mean something."""

    def now(self) -> datetime:
        """Return the wall-clock time, timezone-aware, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the current task for `seconds`."""


@runtime_checkable
class Provider(Protocol):
    """Somebody who answers calls: a vendor's API, a simulator, a script.

    One that has an endpoint may tell telemetry where, by a property `server_address`: a pair of host and port.
    """

    @property
    def name(self) -> str:
        """The provider's name as telemetry and ``provider/model`` use it, such as ``openai``."""

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        """Answer once, without retrying.

        Raises nothing but ProviderError, RequestError and ConfigurationError.
        """

    def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        """Answer in pieces, ending always and exactly once with StreamDone or StreamFailed.

        Never raises once iterated, except UnsupportedFeature and ConfigurationError before
        anything is sent.
        Closing the iterator (`aclose`) closes the connection at once.
        """

    async def aclose(self) -> None:
        """Give back connections; may be called more than once."""


@runtime_checkable
class Permit(Protocol):
    """The right to make one call.

    Leaving the gate's context manager gives its concurrency slot back.
    Exactly one of `settle`, `fail` and `cancel` is called before that.
    """

    @property
    def wait_seconds(self) -> float:
        """Time spent in the queue."""

    @property
    def waited_for(self) -> str | None:
        """The name of the limit that was waited for longest; None if there was no wait."""

    def settle(
        self, *, tokens: int, output_tokens: int | None = None, cost: Decimal | None = None
    ) -> None:
        """Correct the reservation to what the call really used, up or down, for all waiters.

        `tokens` is input and output together, `output_tokens` its part for the output, `cost` the
        money spent, in the unit that `admit` was given; None for what is not known.
        """

    def fail(self, error: ErrorInfo, *, cost: Decimal | None = None) -> None:
        """Say that the call failed; what the provider may have counted stays counted.

        `cost` is the money that it cost all the same; None, for what is not known, leaves what was reserved.
        """

    def cancel(self) -> None:
        """Give everything back: the call was never sent."""


@runtime_checkable
class Gate(Protocol):
    """Whether and when a call may go."""

    def admit(
        self,
        *,
        tokens: int = 0,
        output_tokens: int | None = None,
        cost: Decimal | None = None,
        key: str | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> AbstractAsyncContextManager[Permit]:
        """Wait for the right to make one call.

        `tokens` is the estimate for input and output together, `output_tokens` its part for the
        output, `cost` the worst case in money, `key` whom to count it for, `timeout` the longest
        wait in seconds (None: for ever), `priority` higher first.
        Entering raises GateTimeout, QueueFull, CircuitOpen, BudgetDenied or CostExceedsLimit.
        """

    def observe(self, facts: RateLimitFacts) -> None:
        """Correct the limits by what the provider's headers said."""

    def hold(self, seconds: float) -> None:
        """Admit nobody for `seconds` from now: the provider asked for it (Retry-After)."""


@runtime_checkable
class Generate(Protocol):
    """One more model call on behalf of a pipeline step, on the same ledger, gates and deadline."""

    def __call__(
        self, request: GenerationRequest, *, purpose: str
    ) -> Awaitable[GenerationResult[Any]]:
        """Run `request`; `purpose` marks its attempts, such as ``isolation``.

        Model, tenant and priority are those of the call where `request` leaves them out.
        """


@runtime_checkable
class StepContext(Protocol):
    """What a pipeline step may know besides the content."""

    @property
    def request(self) -> GenerationRequest | None:
        """What was asked."""

    @property
    def response(self) -> ProviderResponse | None:
        """The reply that the content came from, with its finish reason."""

    @property
    def generate(self) -> Generate | None:
        """A way to ask the model again; None where no model is at hand."""


@runtime_checkable
class PipelineStep(Protocol):
    """One step from raw text to the value that was wanted."""

    @property
    def name(self) -> str:
        """The step's name in results."""

    def run(self, content: Any, context: StepContext) -> Any:
        """Return the new content, or an awaitable of it; raise OutputError if there is none."""


@runtime_checkable
class TelemetryClient(Protocol):
    """A telemetry backend. It must not slow or break a call."""

    def emit(self, event: TelemetryEvent) -> None:
        """Take one event; returns at once and raises nothing."""

    def close(self, timeout: float | None = None) -> None:
        """Deliver what is still queued, for at most `timeout` seconds (None: all of it), and stop.

        May be called more than once.
        """


@runtime_checkable
class TraceSource(Protocol):
    """What a telemetry backend that makes spans can do on top: say which, and make them current.

    Both know a call between its GenerationStarted and its GenerationFinished, an attempt between
    its AttemptStarted and its AttemptEnded; both raise nothing.
    """

    def trace_context(self, request_id: str, *, attempt: int | None = None) -> TraceContext | None:
        """Return the span of a call, or of one of its attempts; None for one that is not known.

        Its `headers()` are what the provider is to be sent.
        """

    def activate(
        self, request_id: str, *, attempt: int | None = None
    ) -> AbstractContextManager[None]:
        """Make that span the current one inside a `with`, so that spans made there lie below it.

        Enter and leave it in one task, without yielding to a caller in between.
        """


@runtime_checkable
class PriceBook(Protocol):
    """What tokens cost."""

    def price(self, usage: Usage, *, provider: str, model: str, at: datetime) -> Cost:
        """Return the cost of `usage` by the prices of time `at`.

        An unknown price gives status ``unpriced``, never an exception.
        """


@runtime_checkable
class ResponseCache(Protocol):
    """Answers that may be given again."""

    async def get(self, key: str) -> GenerationResult[Any] | None:
        """Return the stored result, or None."""

    async def put(self, key: str, result: GenerationResult[Any], *, ttl_seconds: float) -> None:
        """Store a result for `ttl_seconds`."""
