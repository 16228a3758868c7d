"""`JsonLinesTelemetry`: the life of every call as one JSON object per line.

The schema stands in ``json_lines.schema.json`` beside this module (`json_lines_schema`).
Names with a dot are OpenTelemetry's (see `llm_core.conventions`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TextIO

from llm_core import (
    AttemptEnded,
    AttemptStarted,
    Clock,
    ErrorInfo,
    FirstToken,
    GenerationFinished,
    GenerationStarted,
    InvocationAttempt,
    StepEnded,
    SystemClock,
    TelemetryEvent,
    TraceContext,
    to_json,
)
from llm_core.conventions import provider_name, request_attributes, result_attributes
from llm_metrics.delivery import QueuedTelemetry
from llm_metrics.redaction import redact
from llm_metrics.rotating_file import RotatingFile

__all__ = ["JsonLinesTelemetry", "json_lines_schema"]

SCHEMA_NAME: Final = "llm-metrics/1"
_CALLS_REMEMBERED: Final = 65_536


def json_lines_schema() -> Mapping[str, Any]:
    """Return the JSON Schema that every line satisfies."""
    import importlib.resources  # only whoever checks lines needs it

    folder = importlib.resources.files("llm_metrics")
    text = (folder / "json_lines.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


class JsonLinesTelemetry:
    """Writes one JSON object per event to a rotating file, or to a stream (standard error).

    Lines are made and written on a thread of their own; see `QueuedTelemetry` for what happens when
    it does not keep up (`dropped`), when writing fails (`faults`) and at the program's end.

    Prompts, answers and step contents are left out unless `contents` is set. Keys, tokens and
    passwords are replaced in everything that is written, contents included; `redact` is the
    function that does it.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        stream: TextIO | None = None,
        contents: bool = False,
        max_bytes: int = 50_000_000,
        keep: int = 5,
        capacity: int = 10_000,
        redact: Callable[[Any], Any] = redact,
        clock: Clock | None = None,
    ) -> None:
        target: _Target = _StreamTarget(stream)
        if path is not None:
            target = RotatingFile(Path(path), max_bytes=max_bytes, keep=keep)
        writer = _LineWriter(target, contents, redact, clock or SystemClock())
        self._queue = QueuedTelemetry(writer, capacity=capacity)

    @property
    def dropped(self) -> int:
        """Events that were not written because the queue was full, or after `close`."""
        return self._queue.dropped

    @property
    def faults(self) -> int:
        """Events that could not be written."""
        return self._queue.faults

    def emit(self, event: TelemetryEvent) -> None:
        """Queue the event for writing."""
        self._queue.emit(event)

    def close(self, timeout: float | None = None) -> None:
        """Write what is queued, for at most `timeout` seconds, and close the file."""
        self._queue.close(timeout)


class _StreamTarget:
    """A stream as a target: standard error, as it is when the line is written, unless given."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        print(line, file=self._stream or sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the stream open: it is not ours."""


_Target = RotatingFile | _StreamTarget


class _Call:
    """What the lines of one call have in common."""

    __slots__ = ("known", "read_at", "read_ns", "trace")

    def __init__(self, event: GenerationStarted | None, clock: Clock) -> None:
        # One reading of the wall clock per call; every event's time follows from its monotonic one.
        self.read_at, self.read_ns = clock.now(), clock.monotonic_ns()
        self.trace: TraceContext | None = event.trace if event else None
        self.known: dict[str, Any] = {}
        if event is not None:
            attributes = request_attributes(event.request)
            self.known = {name: attributes[name] for name in _ON_EVERY_LINE if name in attributes}

    def utc(self, at_ns: int) -> datetime:
        return self.read_at + timedelta(microseconds=(at_ns - self.read_ns) / 1e3)


_ON_EVERY_LINE = ("llm_service.operation", "llm_service.tenant")


