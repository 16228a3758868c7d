"""The histograms and counters that a finished call is recorded in."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from typing import Any, Final

from opentelemetry.metrics import Meter

from llm_core import GenerationResult
from llm_core.conventions import CALL_METRICS, Metric, measurements
from llm_core.forks import begin_anew_in_children

__all__ = ["Instruments"]

_CAPACITY: Final = 10_000
_LINGER_SECONDS: Final = 0.1

_SHARED = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "server.address",
    "server.port",
)


class Instruments:
    """The conventions' client metrics, and under ``llm_service.*`` what they have no word for.

    What is put is recorded on a thread of its own; beyond 10,000 calls that wait for it the newest
    are dropped and counted in `dropped`.
    """

    def __init__(self, meter: Meter) -> None:
        self.dropped = 0
        self._waiting: deque[tuple[GenerationResult[Any], dict[str, Any]]] = deque()
        self.begin_anew()
        begin_anew_in_children(self)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._pid: int | None = None
        self._histograms = {metric.name: _histogram(meter, metric) for metric in CALL_METRICS}
        self._attempts = meter.create_counter(
            "llm_service.attempts", "{attempt}", "Requests sent to providers, retries included."
        )
        self._wait = meter.create_counter(
            "llm_service.wait", "s", "Waiting at our own gates and pauses between attempts."
        )
        self._cost = meter.create_counter(
            "llm_service.cost", "{currency}", "Money spent, as far as prices are known."
        )

    def begin_anew(self) -> None:
        """Wait for no thread that is starting: in a forked child there is none."""
        self._starting = threading.Lock()

    def put(self, result: GenerationResult[Any], facts: dict[str, Any]) -> None:
        """Hand over one finished call; `facts` are its span's attributes."""
        if self._pid != os.getpid():
            self._start()
        if len(self._waiting) >= _CAPACITY or self._stop.is_set():
            self.dropped += 1
            return
        self._waiting.append((result, facts))
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Record what waits, on this thread; what comes later is dropped."""
        self._stop.set()
        self._wake.set()
        atexit.unregister(self.close)
        self._flush()

    def _start(self) -> None:
        """Start the recording thread, once per process: threads do not survive a fork."""
        with self._starting:
            if self._pid == os.getpid():
                return
            if self._pid is None:
                atexit.register(
                    self.close
                )  # runs before the SDK's own, which was registered earlier
            else:
                self._waiting.clear()  # the parent records these
            self._pid = os.getpid()
            self._wake = threading.Event()
            name = "llm-telemetry-otel-metrics"
            threading.Thread(target=self._run, args=(self._wake,), name=name, daemon=True).start()

    def _run(self, wake: threading.Event) -> None:
        while not self._stop.is_set():
            wake.wait()
            self._stop.wait(_LINGER_SECONDS)
            wake.clear()
            self._flush()

    def _flush(self) -> None:
        while True:
            try:
                result, facts = self._waiting.popleft()
            except IndexError:
                return
            self.record(result, facts)

    def record(self, result: GenerationResult[Any], facts: dict[str, Any]) -> None:
        """Record one finished call now."""
        shared = {name: facts[name] for name in _SHARED if name in facts}
        for metric, value, own in measurements(result, facts):
            self._histograms[metric.name].record(value, shared | own)
        self._record_own(result, shared)

    def _record_own(self, result: GenerationResult[Any], shared: dict[str, Any]) -> None:
        self._attempts.add(len(result.attempts), shared)
        waits = result.backoff
        if waits.gate_wait_seconds:
            self._wait.add(waits.gate_wait_seconds, shared | {"llm_service.wait.kind": "queue"})
        if waits.backoff_seconds:
            self._wait.add(waits.backoff_seconds, shared | {"llm_service.wait.kind": "backoff"})
        if result.cost.amount is not None:
            currency = {"llm_service.cost.currency": result.cost.currency}
            self._cost.add(float(result.cost.amount), shared | currency)


def _histogram(meter: Meter, metric: Metric) -> Any:
    return meter.create_histogram(
        metric.name,
        metric.unit,
        metric.description,
        explicit_bucket_boundaries_advisory=metric.boundaries,
    )
