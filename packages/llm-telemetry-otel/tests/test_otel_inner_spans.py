"""A call's tokens are counted once, whether or not the vendor's SDK makes a span of its own."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llm_core import TelemetryEvent
from llm_telemetry_otel import OTelTelemetry
from llm_telemetry_otel.inner_spans import OneSpanPerCall

REPLY = {
    "id": "msg-1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Lima"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1000, "output_tokens": 40},
}


def traced_tokens(events: list[TelemetryEvent], option: Any, sampler: Any) -> tuple[int, int]:
    """Make a call through anthropic's SDK; return the output tokens on all spans, and their number."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = OTelTelemetry(tracer_provider=provider)
    if isinstance(option, dict):
        option = option | {"tracer_provider": provider}
    client = anthropic.Anthropic(
        api_key="test",
        max_retries=0,
        open_telemetry=option,
        http_client=httpx2.Client(
            transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=REPLY))
        ),
    )
    telemetry.emit(events[0])
    telemetry.emit(events[1])
    with telemetry.activate("call-1", attempt=1):
        client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=10,
            messages=[{"role": "user", "content": "Where?"}],
        )
    for event in events[2:]:
        telemetry.emit(event)
    client.close()
    spans = exporter.get_finished_spans()
    tokens = [(span.attributes or {}).get("gen_ai.usage.output_tokens", 0) for span in spans]
    return sum(int(str(count)) for count in tokens), len(spans)


@pytest.mark.parametrize("option", [False, {"traces": {"enabled": True}}], ids=["off", "on"])
def test_with_the_sdks_own_span_off_and_on_tokens_are_counted_once(
    events: list[TelemetryEvent], option: Any
) -> None:
    assert traced_tokens(events, option, OneSpanPerCall()) == (40, 3)


def test_without_the_sampler_they_would_be_counted_twice(events: list[TelemetryEvent]) -> None:
    assert traced_tokens(events, {"traces": {"enabled": True}}, None) == (80, 4)


def test_spans_outside_our_attempts_and_other_spans_are_kept(
    events: list[TelemetryEvent],
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=OneSpanPerCall())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("vendor")
    telemetry = OTelTelemetry(tracer_provider=provider)
    chat = {"gen_ai.operation.name": "chat"}
    tracer.start_span("outside", attributes=chat).end()
    telemetry.emit(events[0])
    telemetry.emit(events[1])
    with telemetry.activate("call-1"):
        tracer.start_span("around", attributes=chat).end()
    with telemetry.activate("call-1", attempt=1):
        tracer.start_span("POST").end()
        tracer.start_span("inside", attributes=chat).end()
    assert [span.name for span in exporter.get_finished_spans()] == ["outside", "around", "POST"]


def test_a_call_made_inside_an_attempt_is_a_call_of_its_own(events: list[TelemetryEvent]) -> None:
    from dataclasses import replace

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=OneSpanPerCall())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = OTelTelemetry(tracer_provider=provider)
    telemetry.emit(events[0])
    telemetry.emit(events[1])
    with telemetry.activate("call-1", attempt=1):
        for event in (events[0], events[-1]):
            telemetry.emit(replace(event, request_id="inner"))
    assert [span.name for span in exporter.get_finished_spans()] == ["chat gpt-5-mini"]


def test_the_sampler_says_what_it_is() -> None:
    assert OneSpanPerCall().get_description().startswith("OneSpanPerCall(ParentBased{")
