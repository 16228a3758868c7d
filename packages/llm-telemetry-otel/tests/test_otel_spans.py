"""Spans as the conventions' table for inference (v1.41.1) has them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from llm_core import (
    AttemptEnded,
    AttemptStarted,
    AttemptTimestamps,
    AudioPart,
    FilePart,
    GenerationFinished,
    GenerationRequest,
    GenerationStarted,
    ImagePart,
    Message,
    OutputError,
    ReasoningPart,
    ResponseSchema,
    Sampling,
    TelemetryClient,
    TelemetryEvent,
    Tool,
    ToolCall,
    ToolResult,
    TraceContext,
    TraceSource,
    Usage,
)
from llm_core import ErrorInfo as Info
from llm_core.example_call import events_of, example_result
from llm_telemetry_otel import OTelTelemetry

# gen-ai-spans.md, section "Inference", v1.41.1: attribute -> requirement level.
TABLE = {
    "gen_ai.operation.name": "required",
    "gen_ai.provider.name": "required",
    "error.type": "conditional",
    "gen_ai.conversation.id": "conditional",
    "gen_ai.output.type": "conditional",
    "gen_ai.request.choice.count": "conditional",
    "gen_ai.request.model": "conditional",
    "gen_ai.request.seed": "conditional",
    "gen_ai.request.stream": "conditional",
    "server.port": "conditional",
    "gen_ai.request.frequency_penalty": "recommended",
    "gen_ai.request.max_tokens": "recommended",
    "gen_ai.request.presence_penalty": "recommended",
    "gen_ai.request.stop_sequences": "recommended",
    "gen_ai.request.temperature": "recommended",
    "gen_ai.request.top_k": "recommended",
    "gen_ai.request.top_p": "recommended",
    "gen_ai.response.finish_reasons": "recommended",
    "gen_ai.response.id": "recommended",
    "gen_ai.response.model": "recommended",
    "gen_ai.response.time_to_first_chunk": "recommended",
    "gen_ai.usage.input_tokens": "recommended",
    "gen_ai.usage.output_tokens": "recommended",
    "gen_ai.usage.cache_creation.input_tokens": "recommended",
    "gen_ai.usage.cache_read.input_tokens": "recommended",
    "gen_ai.usage.reasoning.output_tokens": "recommended",
    "server.address": "recommended",
    "gen_ai.input.messages": "opt-in",
    "gen_ai.output.messages": "opt-in",
    "gen_ai.system_instructions": "opt-in",
    "gen_ai.tool.definitions": "opt-in",
}

FULL_REQUEST = GenerationRequest(
    system="be brief",
    user="the question",
    model="gpt-5-mini",
    max_output_tokens=100,
    seed=7,
    stop=("END",),
    sampling=Sampling(
        temperature=0.5, top_p=0.9, top_k=3, frequency_penalty=0.1, presence_penalty=0.2
    ),
    response_schema=ResponseSchema(name="s", json_schema={"type": "object"}),
    tools=(Tool(name="find", description="finds", parameters={"type": "object"}),),
    operation_name="translate",
    metadata={"conversation_id": "conv-1"},
)


class Collected:
    """A backend with an in-memory exporter behind it."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry = OTelTelemetry(
            tracer_provider=self.provider, meter_provider=MeterProvider(), **options
        )

    def tell(self, events: list[TelemetryEvent]) -> list[ReadableSpan]:
        for event in events:
            self.telemetry.emit(event)
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def collected() -> Collected:
    return Collected()


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def full_life(**changes: Any) -> list[TelemetryEvent]:
    """Return the life of a call that has everything an attribute can be made of."""
    made = example_result(request=FULL_REQUEST, **changes)
    usage = replace(made.usage, cache_write_tokens=10, reasoning_tokens=5)
    events = events_of(replace(made, usage=usage))
    return [
        replace(event, server_address="api.openai.com", server_port=443)
        if isinstance(event, AttemptStarted)
        else event
        for event in events
    ]


def test_it_is_a_backend_that_makes_spans(collected: Collected) -> None:
    assert isinstance(collected.telemetry, TelemetryClient)
    assert isinstance(collected.telemetry, TraceSource)


def test_a_call_is_a_client_span_named_by_operation_and_model(
    collected: Collected, events: list[TelemetryEvent]
) -> None:
    *_, call = collected.tell(events)
    assert (call.name, call.kind) == ("chat gpt-5-mini", SpanKind.CLIENT)
    assert call.instrumentation_scope is not None
    assert call.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.41.1"
    assert call.status.status_code is StatusCode.UNSET


