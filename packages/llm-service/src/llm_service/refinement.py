"""Stage four of a call: from the reply's text to the value that was wanted, by llm-pipeline."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from llm_core import Clock, GenerationRequest, ProviderResponse, SystemClock, unchecked

if TYPE_CHECKING:
    from llm_core import Generate
    from llm_pipeline import Pipeline, PipelineResult, RunContext

__all__ = ["pipeline_of", "refine"]


def pipeline_of(wanted: Any, clock: Clock) -> Pipeline[Any, Any] | None:
    """Return the pipeline that a request asks for, None if it asks for none.

    A pipeline, a step, a function of the content, a list of these, or the declarative form of llm-pipeline.
    Raises ConfigurationError for anything else, before the model is asked.
    """
    if wanted is None:
        return None
    if type(wanted) in _FUNCTIONS and type(clock) is SystemClock and not _holds_values(wanted):
        return _pipeline_of_function(wanted)
    kind = _pipeline_class()
    if isinstance(wanted, kind):
        return wanted
    if not callable(wanted) and _is_declarative(wanted):
        return kind.from_config(wanted, clock=clock)
    return kind(wanted, clock=clock)


def refine(
    pipeline: Pipeline[Any, Any],
    text: str,
    request: GenerationRequest,
    response: ProviderResponse,
    generate: Generate,
) -> Coroutine[Any, Any, PipelineResult[Any]]:
    """Run the pipeline on the reply's `text`; what is returned, once awaited, never raises."""
    context = _context_maker()(request=request, response=response, generate=generate)
    return pipeline.run(text, context=context)


# Both here, because calls without a pipeline should not pay for its import.
@functools.cache
def _pipeline_class() -> type[Pipeline[Any, Any]]:
    from llm_pipeline import Pipeline

    return Pipeline


@functools.cache
def _context_maker() -> Callable[..., RunContext]:
    from llm_pipeline import RunContext

    return unchecked(RunContext)


_FUNCTIONS: Final = (types.FunctionType, types.MethodDescriptorType)
"""What functions of modules and of classes are, those written in C included."""


def _holds_values(function: Any) -> bool:
    """Whether a function holds values, which may be those of one call."""
    if type(function) is types.MethodDescriptorType:
        return False
    return function.__closure__ is not None or function.__defaults__ is not None


@functools.lru_cache(maxsize=32)
def _pipeline_of_function(function: Callable[..., Any]) -> Pipeline[Any, Any]:
    return _pipeline_class()(function)


def _is_declarative(wanted: Any) -> bool:
    if isinstance(wanted, str):
        return True
    return isinstance(wanted, Sequence) and any(isinstance(s, str | Mapping) for s in wanted)
