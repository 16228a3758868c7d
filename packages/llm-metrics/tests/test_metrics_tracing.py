from __future__ import annotations

import io
import logging

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from llm_core import TraceContext
from llm_metrics import TraceIdFilter, active_trace, current_trace, use_trace

OWN = TraceContext(trace_id="a" * 32, span_id="b" * 16)


def test_without_any_span_there_are_ids_of_ones_own() -> None:
    assert active_trace() is None
    assert current_trace() != current_trace()


def test_the_active_span_of_opentelemetry_gives_the_ids() -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("outer") as span:
        context = span.get_span_context()
        found = current_trace()
    assert found.trace_id == f"{context.trace_id:032x}"
    assert found.span_id == f"{context.span_id:016x}"
    assert found.sampled


def test_the_state_of_the_trace_travels_along() -> None:
    context = SpanContext(
        trace_id=1,
        span_id=2,
        is_remote=True,
        trace_flags=TraceFlags(0),
        trace_state=TraceState([("vendor", "x")]),
    )
    with trace.use_span(NonRecordingSpan(context)):
        found = current_trace()
    assert (found.state, found.sampled) == ("vendor=x", False)


def test_ids_can_be_set_where_nobody_traces() -> None:
    with use_trace(OWN):
        assert current_trace() == OWN
    assert active_trace() is None


def test_log_lines_carry_the_ids() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(trace_id)s/%(span_id)s %(message)s"))
    handler.addFilter(TraceIdFilter())
    logger = logging.getLogger("test_metrics_tracing")
    logger.addHandler(handler)
    try:
        logger.warning("outside")
        with use_trace(OWN):
            logger.warning("inside")
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue().splitlines() == ["/ outside", f"{'a' * 32}/{'b' * 16} inside"]