def test_the_table_is_followed_attribute_by_attribute() -> None:
    *_, good = Collected(capture_content=True).tell(full_life())
    error = example_result().attempts[0].error
    failed_life = full_life(success=False, error=error)
    *_, failed = Collected(capture_content=True).tell(failed_life)
    found = attributes_of(good) | {"error.type": attributes_of(failed)["error.type"]}
    # Only one answer is ever asked for, and the count is required only if there are more.
    assert set(TABLE) - set(found) == {"gen_ai.request.choice.count"}
    own = {name for name in found if name not in TABLE}
    assert all(name.startswith("llm_service.") for name in own), own


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.conversation.id", "conv-1"),
        ("gen_ai.output.type", "json"),
        ("gen_ai.request.model", "gpt-5-mini"),
        ("gen_ai.request.seed", 7),
        ("gen_ai.request.stream", True),
        ("gen_ai.request.max_tokens", 100),
        ("gen_ai.request.stop_sequences", ("END",)),
        ("gen_ai.request.temperature", 0.5),
        ("gen_ai.request.top_k", 3.0),
        ("gen_ai.response.finish_reasons", ("stop",)),
        ("gen_ai.response.id", "resp-1"),
        ("gen_ai.response.model", "gpt-5-mini-2025-08-07"),
        ("gen_ai.response.time_to_first_chunk", 0.1),
        ("gen_ai.usage.input_tokens", 1000),
        ("gen_ai.usage.output_tokens", 40),
        ("gen_ai.usage.cache_creation.input_tokens", 10),
        ("gen_ai.usage.cache_read.input_tokens", 200),
        ("gen_ai.usage.reasoning.output_tokens", 5),
        ("server.address", "api.openai.com"),
        ("server.port", 443),
        ("llm_service.operation", "translate"),
        ("llm_service.request.id", "call-1"),
        ("llm_service.cost.amount", "0.0002850"),
        ("llm_service.attempts", 2),
    ],
)
def test_an_attribute_has_its_value(collected: Collected, name: str, value: Any) -> None:
    *_, call = collected.tell(full_life())
    assert attributes_of(call)[name] == value


def test_what_was_said_is_written_only_when_asked_for(collected: Collected) -> None:
    spans = collected.tell(full_life())
    written = json.dumps([attributes_of(span) for span in spans])
    assert "the question" not in written
    assert "the raw answer" not in written
    assert "sk-abcdef" not in "".join(span.to_json() for span in spans)


def test_attempts_are_inner_spans_below_the_call_and_carry_no_usage(
    collected: Collected, events: list[TelemetryEvent]
) -> None:
    first, second, call = collected.tell(events)
    assert (first.name, second.name) == ("attempt 1", "attempt 2")
    for span in (first, second):
        assert span.kind is SpanKind.INTERNAL
        assert span.parent is not None
        assert call.context is not None
        assert span.parent.span_id == call.context.span_id
        assert not [name for name in attributes_of(span) if "usage" in name]
        assert "gen_ai.operation.name" not in attributes_of(span)
    assert first.status.status_code is StatusCode.ERROR
    assert attributes_of(first)["error.type"] == "rate_limited"
    assert attributes_of(first)["http.response.status_code"] == 429
    assert attributes_of(second)["http.request.resend_count"] == 1
    assert attributes_of(second)["llm_service.provider_request.id"] == "req-1"


def test_spans_last_as_long_as_what_they_stand_for(
    collected: Collected, events: list[TelemetryEvent]
) -> None:
    first, second, _ = collected.tell(events)
    lengths = [(span.end_time or 0) - (span.start_time or 0) for span in (first, second)]
    assert lengths == [50_000_000, 500_000_000]


def test_waits_and_steps_are_events_of_the_call(
    collected: Collected, events: list[TelemetryEvent]
) -> None:
    *_, call = collected.tell(events)
    seen = {event.name: dict(event.attributes or {}) for event in call.events}
    assert seen == {
        "llm_service.step": {
            "llm_service.step.name": "strip",
            "llm_service.step.success": True,
            "llm_service.step.duration": 0.05,
        },
        "llm_service.queue": {
            "llm_service.attempt.number": 1,
            "llm_service.wait.limit": "rpm",
            "llm_service.wait.duration": 0.1,
        },
        "llm_service.backoff": {
            "llm_service.attempt.number": 1,
            "llm_service.wait.duration": 0.2,
        },
    }
    times = {event.name: event.timestamp for event in call.events}
    assert times["llm_service.backoff"] - times["llm_service.queue"] == 150_000_000


def test_a_failed_call_has_an_error_and_an_exception_event(collected: Collected) -> None:
    error = Info.from_exception(OutputError("no city in 'the raw answer'"))
    made = example_result(success=False, error=error)
    step = replace(made.steps[0], success=False, error=error)
    *_, call = collected.tell(events_of(replace(made, steps=(step,))))
    assert call.status.status_code is StatusCode.ERROR
    assert call.status.description == "output_invalid"
    assert attributes_of(call)["error.type"] == "output_invalid"
    [exception] = [e for e in call.events if e.name == "gen_ai.client.operation.exception"]
    assert dict(exception.attributes or {}) == {"exception.type": "OutputError"}
    assert "raw answer" not in call.to_json()


