"""Trace ids: of the span that is active, else of the call's own; and how they get into logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from llm_core import TraceContext

__all__ = ["TraceIdFilter", "active_trace", "current_trace", "use_trace"]

_used: ContextVar[TraceContext | None] = ContextVar("llm_metrics_trace", default=None)


def active_trace() -> TraceContext | None:
    """Return the active OpenTelemetry span's context, else what `use_trace` set, else None.

    OpenTelemetry is not loaded for it: where nobody has loaded it, no span of it can be active.
    """
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry import trace

        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return TraceContext(
                trace_id=f"{context.trace_id:032x}",
                span_id=f"{context.span_id:016x}",
                sampled=bool(context.trace_flags.sampled),
                state=context.trace_state.to_header(),
            )
    return _used.get()


def current_trace() -> TraceContext:
    """Return the active trace, or ids of our own, which are not sent on."""
    return active_trace() or TraceContext.new(local=True)


@contextmanager
def use_trace(trace: TraceContext) -> Iterator[None]:
    """Make `trace` what `active_trace` returns inside the `with`, where no span is active."""
    token = _used.set(trace)
    try:
        yield
    finally:
        _used.reset(token)


class TraceIdFilter(logging.Filter):
    """Gives every log record `trace_id` and `span_id`, empty texts where there is no trace.

    Add it to a handler; then a format may say ``%(trace_id)s``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Stamp the record; never drops one."""
        trace = active_trace()
        record.trace_id = trace.trace_id if trace else ""
        record.span_id = trace.span_id if trace else ""
        return True
