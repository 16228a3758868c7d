"""How events reach backends without slowing or breaking a call."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Final, get_args

from llm_core import (
    GenerationFinished,
    GenerationStarted,
    InvalidValue,
    TelemetryClient,
    TelemetryEvent,
    TraceContext,
    TraceSource,
)

__all__ = ["NullTelemetry", "QueuedTelemetry", "TelemetryFanOut"]

_log = logging.getLogger("llm_metrics")

# How long the delivering thread lets events gather: it wakes ten times a second at most.
_LINGER_SECONDS: Final = 0.1
_EXIT_SECONDS: Final = 5.0
_CALLS_REMEMBERED: Final = 65_536


class NullTelemetry:
    """Telemetry for nobody."""

    wanted: tuple[type[TelemetryEvent], ...] = ()

    def emit(self, event: TelemetryEvent) -> None:
        """Drop the event."""

    def close(self, timeout: float | None = None) -> None:
        """Do nothing."""


class TelemetryFanOut:
    """Gives every event to several backends; what one of them raises is counted and goes no further.

    The first backend that makes spans (`TraceSource`) hears of a call before the others, so that
    they all say the same trace ids; where none does and no span was active, the call gets ids of
    its own. A fault is logged once per backend and counted in `faults`.
    A backend with an attribute `wanted`, a tuple of event classes, is given these and no others.
    """

    def __init__(self, backends: Sequence[TelemetryClient]) -> None:
        tracers = [b for b in backends if isinstance(b, TraceSource) and _makes_spans(b)]
        self._tracer = tracers[0] if tracers else None
        self.makes_spans = self._tracer is not None
        """Whether a backend makes spans, and so gives calls their trace ids."""
        self._backends = sorted(backends, key=lambda backend: backend is not self._tracer)
        self._listeners = {kind: self._who_hears(kind) for kind in get_args(TelemetryEvent)}
        spans = {GenerationStarted} if self.makes_spans else set()
        self.heard = frozenset({kind for kind, who in self._listeners.items() if who} | spans)
        """The kinds of event that any backend wants, so that they are worth being made."""
        self._faults: dict[str, int] = {}
        self._own_traces: dict[str, TraceContext] = {}

    @property
    def backends(self) -> tuple[TelemetryClient, ...]:
        """The backends, the one that makes spans first."""
        return tuple(self._backends)

    @property
    def faults(self) -> dict[str, int]:
        """How often each backend raised, by its class's name; empty while all is well."""
        return dict(self._faults)

    @property
    def wanted(self) -> tuple[type[TelemetryEvent], ...]:
        """The kinds of event that any backend wants, as a backend says it."""
        return tuple(self.heard)

    def emit(self, event: TelemetryEvent) -> None:
        """Hand the event to each backend in turn."""
        if isinstance(event, GenerationStarted):
            event = self._begin(event)
        for backend in self._listeners[type(event)]:
            try:
                backend.emit(event)
            except Exception:  # noqa: BLE001 - a broken backend must not break a call
                self._note_fault(backend)
        if self._own_traces and isinstance(event, GenerationFinished):
            self._own_traces.pop(event.request_id, None)

    def close(self, timeout: float | None = None) -> None:
        """Close each backend, all of them within `timeout` seconds together."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for backend in self._backends:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                backend.close(left)
            except Exception:  # noqa: BLE001 - the others must still be closed
                self._note_fault(backend)

    def trace_context(self, request_id: str, *, attempt: int | None = None) -> TraceContext | None:
        """Return the span of the call or attempt; of a call that nobody traces, its own ids."""
        own = self._own_traces.get(request_id) if attempt is None else None
        return own or self._traced(request_id, attempt)

    def activate(
        self, request_id: str, *, attempt: int | None = None
    ) -> AbstractContextManager[None]:
        """Make that span the current one, if a backend makes spans."""
        if self._tracer is None:
            return nullcontext()
        try:
            return self._tracer.activate(request_id, attempt=attempt)
        except Exception:  # noqa: BLE001 - as in emit
            self._note_fault(self._tracer)
            return nullcontext()

    def _who_hears(self, kind: type[TelemetryEvent]) -> list[TelemetryClient]:
        heard = [b for b in self._backends if kind in getattr(b, "wanted", (kind,))]
        # The one that makes spans hears of a call first and apart, as what it makes is told to the others.
        return (
            heard if kind is not GenerationStarted else [b for b in heard if b is not self._tracer]
        )

    def _begin(self, event: GenerationStarted) -> GenerationStarted:
        """Let the span of the call be made; return the event with its trace, or with ids of the call's own."""
        if self._tracer is None and event.trace is not None:
            return event
        trace = self._spanned(event) or event.trace
        if trace is None:
            # Calls that never finish must not pile up.
            if len(self._own_traces) >= _CALLS_REMEMBERED:
                self._own_traces.pop(next(iter(self._own_traces)), None)
            trace = self._own_traces[event.request_id] = TraceContext.new(local=True)
        return event if trace is event.trace else replace(event, trace=trace)

    def _spanned(self, event: GenerationStarted) -> TraceContext | None:
        if self._tracer is None:
            return None
        try:
            self._tracer.emit(event)
        except Exception:  # noqa: BLE001 - as in emit
            self._note_fault(self._tracer)
        return self._traced(event.request_id)

    def _traced(self, request_id: str, attempt: int | None = None) -> TraceContext | None:
        if self._tracer is None:
            return None
        try:
            return self._tracer.trace_context(request_id, attempt=attempt)
        except Exception:  # noqa: BLE001 - as in emit
            self._note_fault(self._tracer)
            return None

    def _note_fault(self, backend: object) -> None:
        name = type(backend).__name__
        seen = self._faults.get(name, 0)
        self._faults[name] = seen + 1
        if not seen:
            _log.exception("telemetry backend %s raised; later faults are only counted", name)