def test_a_refused_attempt_has_no_span_but_its_wait_is_seen(collected: Collected) -> None:
    made = example_result()
    refused = replace(made.attempts[0], timestamps=AttemptTimestamps(enqueued=0, ended=5_000_000))
    events = events_of(replace(made, attempts=(refused,)))
    [call] = collected.tell(events)
    [queue] = [event for event in call.events if event.name == "llm_service.queue"]
    assert dict(queue.attributes or {})["llm_service.wait.duration"] == 0.005


class TestTraces:
    def test_a_call_belongs_to_the_callers_trace(
        self, collected: Collected, events: list[TelemetryEvent]
    ) -> None:
        tracer = collected.provider.get_tracer("app")
        with tracer.start_as_current_span("request") as outer:
            collected.tell(events)
        *_, call, request = collected.exporter.get_finished_spans()
        assert call.parent == outer.get_span_context()
        assert request.name == "request"

    def test_a_received_header_is_taken_where_no_span_is_active(self, collected: Collected) -> None:
        header = f"00-{'c' * 32}-{'d' * 16}-01"
        asked = replace(FULL_REQUEST, metadata={"traceparent": header, "tracestate": "v=1"})
        *_, call = collected.tell(events_of(example_result(request=asked)))
        assert call.parent is not None
        assert f"{call.parent.trace_id:032x}" == "c" * 32
        assert f"{call.parent.span_id:016x}" == "d" * 16
        assert call.parent.trace_state.get("v") == "1"

    def test_the_trace_that_the_engine_found_is_taken_at_last(
        self, collected: Collected, events: list[TelemetryEvent]
    ) -> None:
        *_, call = collected.tell(events)
        assert call.parent is not None
        assert f"{call.parent.trace_id:032x}" == "a" * 32

    def test_without_any_of_these_a_call_starts_a_trace(
        self, collected: Collected, events: list[TelemetryEvent]
    ) -> None:
        for own in (None, TraceContext.new(local=True)):
            *_, call = collected.tell([replace(events[0], trace=own), *events[1:]])
            assert call.parent is None

    def test_headers_for_the_provider_name_the_attempt(
        self, collected: Collected, events: list[TelemetryEvent]
    ) -> None:
        telemetry = collected.telemetry
        telemetry.emit(events[0])
        telemetry.emit(events[1])
        call = telemetry.trace_context("call-1")
        attempt = telemetry.trace_context("call-1", attempt=1)
        assert call is not None
        assert attempt is not None
        assert attempt.trace_id == call.trace_id
        assert attempt.span_id != call.span_id
        assert attempt.headers() == {"traceparent": f"00-{attempt.trace_id}-{attempt.span_id}-01"}
        collected.tell(events[2:])
        assert telemetry.trace_context("call-1") is None
        assert telemetry.trace_context("call-1", attempt=1) is None

    def test_spans_of_http_clients_lie_below_the_attempt(
        self, collected: Collected, events: list[TelemetryEvent]
    ) -> None:
        telemetry = collected.telemetry
        telemetry.emit(events[0])
        telemetry.emit(events[1])
        with telemetry.activate("call-1", attempt=1):
            collected.provider.get_tracer("http").start_span("POST").end()
        with telemetry.activate("call-1"):
            collected.provider.get_tracer("tool").start_span("tool").end()
        assert not trace.get_current_span().get_span_context().is_valid
        collected.tell(events[2:])
        spans = {span.name: span for span in collected.exporter.get_finished_spans()}
        for inner, outer in (("POST", "attempt 1"), ("tool", "chat gpt-5-mini")):
            assert spans[inner].parent == spans[outer].context

    def test_nobody_is_activated_for_a_call_that_is_not_known(self, collected: Collected) -> None:
        with collected.telemetry.activate("nobody"):
            assert not trace.get_current_span().get_span_context().is_valid


def test_events_of_a_call_whose_start_was_missed_are_ignored(
    collected: Collected, events: list[TelemetryEvent]
) -> None:
    assert collected.tell(events[1:]) == []


def test_an_attempt_whose_end_nobody_told_ends_with_its_call(
    collected: Collected, events: list[TelemetryEvent]
) -> None:
    told = [event for event in events if not isinstance(event, AttemptEnded)]
    *attempts, call = collected.tell(told)
    assert {span.name for span in attempts} == {"attempt 1", "attempt 2"}
    assert {span.end_time for span in attempts} == {call.end_time}


