"""The life of a call as events, for telemetry backends."""

from __future__ import annotations

from typing import Any, ClassVar

from llm_core.record import Record
from llm_core.request import GenerationRequest
from llm_core.result import GenerationResult, InvocationAttempt, PipelineStepResult
from llm_core.trace import TraceContext
from llm_core.value import immutable

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "FirstToken",
    "GenerationFinished",
    "GenerationStarted",
    "StepEnded",
    "TelemetryEvent",
]


@immutable
class GenerationStarted(Record):
    """A call entered the service."""

    kind: ClassVar[str] = "generation_started"

    request_id: str
    at_ns: int
    """Monotonic nanoseconds, like every `at_ns` here."""
    request: GenerationRequest
    trace: TraceContext | None = None
    """The span of the call, or the one that was active when it came; None while nobody gave it ids."""


@immutable
class AttemptStarted(Record):
    """The gates admitted an attempt and the provider is being called."""

    kind: ClassVar[str] = "attempt_started"

    request_id: str
    at_ns: int
    number: int
    provider: str
    model: str
    server_address: str | None = None
    """Host name or address of the provider's endpoint, where it is known."""
    server_port: int | None = None


@immutable
class FirstToken(Record):
    """The first token of a stream arrived."""

    kind: ClassVar[str] = "first_token"

    request_id: str
    at_ns: int
    number: int


@immutable
class AttemptEnded(Record):
    """An attempt has an answer or an error."""

    kind: ClassVar[str] = "attempt_ended"

    request_id: str
    at_ns: int
    attempt: InvocationAttempt


@immutable
class StepEnded(Record):
    """A pipeline step is done."""

    kind: ClassVar[str] = "step_ended"

    request_id: str
    at_ns: int
    step: PipelineStepResult


@immutable
class GenerationFinished(Record):
    """The call is over."""

    kind: ClassVar[str] = "generation_finished"

    request_id: str
    at_ns: int
    result: GenerationResult[Any]


TelemetryEvent = (
    GenerationStarted | AttemptStarted | FirstToken | AttemptEnded | StepEnded | GenerationFinished
)
"""Anything a telemetry backend is told."""
