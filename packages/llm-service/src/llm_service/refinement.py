"""Stage four of a call: from the reply's text to the value that was wanted, by llm-pipeline."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_core import Clock, SystemClock, unchecked

if TYPE_CHECKING:
    from llm_pipeline import Pipeline, RunContext

__all__ = ["context_maker", "pipeline_of"]


def pipeline_of(wanted: Any, clock: Clock) -> Pipeline[Any, Any] | None:
    """Return the pipeline that a request asks for, None if it asks for none.

    A pipeline, a step, a function of the content, a list of these, or the declarative form of llm-pipeline.
    Raises ConfigurationError for anything else, before the model is asked.
    """
    if wanted is None:
        return None
    if type(clock) is SystemClock and (
        type(wanted) is types.MethodDescriptorType
        or (
            type(wanted) is types.FunctionType
            # Else it holds values, which may be those of one call.
            and wanted.__closure__ is None
            and wanted.__defaults__ is None
        )
    ):
        return _pipeline_of_function(wanted)
    kind = _pipeline_class()
    if isinstance(wanted, kind):
        return wanted
    if not callable(wanted) and _is_declarative(wanted):
        return kind.from_config(wanted, clock=clock)
    return kind(wanted, clock=clock)


# Both here, because calls without a pipeline should not pay for its import.
@functools.cache
def context_maker() -> Callable[..., RunContext]:
    """Return what makes the context that steps are given."""
    from llm_pipeline import RunContext

    return unchecked(RunContext)


@functools.cache
def _pipeline_class() -> type[Pipeline[Any, Any]]:
    from llm_pipeline import Pipeline

    return Pipeline


@functools.lru_cache(maxsize=32)
def _pipeline_of_function(function: Callable[..., Any]) -> Pipeline[Any, Any]:
    return _pipeline_class()(function)


def _is_declarative(wanted: Any) -> bool:
    if isinstance(wanted, str):
        return True
    return isinstance(wanted, Sequence) and any(isinstance(s, str | Mapping) for s in wanted)
