from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from llm_core import (
    GenerationFinished,
    GenerationStarted,
    InvalidValue,
    StepEnded,
    TelemetryClient,
    TelemetryEvent,
    TraceSource,
)
from llm_core.testing import RecordingTelemetry, TracingTelemetry
from llm_metrics import NullTelemetry, QueuedTelemetry, TelemetryFanOut


class Broken(RecordingTelemetry):
    """A backend that always raises."""

    def emit(self, event: TelemetryEvent) -> None:
        raise RuntimeError("broken")

    def close(self, timeout: float | None = None) -> None:
        raise RuntimeError("broken")


class BrokenTracer(Broken, TracingTelemetry):
    def trace_context(self, request_id: str, *, attempt: int | None = None) -> None:
        raise RuntimeError("broken")

    def activate(self, request_id: str, *, attempt: int | None = None) -> None:  # type: ignore[override]
        raise RuntimeError("broken")


class Stuck(RecordingTelemetry):
    """A backend that does not come back until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def emit(self, event: TelemetryEvent) -> None:
        self.entered.set()
        self.let_go.wait(10)
        super().emit(event)


def test_null_takes_everything_and_keeps_nothing(events: list[TelemetryEvent]) -> None:
    null = NullTelemetry()
    assert isinstance(null, TelemetryClient)
    for event in events:
        null.emit(event)
    null.close()


class TestFanOut:
    def test_every_backend_hears_everything(self, events: list[TelemetryEvent]) -> None:
        backends = [RecordingTelemetry(), RecordingTelemetry()]
        fan_out = TelemetryFanOut(backends)
        for event in events:
            fan_out.emit(event)
        fan_out.close()
        assert [b.events for b in backends] == [events, events]
        assert all(b.closed for b in backends)
        assert fan_out.faults == {}
        assert set(fan_out.backends) == set(backends)

    def test_a_backend_that_wants_some_events_hears_no_others(
        self, events: list[TelemetryEvent]
    ) -> None:
        class Ends(RecordingTelemetry):
            wanted = (GenerationFinished,)

        ends = Ends()
        fan_out = TelemetryFanOut([ends])
        for event in events:
            fan_out.emit(event)
        assert [type(event) for event in ends.events] == [GenerationFinished]
        assert GenerationFinished in fan_out.heard
        assert StepEnded not in fan_out.heard

    def test_a_broken_backend_harms_neither_the_call_nor_the_others(
        self, events: list[TelemetryEvent], caplog: pytest.LogCaptureFixture
    ) -> None:
        whole = RecordingTelemetry()
        fan_out = TelemetryFanOut([Broken(), whole])
        for event in events:
            fan_out.emit(event)
        fan_out.close(1.0)
        assert whole.events == events
        assert whole.closed
        assert fan_out.faults == {"Broken": len(events) + 1}
        assert [record.levelname for record in caplog.records] == ["ERROR"]

    def test_the_one_that_makes_spans_tells_the_others_the_ids(
        self, events: list[TelemetryEvent]
    ) -> None:
        plain, tracer = RecordingTelemetry(), TracingTelemetry()
        fan_out = TelemetryFanOut([plain, tracer])
        assert isinstance(fan_out, TraceSource)
        fan_out.emit(replace(events[0], trace=None))
        [started] = plain.events
        assert isinstance(started, GenerationStarted)
        assert started.trace == tracer.context == fan_out.trace_context("call-1")
        with fan_out.activate("call-1", attempt=2):
            assert tracer.active == [("call-1", 2)]

    def test_without_one_that_makes_spans_a_call_has_ids_of_its_own(
        self, events: list[TelemetryEvent]
    ) -> None:
        plain = RecordingTelemetry()
        fan_out = TelemetryFanOut([plain])
        fan_out.emit(replace(events[0], trace=None))
        [started] = plain.events
        assert isinstance(started, GenerationStarted)
        assert started.trace is not None
        assert fan_out.trace_context("call-1") == started.trace
        assert fan_out.trace_context("call-1", attempt=1) is None
        with fan_out.activate("call-1"):
            assert fan_out.faults == {}
        fan_out.emit(events[-1])
        assert fan_out.trace_context("call-1") is None

    def test_the_callers_trace_is_kept(self, events: list[TelemetryEvent]) -> None:
        plain = RecordingTelemetry()
        TelemetryFanOut([TelemetryFanOut([plain])]).emit(events[0])
        assert plain.events == [events[0]]

    def test_one_inside_another_says_the_same_ids(self, events: list[TelemetryEvent]) -> None:
        inner, outer = RecordingTelemetry(), RecordingTelemetry()
        fan_out = TelemetryFanOut([outer, TelemetryFanOut([inner])])
        fan_out.emit(replace(events[0], trace=None))
        assert inner.events == outer.events
        assert fan_out.trace_context("call-1") is not None

    def test_calls_that_never_finish_are_forgotten_at_last(
        self, events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from llm_metrics import delivery

        monkeypatch.setattr(delivery, "_CALLS_REMEMBERED", 1)
        fan_out = TelemetryFanOut([NullTelemetry()])
        for name in ("old", "new"):
            fan_out.emit(replace(events[0], request_id=name, trace=None))
        assert fan_out.trace_context("old") is None
        assert fan_out.trace_context("new") is not None

    def test_a_broken_tracer_is_contained_as_well(self, events: list[TelemetryEvent]) -> None:
        fan_out = TelemetryFanOut([BrokenTracer()])
        fan_out.emit(events[0])
        with fan_out.activate("call-1"):
            assert fan_out.trace_context("call-1", attempt=1) is None
        assert fan_out.faults == {"BrokenTracer": 4}


class TestQueue:
    def test_closing_delivers_everything_in_order(self, events: list[TelemetryEvent]) -> None:
        backend = RecordingTelemetry()
        queue = QueuedTelemetry(backend)
        for event in events:
            queue.emit(event)
        queue.close()
        assert backend.events == events
        assert backend.closed
        assert (queue.dropped, queue.faults) == (0, 0)

    def test_delivery_happens_without_closing(self, events: list[TelemetryEvent]) -> None:
        backend = Stuck()
        queue = QueuedTelemetry(backend)
        queue.emit(events[0])
        assert backend.entered.wait(10)
        backend.let_go.set()
        queue.close()
        assert backend.events == events[:1]

    def test_a_full_queue_drops_and_counts_and_does_not_wait(
        self, events: list[TelemetryEvent]
    ) -> None:
        backend = Stuck()
        queue = QueuedTelemetry(backend, capacity=3)
        queue.emit(events[0])
        assert backend.entered.wait(10)
        for _ in range(5):
            queue.emit(events[0])
        assert queue.dropped == 2
        backend.let_go.set()
        queue.close()
        assert len(backend.events) == 4

    def test_closing_gives_up_after_its_timeout(self, events: list[TelemetryEvent]) -> None:
        before = set(threading.enumerate())
        backend = Stuck()
        queue = QueuedTelemetry(backend)
        for _ in range(3):
            queue.emit(events[0])
        assert backend.entered.wait(10)
        queue.close(0.01)
        assert queue.dropped == 2
        [thread] = set(threading.enumerate()) - before
        backend.let_go.set()
        thread.join(10)
        assert len(backend.events) == 1  # what was counted as dropped does not come after all

    def test_what_waits_for_a_thread_that_cannot_start_is_delivered_by_closing(
        self, events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        backend = RecordingTelemetry()
        queue = QueuedTelemetry(backend)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            queue.emit(events[0])
        queue.close()
        assert backend.events == events[:1]

    def test_what_comes_after_closing_is_dropped(self, events: list[TelemetryEvent]) -> None:
        backend = RecordingTelemetry()
        queue = QueuedTelemetry(backend)
        queue.close()
        queue.close()
        queue.emit(events[0])
        assert (queue.dropped, backend.events) == (1, [])

    def test_a_broken_backend_is_counted_and_logged_once(
        self, events: list[TelemetryEvent], caplog: pytest.LogCaptureFixture
    ) -> None:
        queue = QueuedTelemetry(Broken())
        for event in events[:3]:
            queue.emit(event)
        queue.close()
        assert queue.faults == 4
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    def test_a_queue_without_room_is_refused(self) -> None:
        with pytest.raises(InvalidValue, match="capacity"):
            QueuedTelemetry(NullTelemetry(), capacity=0)

    def test_the_end_of_the_program_delivers_what_is_queued(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"
        ran = run(
            f"""
            from llm_core import GenerationRequest, GenerationStarted
            from llm_metrics import JsonLinesTelemetry
            lines = JsonLinesTelemetry({str(path)!r})
            request = GenerationRequest(user="hi")
            lines.emit(GenerationStarted(request_id="r", at_ns=0, request=request))
            """
        )
        assert ran.returncode == 0, ran.stderr
        assert '"request_id": "r"' in path.read_text("utf-8")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_delivers_its_own_events_only(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"
        ran = run(
            f"""
            import os, warnings
            from llm_core import GenerationRequest, GenerationStarted
            from llm_metrics import JsonLinesTelemetry
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
            lines = JsonLinesTelemetry({str(path)!r})
            def emit(name):
                request = GenerationRequest(user="hi")
                lines.emit(GenerationStarted(request_id=name, at_ns=0, request=request))
            emit("parent")
            child = os.fork()
            if not child:
                emit("child")
                lines.close()
                os._exit(0)
            os.waitpid(child, 0)
            lines.close()
            """
        )
        assert ran.returncode == 0, ran.stderr
        written = path.read_text("utf-8")
        assert (written.count("parent"), written.count("child")) == (1, 1)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
