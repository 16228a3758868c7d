"""`OTelTelemetry`: the life of a call as spans and metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from llm_core import (
    AttemptEnded,
    AttemptStarted,
    ErrorInfo,
    FirstToken,
    GenerationFinished,
    GenerationResult,
    GenerationStarted,
    StepEnded,
    TelemetryEvent,
    TraceContext,
)
from llm_core.conventions import (
    SCHEMA_URL,
    operation_of,
    provider_name,
    request_attributes,
    result_attributes,
    span_name,
)
from llm_telemetry_otel.calls import Call, activated, parent_of, trace_context_of
from llm_telemetry_otel.instruments import Instruments
from llm_telemetry_otel.log_events import EXCEPTION, LogEvents
from llm_telemetry_otel.messages import input_attributes, output_attributes

__all__ = ["OTelTelemetry"]

_CALLS_REMEMBERED: Final = 65_536
_CLOSE_SECONDS: Final = 30.0
# Attempts for anything else are a pipeline step's helper calls, which send nothing again.
_OF_THE_CALL_ITSELF: Final = ("answer", "hedge")


class OTelTelemetry:
    """One client span per call, which carries the usage; one inner span per attempt, which does not.

    Names follow OpenTelemetry's GenAI conventions v1.41.1 (`llm_core.conventions`). Waits at our
    gates, pauses between attempts and pipeline steps are events of the call's span. What was said is
    written only with `capture_content`.

    With a `logger_provider` a failure is a log record ``gen_ai.client.operation.exception``, else an
    event of the span; `details` adds a record ``gen_ai.client.inference.operation.details`` per call,
    with what was said in it.

    Spans are made on the calling thread, metrics are recorded on one of their own a tenth of a second
    later (a record costs ten times what handing it over does); `close` and the program's end record
    what is left.

    Without providers the global ones are used; with nothing but `opentelemetry-api` installed these
    do nothing, and so does this. `on_close` is called by `close`: it flushes, and shuts down what is
    ours.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        capture_content: bool = False,
        details: bool = False,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        name, ours = "llm_telemetry_otel", version("llm-telemetry-otel")
        self._tracer = trace.get_tracer(name, ours, tracer_provider, SCHEMA_URL)
        meter = metrics.get_meter(name, ours, meter_provider, SCHEMA_URL)
        self._instruments = None if isinstance(meter, metrics.NoOpMeter) else Instruments(meter)
        self._log_events: LogEvents | None = None
        if logger_provider is not None:
            logger = logger_provider.get_logger(name, ours, SCHEMA_URL)
            self._log_events = LogEvents(logger, details=details)
        self._capture_content = capture_content
        self._on_close = on_close
        self._calls: dict[str, Call] = {}

    def emit(self, event: TelemetryEvent) -> None:
        """Start, annotate or end the span that the event is about."""
        if isinstance(event, FirstToken):  # the attempt's timestamps tell it again
            return
        if isinstance(event, GenerationStarted):
            self._start_call(event)
            return
        call = self._calls.get(event.request_id)
        if call is None:  # its start was missed
            return
        if isinstance(event, AttemptStarted):
            self._start_attempt(call, event)
        elif isinstance(event, AttemptEnded):
            _end_attempt(call, event)
        elif isinstance(event, StepEnded):
            _add_step(call, event)
        elif isinstance(event, GenerationFinished):
            self._calls.pop(event.request_id, None)
            self._end_call(call, event)

    def close(self, timeout: float | None = None) -> None:
        """Export what has ended, for at most `timeout` seconds (None: 30)."""
        if self._instruments is not None:
            self._instruments.close()
        on_close, self._on_close = self._on_close, None
        if on_close is None:
            return
        # The SDK's own time-outs add up over processors and retries; a thread can be left behind.
        thread = threading.Thread(target=on_close, name="llm-telemetry-otel-close", daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS if timeout is None else timeout)

    def trace_context(self, request_id: str, *, attempt: int | None = None) -> TraceContext | None:
        """Return the ids of the call's span, or of one of its attempts."""
        span = self._span(request_id, attempt)
        return None if span is None else trace_context_of(span)

    def activate(
        self, request_id: str, *, attempt: int | None = None
    ) -> AbstractContextManager[None]:
        """Make that span the current one, so that HTTP clients' spans lie below it."""
        span = self._span(request_id, attempt)
        return nullcontext() if span is None else activated(span, inside=attempt is not None)

    def _span(self, request_id: str, attempt: int | None) -> Span | None:
        call = self._calls.get(request_id)
        if call is None:
            return None
        return call.span if attempt is None else call.attempts.get(attempt)

    def _start_call(self, event: GenerationStarted) -> None:
        if len(self._calls) >= _CALLS_REMEMBERED:  # calls that never finish must not pile up
            self._calls.pop(next(iter(self._calls)), None)
        request = event.request
        context = parent_of(request, event.trace)
        attributes = request_attributes(request)
        attributes["llm_service.request.id"] = event.request_id
        if self._capture_content:
            attributes |= input_attributes(request)
        span = self._tracer.start_span(
            span_name(request.model, operation_of(request)), context, SpanKind.CLIENT, attributes
        )
        self._calls[event.request_id] = Call(span, context, request.model, event.at_ns)

    def _start_attempt(self, call: Call, event: AttemptStarted) -> None:
        if event.server_address is not None:
            call.server = {"server.address": event.server_address}
            if event.server_port is not None:
                call.server["server.port"] = event.server_port
        call.attempts[event.number] = self._tracer.start_span(
            f"attempt {event.number}",
            call.context,
            SpanKind.INTERNAL,
            start_time=call.world_ns(event.at_ns),
        )

    def _end_call(self, call: Call, event: GenerationFinished) -> None:
        result, span = event.result, call.span
        for lost in call.attempts.values():  # an attempt whose end nobody told has one all the same
            lost.end(call.world_ns(event.at_ns))
        facts = result_attributes(result)
        if call.server:
            facts |= call.server
        model = facts.pop("gen_ai.request.model", None)
        if span.is_recording():
            if model is not None and model != call.model:
                span.update_name(span_name(model, operation_of(result.request)))
                span.set_attribute("gen_ai.request.model", model)
            span.set_attributes(facts)
            if self._capture_content:
                span.set_attributes(output_attributes(result))
            _add_waits(call, result)
            if not result.success and result.error is not None:
                self._note_failure(call, result.error, event.at_ns)
        span.end(call.world_ns(event.at_ns))
        if self._instruments is None and self._log_events is None:
            return
        facts["gen_ai.operation.name"] = operation_of(result.request)
        if model is not None:
            facts["gen_ai.request.model"] = model
        if self._log_events is not None:
            self._log_events.details(call.context, call.world_ns(event.at_ns), result, facts)
        if self._instruments is not None:
            self._instruments.put(result, facts)

    def _note_failure(self, call: Call, error: ErrorInfo, at_ns: int) -> None:
        _fail(call.span, error)
        name = error.exception or error.type.value
        if self._log_events is None:
            call.span.add_event(EXCEPTION, {"exception.type": name})
        else:
            self._log_events.exception(call.context, call.world_ns(at_ns), name)


