"""The spans of calls under way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from llm_core import GenerationRequest, TraceContext

__all__ = ["Call", "activated", "is_inside", "parent_of", "trace_context_of"]

_INSIDE: Final = otel_context.create_key("llm-telemetry-otel-inside-an-attempt")


class Call:
    """One call under way: its span, its attempts' spans, and how its clock translates."""

    __slots__ = ("_anchor_ns", "attempts", "context", "model", "server", "span")

    def __init__(self, span: Span, context: Context, model: str | None, at_ns: int) -> None:
        self.span = span
        self.model = model
        self.context = set_span_in_context(span, context)
        self.attempts: dict[int, Span] = {}
        self.server: dict[str, Any] = {}
        # Events carry monotonic time, spans the world's: one reading of both translates.
        self._anchor_ns = time.time_ns() - at_ns

    def world_ns(self, at_ns: int) -> int:
        """Return a monotonic time as nanoseconds since 1970."""
        return self._anchor_ns + at_ns


def parent_of(request: GenerationRequest, trace: TraceContext | None) -> Context:
    """Return the context that a call's span belongs into.

    The active span's; else, for callers who received a header and have no OpenTelemetry, that of
    ``traceparent`` (and ``tracestate``) in the request's metadata, or `trace`; else none, which
    starts a trace.
    """
    context = otel_context.get_current()
    if is_inside(context):  # a call made inside another one's attempt is a call of its own
        context = otel_context.set_value(_INSIDE, False, context)
    if get_current_span(context).get_span_context().is_valid:
        return context
    received = TraceContext.from_headers(_trace_headers(request.metadata)) or trace
    if received is None or received.local:
        return context
    return set_span_in_context(_remote_span(received), context)


def is_inside(context: Context | None) -> bool:
    """Tell whether a span that starts in `context` lies inside one of our attempts."""
    return bool(otel_context.get_value(_INSIDE, context))


@contextmanager
def activated(span: Span, *, inside: bool) -> Iterator[None]:
    """Make `span` the current one inside the `with`."""
    context = set_span_in_context(span)
    token = otel_context.attach(otel_context.set_value(_INSIDE, inside, context))
    try:
        yield
    finally:
        otel_context.detach(token)


def trace_context_of(span: Span) -> TraceContext | None:
    """Return a span's ids; None for one that has none."""
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return TraceContext(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        sampled=bool(context.trace_flags.sampled),
        state=context.trace_state.to_header(),
    )


def _remote_span(trace: TraceContext) -> Span:
    return NonRecordingSpan(
        SpanContext(
            int(trace.trace_id, 16),
            int(trace.span_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT),
            trace_state=TraceState.from_header([trace.state]) if trace.state else None,
        )
    )


def _trace_headers(metadata: Mapping[str, Any]) -> dict[str, str]:
    named = {name: metadata.get(name) for name in ("traceparent", "tracestate")}
    return {name: value for name, value in named.items() if isinstance(value, str)}
