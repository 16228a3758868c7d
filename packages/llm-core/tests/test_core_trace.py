from __future__ import annotations

import json

import pytest

from llm_core import GenerationRequest, GenerationStarted, InvalidValue, TraceContext, TraceSource
from llm_core.testing import RecordingTelemetry, TracingTelemetry

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_context_becomes_the_headers_that_hand_it_on() -> None:
    context = TraceContext(trace_id=TRACE, span_id=SPAN, state="congo=t61rcWkgMzE")
    assert context.headers() == {
        "traceparent": f"00-{TRACE}-{SPAN}-01",
        "tracestate": "congo=t61rcWkgMzE",
    }


def test_an_unsampled_context_says_so_and_has_no_state_to_send() -> None:
    context = TraceContext(trace_id=TRACE, span_id=SPAN, sampled=False)
    assert context.headers() == {"traceparent": f"00-{TRACE}-{SPAN}-00"}


@pytest.mark.parametrize("sampled", [True, False])
def test_headers_are_read_back(sampled: bool) -> None:
    context = TraceContext(trace_id=TRACE, span_id=SPAN, sampled=sampled, state="a=1")
    assert TraceContext.from_headers(context.headers()) == context


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known() -> None:
    read = TraceContext.from_headers({"traceparent": f"01-{TRACE}-{SPAN}-03-more"})
    assert read == TraceContext(trace_id=TRACE, span_id=SPAN)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
    ],
)
def test_a_malformed_header_is_no_context(header: str) -> None:
    assert TraceContext.from_headers({"traceparent": header}) is None


def test_ids_of_our_own_making_are_not_sent_on() -> None:
    assert TraceContext.new(local=True).headers() == {}
    assert TraceContext.new().headers()


def test_a_new_trace_has_ids_of_its_own() -> None:
    assert TraceContext.new() != TraceContext.new()
    fixed = TraceContext.new(lambda size: "ab" * size)
    assert (fixed.trace_id, fixed.span_id) == ("ab" * 16, "ab" * 8)


@pytest.mark.parametrize("bad", [{"trace_id": "12"}, {"span_id": "0" * 16}, {"trace_id": "0" * 32}])
def test_an_id_that_cannot_be_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(bad))):
        TraceContext(**{"trace_id": TRACE, "span_id": SPAN} | bad)


def test_a_started_call_round_trips_with_its_trace() -> None:
    event = GenerationStarted(
        request_id="r",
        at_ns=1,
        request=GenerationRequest(user="hi"),
        trace=TraceContext(trace_id=TRACE, span_id=SPAN),
    )
    assert GenerationStarted.from_dict(json.loads(json.dumps(event.to_dict()))) == event


def test_only_a_backend_that_traces_is_a_trace_source() -> None:
    assert isinstance(TracingTelemetry(), TraceSource)
    assert not isinstance(RecordingTelemetry(), TraceSource)


def test_the_fake_knows_the_calls_that_were_started_and_what_is_active() -> None:
    telemetry = TracingTelemetry()
    assert telemetry.trace_context("r") is None
    telemetry.emit(GenerationStarted(request_id="r", at_ns=0, request=GenerationRequest(user="hi")))
    assert telemetry.trace_context("r") == telemetry.context
    with telemetry.activate("r", attempt=1):
        assert telemetry.active == [("r", 1)]
    assert telemetry.active == []
    assert telemetry.activated == [("r", 1)]