class _LineWriter:
    """Turns events into lines; runs on the queue's thread."""

    def __init__(
        self, target: _Target, contents: bool, redact: Callable[[Any], Any], clock: Clock
    ) -> None:
        self._target = target
        self._clock = clock
        self._contents = contents
        self._redact = redact
        self._calls: dict[str, _Call] = {}

    def emit(self, event: TelemetryEvent) -> None:
        """Write one line."""
        line = json.dumps(self._redact(self._line(event)), ensure_ascii=False, default=repr)
        # Half of a surrogate pair has no UTF-8, but an escape that JSON knows as well.
        self._target.write(line.encode("utf-8", "backslashreplace").decode())

    def close(self, timeout: float | None = None) -> None:
        """Close the target."""
        self._target.close()

    def _line(self, event: TelemetryEvent) -> dict[str, Any]:
        call = self._call_of(event)
        line: dict[str, Any] = {
            "schema": SCHEMA_NAME,
            "event": event.kind,
            "at": call.utc(event.at_ns).isoformat(timespec="microseconds"),
            "request_id": event.request_id,
        }
        if call.trace is not None:
            line |= {"trace_id": call.trace.trace_id, "span_id": call.trace.span_id}
        line |= call.known | self._facts(event)
        return {name: value for name, value in line.items() if value is not None}

    def _call_of(self, event: TelemetryEvent) -> _Call:
        if isinstance(event, GenerationStarted):
            if len(self._calls) >= _CALLS_REMEMBERED:  # calls that never finish must not pile up
                self._calls.pop(next(iter(self._calls)))
            call = self._calls[event.request_id] = _Call(event, self._clock)
            return call
        if isinstance(event, GenerationFinished):
            call = self._calls.pop(event.request_id, _Call(None, self._clock))
            result = event.result
            if call.trace is None and result.trace_id and result.span_id:
                call.trace = TraceContext(trace_id=result.trace_id, span_id=result.span_id)
            return call
        return self._calls.get(event.request_id) or _Call(None, self._clock)

    def _facts(self, event: TelemetryEvent) -> dict[str, Any]:
        if isinstance(event, GenerationStarted):
            facts = request_attributes(event.request)
            return facts | self._content(request=event.request)
        if isinstance(event, AttemptStarted):
            return {
                "attempt": event.number,
                "gen_ai.provider.name": provider_name(event.provider),
                "gen_ai.request.model": event.model,
            }
        if isinstance(event, FirstToken):
            return {"attempt": event.number}
        if isinstance(event, AttemptEnded):
            return _attempt_facts(event.attempt)
        if isinstance(event, StepEnded):
            step = event.step
            facts = {
                "step": step.step,
                "success": step.success,
                "duration_seconds": step.duration_seconds,
                "skipped": step.skipped,
                "lossy": step.lossy,
            }
            content = self._content(before=step.before, after=step.after)
            return facts | _error_facts(step.error) | content
        return self._finished_facts(event)

    def _finished_facts(self, event: GenerationFinished) -> dict[str, Any]:
        result = event.result
        times, backoff = result.timestamps, result.backoff
        return (
            {
                "success": result.success,
                "duration_seconds": times.total_seconds,
                "queue_seconds": backoff.gate_wait_seconds,
                "backoff_seconds": backoff.backoff_seconds,
                "refine_seconds": times.refine_seconds,
                "cost_source": result.cost.source,
            }
            | result_attributes(result)
            | _error_facts(result.error)
            | self._content(content=result.content, raw_content=result.raw_content)
        )

    def _content(self, **contents: Any) -> dict[str, Any]:
        if not self._contents:
            return {}
        return {"contents": to_json(contents)}


def _attempt_facts(attempt: InvocationAttempt) -> dict[str, Any]:
    times, usage, cost = attempt.timestamps, attempt.usage, attempt.cost
    facts: dict[str, Any] = {
        "attempt": attempt.number,
        "purpose": attempt.purpose,
        "success": attempt.success,
        "gen_ai.provider.name": provider_name(attempt.provider),
        "gen_ai.request.model": attempt.model,
        "duration_seconds": times.call_seconds,
        "queue_seconds": times.queue_seconds,
        "waited_for": attempt.waited_for,
        "gen_ai.response.time_to_first_chunk": times.time_to_first_token_seconds,
        "provider_request_id": attempt.provider_request_id,
    }
    if usage is not None:
        facts |= {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "usage_estimated": usage.estimated,
        }
    if cost is not None:
        facts |= {
            "cost": None if cost.amount is None else str(cost.amount),
            "currency": cost.currency,
            "cost_status": cost.status.value,
            "cost_source": cost.source,
        }
    return facts | _error_facts(attempt.error)


def _error_facts(error: ErrorInfo | None) -> dict[str, Any]:
    if error is None:
        return {}
    facts = {
        "error.type": error.type.value,
        "error_message": error.message,
        "status_code": error.status_code,
        "error_code": error.code,
        "retry_after_seconds": error.retry_after,
    }
    return {name: value for name, value in facts.items() if value is not None}