def _end_attempt(call: Call, event: AttemptEnded) -> None:
    attempt = event.attempt
    span = call.attempts.pop(attempt.number, None)
    if span is None:  # the gates refused it: nothing was sent
        return
    times = attempt.timestamps
    # All at once, at the end: setting attributes twice would cost as much again.
    facts: dict[str, Any] = {
        "gen_ai.provider.name": provider_name(attempt.provider),
        "gen_ai.request.model": attempt.model,
        "llm_service.attempt.number": attempt.number,
        "llm_service.attempt.purpose": attempt.purpose,
        **call.server,
    }
    if attempt.response_id is not None:
        facts["gen_ai.response.id"] = attempt.response_id
    if attempt.provider_request_id is not None:
        facts["llm_service.provider_request.id"] = attempt.provider_request_id
    if times.first_token is not None:
        facts["gen_ai.response.time_to_first_chunk"] = times.time_to_first_token_seconds
    if attempt.number > 1 and attempt.purpose in _OF_THE_CALL_ITSELF:
        facts["http.request.resend_count"] = attempt.number - 1
    if attempt.error is not None and attempt.error.status_code is not None:
        facts["http.response.status_code"] = attempt.error.status_code
    span.set_attributes(facts)
    if attempt.error is not None:
        _fail(span, attempt.error)
    span.end(call.world_ns(event.at_ns))


def _fail(span: Span, error: ErrorInfo) -> None:
    # The message stays out: vendors put parts of keys and prompts into it.
    span.set_attribute("error.type", error.type.value)
    span.set_status(Status(StatusCode.ERROR, error.type.value))


def _add_step(call: Call, event: StepEnded) -> None:
    step = event.step
    facts: dict[str, Any] = {
        "llm_service.step.name": step.step,
        "llm_service.step.success": step.success,
        "llm_service.step.duration": step.duration_seconds,
    }
    if step.error is not None:
        facts["error.type"] = step.error.type.value
    call.span.add_event("llm_service.step", facts, call.world_ns(event.at_ns))


def _add_waits(call: Call, result: GenerationResult[Any]) -> None:
    """Add an event for each wait at the gates and each pause, at the time it began."""
    for attempt in result.attempts:
        times, number = attempt.timestamps, attempt.number
        if attempt.waited_for is not None and times.enqueued is not None:
            facts = _wait(number, times.queue_seconds)
            facts["llm_service.wait.limit"] = attempt.waited_for
            call.span.add_event("llm_service.queue", facts, call.world_ns(times.enqueued))
        if times.backoff_until is not None and times.ended is not None:
            facts = _wait(number, times.backoff_seconds)
            call.span.add_event("llm_service.backoff", facts, call.world_ns(times.ended))


def _wait(number: int, seconds: float | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"llm_service.attempt.number": number}
    if seconds is not None:
        facts["llm_service.wait.duration"] = seconds
    return facts