def _makes_spans(backend: TraceSource) -> bool:
    """Whether it really does: what hands events on can ask for spans, but may have nobody who makes any."""
    return getattr(backend, "makes_spans", True)


class QueuedTelemetry:
    """Delivers events to a slow backend on a thread of its own.

    `emit` appends to a queue and returns. When the queue is full the event is dropped and counted
    in `dropped`; what the backend raises is counted in `faults` and logged once. `close` delivers
    what is queued, and so does the end of the program, for at most five seconds.
    The thread starts with the first event, also in a forked child, which starts with an empty queue.
    """

    def __init__(self, backend: TelemetryClient, *, capacity: int = 10_000) -> None:
        if capacity < 1:
            raise InvalidValue.of("QueuedTelemetry.capacity", capacity, "1 or more events")
        self._backend = backend
        self._capacity = capacity
        self._dropped = 0
        self._faults = 0
        self._closed = False
        self._start_afresh()
        atexit.register(self.close, _EXIT_SECONDS)

    @property
    def dropped(self) -> int:
        """Events that found the queue full, or came after `close`."""
        return self._dropped

    @property
    def faults(self) -> int:
        """How often the backend raised."""
        return self._faults

    def emit(self, event: TelemetryEvent) -> None:
        """Queue the event, or drop and count it."""
        if self._pid != os.getpid():
            self._start_afresh()  # threads do not survive a fork, and the parent delivers its queue
        if self._closed or len(self._queue) >= self._capacity:
            self._dropped += 1
            return
        self._queue.append(event)
        if not self._wake.is_set():
            self._wake.set()
            self._start_thread()

    def close(self, timeout: float | None = None) -> None:
        """Deliver what is queued, for at most `timeout` seconds (None: all of it), and stop."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._pid != os.getpid():
            self._start_afresh()  # as in emit; and the fork may have come while the lock was held
        with self._starting:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        self._stop.set()
        self._wake.set()
        if self._thread is None:  # it could not start: too many threads, or the program is ending
            self._empty_queue()
        else:
            self._thread.join(timeout)
        self._drop_queue()
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        self._contained(partial(self._backend.close, left))

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._queue: deque[TelemetryEvent] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def _start_thread(self) -> None:
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None and not self._closed:
                thread = threading.Thread(
                    target=self._deliver, name="llm-metrics-delivery", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # the next event tries again, and `close` delivers
                    self._wake.clear()
                else:
                    self._thread = thread

    def _deliver(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._stop.wait(_LINGER_SECONDS)
            self._wake.clear()  # before the queue is emptied: what comes meanwhile wakes again
            self._empty_queue()
        self._empty_queue()

    def _empty_queue(self) -> None:
        while (event := self._next()) is not None:
            self._contained(partial(self._backend.emit, event))

    def _drop_queue(self) -> None:
        """Take out what nobody had the time to deliver, so that it is not delivered after all."""
        while self._next() is not None:
            self._dropped += 1

    def _next(self) -> TelemetryEvent | None:
        try:
            return self._queue.popleft()
        except IndexError:
            return None

    def _contained(self, deliver: Callable[[], None]) -> None:
        try:
            deliver()
        except Exception:  # noqa: BLE001 - the thread must survive, and a call must not notice
            self._faults += 1
            if self._faults == 1:
                name = type(self._backend).__name__
                _log.exception("telemetry backend %s raised; later faults are only counted", name)