def test_calls_that_never_finish_are_forgotten_at_last(
    collected: Collected, events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_telemetry_otel import telemetry as module

    monkeypatch.setattr(module, "_CALLS_REMEMBERED", 2)
    for number in range(5):
        collected.tell([replace(events[0], request_id=f"call-{number}")])
    assert list(collected.telemetry._calls) == ["call-3", "call-4"]


def test_a_sampler_may_leave_a_call_out() -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    telemetry = OTelTelemetry(tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    events = events_of(example_result())
    telemetry.emit(events[0])
    context = telemetry.trace_context("call-1")
    assert context is not None
    assert not context.sampled
    for event in events[1:]:
        telemetry.emit(event)


def test_closing_exports_and_happens_once() -> None:
    closed: list[int] = []
    telemetry = OTelTelemetry(on_close=lambda: closed.append(1))
    telemetry.close()
    telemetry.close(1.0)
    assert closed == [1]


class TestContents:
    def test_messages_have_the_conventions_shapes(self) -> None:
        call = ToolCall(id="t1", name="find", arguments={"city": "Lima"})
        asked = GenerationRequest(
            messages=(
                Message.system("be brief"),
                Message.user(
                    "look",
                    ImagePart(url="https://x/y.png"),
                    ImagePart(data=b"png", media_type="image/png"),
                    AudioPart(data=b"wav"),
                    FilePart(file_id="f1"),
                    FilePart(url="https://x/z.pdf", media_type="application/pdf"),
                    FilePart(data=b"pdf"),
                ),
                Message.assistant(ReasoningPart(text="hm"), call),
                Message.tool(ToolResult(tool_call_id="t1", content="found")),
            )
        )
        made = example_result(
            request=asked,
            reasoning="hm",
            tool_calls=(call,),
            audio=AudioPart(data=b"wav", format="mp3"),
        )
        *_, span = Collected(capture_content=True).tell(events_of(made))
        attributes = attributes_of(span)
        assert json.loads(attributes["gen_ai.system_instructions"]) == [
            {"type": "text", "content": "be brief"}
        ]
        user, assistant, tool = json.loads(attributes["gen_ai.input.messages"])
        assert [part["type"] for part in user["parts"]] == [
            *("text", "uri", "blob", "blob", "file", "uri", "blob")
        ]
        assert user["parts"][2] == {
            "type": "blob",
            "modality": "image",
            "content": "cG5n",
            "mime_type": "image/png",
        }
        arguments = {"city": "Lima"}
        said = {"type": "tool_call", "id": "t1", "name": "find", "arguments": arguments}
        assert assistant["parts"] == [{"type": "reasoning", "content": "hm"}, said]
        assert tool["parts"] == [{"type": "tool_call_response", "id": "t1", "response": "found"}]
        [answer] = json.loads(attributes["gen_ai.output.messages"])
        assert (answer["role"], answer["finish_reason"]) == ("assistant", "stop")
        kinds = [part["type"] for part in answer["parts"]]
        assert kinds == ["reasoning", "text", "tool_call", "blob"]

    def test_tools_are_described(self) -> None:
        life = full_life()
        *_, span = Collected(capture_content=True).tell(life)
        assert json.loads(attributes_of(span)["gen_ai.tool.definitions"]) == [
            {
                "type": "function",
                "name": "find",
                "description": "finds",
                "parameters": {"type": "object"},
            }
        ]

    def test_without_an_answer_there_is_none(self) -> None:
        made = example_result(success=False, raw_content=None, finish_reason=None)
        *_, span = Collected(capture_content=True).tell(events_of(made))
        assert "gen_ai.output.messages" not in attributes_of(span)


def test_embeddings_follow_their_own_table(collected: Collected) -> None:
    request = GenerationRequest(
        user="the question",
        provider_options={"dimensions": 256},
        metadata={"gen_ai.operation.name": "embeddings"},
    )
    made = example_result(request=request, usage=Usage(input_tokens=10))
    *_, call = collected.tell(events_of(made))
    assert (call.name, call.kind) == ("embeddings gpt-5-mini", SpanKind.CLIENT)
    attributes = attributes_of(call)
    assert attributes["gen_ai.operation.name"] == "embeddings"
    assert attributes["gen_ai.embeddings.dimension.count"] == 256
    assert attributes["gen_ai.usage.input_tokens"] == 10
    assert "gen_ai.usage.output_tokens" not in attributes


def test_a_call_that_found_no_model_is_named_by_its_operation(collected: Collected) -> None:
    asked = GenerationRequest(user="hi")
    made = example_result(success=False, request=asked, attempts=(), steps=(), model=None)
    started = GenerationStarted(request_id="r", at_ns=0, request=asked)
    finished = GenerationFinished(request_id="r", at_ns=1, result=made)
    [call] = collected.tell([started, finished])
    assert call.name == "chat"
