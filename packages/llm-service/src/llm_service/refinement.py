"""Stage four of a call: from the reply's text to the value that was wanted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from llm_core import (
    Clock,
    ErrorInfo,
    ErrorType,
    Generate,
    GenerationRequest,
    LLMError,
    PipelineStep,
    PipelineStepResult,
    ProviderResponse,
    StepContext,
)

__all__ = ["CallContext", "run_step", "steps_of"]

Step = PipelineStep | Callable[[Any], Any]
"""A step object, or a plain function of the content, sync or async."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a step may know besides the content, and its way to ask the model again."""

    request: GenerationRequest
    response: ProviderResponse
    generate: Generate


def steps_of(pipeline: Step | Iterable[Step] | None) -> list[Step]:
    """Return a pipeline's steps; one step alone is a pipeline too."""
    if pipeline is None:
        return []
    if isinstance(pipeline, PipelineStep) or callable(pipeline):
        return [pipeline]
    return list(pipeline)


async def run_step(
    step: Step, content: Any, context: StepContext, clock: Clock
) -> PipelineStepResult:
    """Run one step; never raises, a failed step's result carries the error and leaves `after` None."""
    started = clock.monotonic_ns()
    after, error = None, None
    try:
        after = step.run(content, context) if isinstance(step, PipelineStep) else step(content)
        if inspect.isawaitable(after):
            after = await after
    except LLMError as failure:
        error = ErrorInfo.from_exception(failure)
    except Exception as failure:  # noqa: BLE001 - the user's own code; a call never throws
        name = type(failure).__name__
        message = f"{_name_of(step)} failed: {name}: {failure}"
        error = ErrorInfo.of(ErrorType.OUTPUT_INVALID, message, exception=name)
    return PipelineStepResult(
        step=_name_of(step),
        success=error is None,
        before=content,
        after=after,
        error=error,
        duration_seconds=(clock.monotonic_ns() - started) / 1e9,
    )


def _name_of(step: Step) -> str:
    if isinstance(step, PipelineStep):
        return step.name
    return getattr(step, "__name__", type(step).__name__)
