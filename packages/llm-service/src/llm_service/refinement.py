"""Stage four of a call: from the reply's text to the value that was wanted, by llm-pipeline."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_core import Clock, GenerationRequest, ProviderResponse

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
    kind, _ = _pipeline_classes()
    if isinstance(wanted, kind):
        return wanted
    if not callable(wanted) and _is_declarative(wanted):
        return kind.from_config(wanted, clock=clock)
    return kind(wanted, clock=clock)


async def refine(
    pipeline: Pipeline[Any, Any],
    text: str,
    request: GenerationRequest,
    response: ProviderResponse,
    generate: Generate,
) -> PipelineResult[Any]:
    """Run the pipeline on the reply's `text`; never raises."""
    _, context_of = _pipeline_classes()
    context = context_of(request=request, response=response, generate=generate)
    return await pipeline.run(text, context=context)


@functools.cache
def _pipeline_classes() -> tuple[type[Pipeline[Any, Any]], type[RunContext]]:
    # Here, because calls without a pipeline should not pay for its import.
    from llm_pipeline import Pipeline, RunContext

    return Pipeline, RunContext


def _is_declarative(wanted: Any) -> bool:
    if isinstance(wanted, str):
        return True
    return isinstance(wanted, Sequence) and any(isinstance(s, str | Mapping) for s in wanted)
