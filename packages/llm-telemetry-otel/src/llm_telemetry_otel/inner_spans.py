"""Keeping a call's tokens from being counted twice, by the span of a vendor's own SDK.

anthropic's SDK and the instrumentations of others make a span per HTTP call with ``gen_ai.usage.*``
on it, below ours that has the same numbers. This module needs `opentelemetry-sdk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)

from llm_telemetry_otel.calls import is_inside

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

__all__ = ["OneSpanPerCall"]


class OneSpanPerCall(Sampler):
    """Drops a vendor's generative AI span inside one of our attempts; asks `sampler` for the rest.

    It knows such a span by ``gen_ai.operation.name`` among the attributes it starts with.
    Spans that would lie below the dropped one are dropped with it by parent-based samplers.

    `from_environment` uses it for the providers that it makes. An application with a provider of
    its own gives it there: ``TracerProvider(sampler=OneSpanPerCall())``.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._sampler = sampler or ParentBased(ALWAYS_ON)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about one span."""
        if is_inside(parent_context) and "gen_ai.operation.name" in (attributes or {}):
            return SamplingResult(Decision.DROP)
        return self._sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """Return the sampler's name and that of the one it asks."""
        return f"OneSpanPerCall({self._sampler.get_description()})"
