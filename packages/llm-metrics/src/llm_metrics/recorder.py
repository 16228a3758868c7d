"""`MetricsRecorder`: rates and durations of everything that goes to providers."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from llm_core import (
    AttemptEnded,
    AttemptStarted,
    Clock,
    GenerationFinished,
    GenerationStarted,
    InvalidValue,
    SystemClock,
    TelemetryEvent,
)
from llm_core.forks import begin_anew_in_children
from llm_metrics.snapshot import OTHER, Labels, Quantiles, StatsSnapshot, TrafficStats
from llm_metrics.window import (
    FAILED,
    INPUT,
    OUTPUT,
    RECEIVED,
    SENT,
    WAITED,
    Counts,
    Durations,
    ExactCounts,
    ExactDurations,
    LogDurations,
    Mark,
    RingCounts,
    quantile,
)

__all__ = ["MetricsRecorder"]

_LATENCY, _FIRST_TOKEN, _QUEUE, _BACKOFF = range(4)

# Marks are taken in without a lock and sorted in by the thousand, so that threads seldom meet.
_FOLD_AT: Final = 1024
_FOLD_NOW: Final = 16 * _FOLD_AT
_CALLS_REMEMBERED: Final = 65_536

_NOTHING = Labels()


class _Series:
    """What is kept for one combination of labels."""

    __slots__ = ("counts", "durations", "totals")

    def __init__(self, counts: Counts, durations: list[Durations]) -> None:
        self.totals = [0, 0, 0, 0]
        """How many marks of each kind there ever were."""
        self.counts = counts
        self.durations = durations

    def take(self, marks: list[Mark]) -> None:
        """Take in marks with these labels."""
        self.counts.take(marks)
        latency, first_token, queue, backoff = self.durations
        for kind, at_ns, _, _, _, first, second in marks:
            self.totals[kind] += 1
            if first is not None:
                (queue if kind == WAITED else latency).add(at_ns, first)
            if second is not None:
                (backoff if kind == WAITED else first_token).add(at_ns, second)


class MetricsRecorder:
    """Counts requests, tokens and times over a sliding window; also a telemetry backend.

    Any thread and any event loop may mark; a mark appends to a queue without taking a lock.
    Memory is constant whatever the rate: a ring of 240 buckets for the rates (of 60 seconds, 250 ms
    each; within 1 % of the exact count for steady traffic, and never further off than what fell
    into the window's oldest bucket) and logarithmic histograms for the times (quantiles within
    2 %, over the last 60 to 70 seconds). `exact=True` keeps every event of the window instead:
    exact, and as large as the rate.

    At most `max_series` combinations of operation, model, provider and tenant are told apart; later
    ones count as ``(other)``. A combination takes about 25 KB and what its histograms hold.
    """

    wanted = (GenerationStarted, AttemptStarted, AttemptEnded, GenerationFinished)

    def __init__(
        self,
        *,
        window_seconds: float = 60.0,
        exact: bool = False,
        max_series: int = 200,
        clock: Clock | None = None,
    ) -> None:
        if not 1 <= window_seconds <= 86_400:
            expected = "1 to 86400 seconds"
            raise InvalidValue.of("MetricsRecorder.window_seconds", window_seconds, expected)
        if max_series < 1:
            raise InvalidValue.of("MetricsRecorder.max_series", max_series, "1 or more")
        self._window_ns = round(window_seconds * 1e9)
        self._factor = 60e9 / self._window_ns
        self._exact = exact
        self._max_series = max_series
        self._clock = clock or SystemClock()
        self._now: Callable[[], int] = self._clock.monotonic_ns
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Forget all marks, whoever is making one: a forked child has made none yet."""
        self._pending: list[Mark] = []
        """What is to be sorted into the series."""
        self._counted = 0
        """How many of these are in the rates of all traffic, which are asked for far more often."""
        self._lock = threading.Lock()
        self._series: dict[Labels, _Series] = {}
        self._total = self._new_counts()
        self._calls: dict[str, tuple[str, str]] = {}

    def mark_sent(self, labels: Labels = _NOTHING) -> None:
        """Note that a request goes to a provider."""
        self._pending.append((SENT, self._now(), labels, 0, 0, None, None))
        if len(self._pending) >= _FOLD_AT:
            self._relieve()

    def mark_received(
        self,
        labels: Labels = _NOTHING,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        latency_seconds: float | None = None,
        first_token_seconds: float | None = None,
    ) -> None:
        """Note that a complete answer came, with its tokens and how long it took."""
        self._pending.append(
            (
                RECEIVED,
                self._now(),
                labels,
                input_tokens,
                output_tokens,
                latency_seconds,
                first_token_seconds,
            )
        )
        if len(self._pending) >= _FOLD_AT:
            self._relieve()

    def mark_failed(
        self,
        labels: Labels = _NOTHING,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        latency_seconds: float | None = None,
        first_token_seconds: float | None = None,
    ) -> None:
        """Note that a request ended in an error, with what it had used until then."""
        self._pending.append(
            (
                FAILED,
                self._now(),
                labels,
                input_tokens,
                output_tokens,
                latency_seconds,
                first_token_seconds,
            )
        )
        if len(self._pending) >= _FOLD_AT:
            self._relieve()

    def mark_waited(
        self,
        labels: Labels = _NOTHING,
        *,
        queue_seconds: float | None = None,
        backoff_seconds: float | None = None,
    ) -> None:
        """Note time spent at our own gates, or in pauses between attempts."""
        self._pending.append((WAITED, self._now(), labels, 0, 0, queue_seconds, backoff_seconds))
        if len(self._pending) >= _FOLD_AT:
            self._relieve()

    def emit(self, event: TelemetryEvent) -> None:
        """Mark what a telemetry event tells."""
        if isinstance(event, GenerationStarted):
            if len(self._calls) >= _CALLS_REMEMBERED:  # calls that never finished must not pile up
                self._calls.pop(next(iter(self._calls)), None)
            request = event.request
            self._calls[event.request_id] = (request.operation_name or "", request.tenant or "")
        elif isinstance(event, AttemptStarted):
            self.mark_sent(self._labels(event.request_id, event.provider, event.model))
        elif isinstance(event, AttemptEnded):
            self._mark_attempt(event)
        elif isinstance(event, GenerationFinished):
            self._mark_call(event)

    def close(self, timeout: float | None = None) -> None:
        """Do nothing: there is nothing to deliver. What was marked can still be read."""

    def per_minute(self) -> tuple[float, float]:
        """Return requests and tokens (input and output) per minute of all traffic."""
        with self._lock:
            if len(self._pending) > self._counted:
                self._count()
            requests, tokens = self._total.traffic(self._now())
        return requests * self._factor, tokens * self._factor

    def snapshot(self) -> StatsSnapshot:
        """Return all rates and quantiles as they are now."""
        with self._lock:
            self._fold()
            now_ns = self._now()
            series = {
                labels: (list(kept.totals), kept.counts.sums(now_ns), _histograms(kept, now_ns))
                for labels, kept in self._series.items()
            }
        return StatsSnapshot(
            at=self._clock.now(),
            window_seconds=self._window_ns / 1e9,
            total=self._stats(list(series.values())),
            by_operation=self._cut(series, "operation"),
            by_model=self._cut(series, "model"),
            by_provider=self._cut(series, "provider"),
            by_tenant=self._cut(series, "tenant"),
        )

    def _relieve(self) -> None:
        """Sort in what is pending if the lock is free; if nobody keeps up, wait for it."""
        if self._lock.acquire(blocking=len(self._pending) >= _FOLD_NOW):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _count(self) -> None:
        """Count what was marked since the last time into the rates of all traffic; the caller holds the lock."""
        marks = self._pending[self._counted :]
        self._counted += len(marks)
        self._total.take(marks)

    def _fold(self) -> None:
        """Sort what is pending into the series; the caller holds the lock."""
        self._count()
        sorted_in: defaultdict[Labels, list[Mark]] = defaultdict(list)
        for mark in self._pending[: self._counted]:
            sorted_in[mark[2]].append(mark)
        del self._pending[: self._counted]
        self._counted = 0
        for labels, marks in sorted_in.items():
            series = self._series.get(labels) or self._new_labels(labels)
            series.take(marks)

    def _new_labels(self, labels: Labels) -> _Series:
        if len(self._series) >= self._max_series - 1:
            labels = Labels(OTHER, OTHER, OTHER, OTHER)
            if labels in self._series:
                return self._series[labels]
        return self._series.setdefault(labels, self._new_series())

    def _new_series(self) -> _Series:
        durations = ExactDurations if self._exact else LogDurations
        return _Series(self._new_counts(), [durations(self._window_ns) for _ in range(4)])

    def _new_counts(self) -> Counts:
        return (ExactCounts if self._exact else RingCounts)(self._window_ns)

    def _labels(self, request_id: str, provider: str, model: str) -> Labels:
        operation, tenant = self._calls.get(request_id, ("", ""))
        return Labels(operation, model, provider, tenant)

    def _mark_attempt(self, event: AttemptEnded) -> None:
        attempt, times = event.attempt, event.attempt.timestamps
        labels = self._labels(event.request_id, attempt.provider, attempt.model)
        if attempt.waited_for is not None:
            self.mark_waited(labels, queue_seconds=times.queue_seconds)
        if times.started is None:  # the gates refused it: nothing was sent
            return
        usage = attempt.usage
        mark = self.mark_received if attempt.success else self.mark_failed
        mark(
            labels,
            input_tokens=usage.input_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
            latency_seconds=times.call_seconds,
            first_token_seconds=times.time_to_first_token_seconds,
        )

    def _mark_call(self, event: GenerationFinished) -> None:
        result = event.result
        if result.backoff.backoffs and result.attempts:
            last = result.attempts[-1]
            self.mark_waited(
                self._labels(event.request_id, last.provider, last.model),
                backoff_seconds=result.backoff.backoff_seconds,
            )
        self._calls.pop(event.request_id, None)

    def _cut(self, series: Mapping[Labels, _Read], label: str) -> dict[str, TrafficStats]:
        groups: dict[str, list[_Read]] = {}
        for labels, read in series.items():
            if value := getattr(labels, label):
                groups.setdefault(value, []).append(read)
        return {value: self._stats(reads) for value, reads in groups.items()}

    def _stats(self, reads: list[_Read]) -> TrafficStats:
        totals = [sum(column) for column in zip(*(r[0] for r in reads), strict=True)] or [0] * 4
        sums = [sum(column) * self._factor for column in zip(*(r[1] for r in reads), strict=True)]
        rates = sums or [0.0] * 6
        times = [_quantiles([r[2][kind] for r in reads]) for kind in range(4)]
        return TrafficStats(
            sent=totals[SENT],
            received=totals[RECEIVED],
            failed=totals[FAILED],
            requests_per_minute=rates[SENT],
            responses_per_minute=rates[RECEIVED],
            failures_per_minute=rates[FAILED],
            input_tokens_per_minute=rates[INPUT],
            output_tokens_per_minute=rates[OUTPUT],
            latency=times[_LATENCY],
            time_to_first_token=times[_FIRST_TOKEN],
            queue_wait=times[_QUEUE],
            backoff=times[_BACKOFF],
        )


_Read = tuple[list[int], list[float], list[Mapping[float, int]]]


def _histograms(series: _Series, now_ns: int) -> list[Mapping[float, int]]:
    return [durations.histogram(now_ns) for durations in series.durations]


def _quantiles(histograms: list[Mapping[float, int]]) -> Quantiles:
    merged: Counter[float] = Counter()
    for histogram in histograms:
        merged.update(histogram)
    if not merged:
        return Quantiles()
    p50, p95, p99 = quantile(merged, (0.5, 0.95, 0.99))
    return Quantiles(count=merged.total(), p50=p50, p95=p95, p99=p99)
