from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import pytest

from llm_core import InvalidValue, TelemetryClient, TelemetryEvent
from llm_core.example_call import events_of, example_result
from llm_core.testing import ManualClock
from llm_metrics import OTHER, Labels, MetricsRecorder, StatsSnapshot

SEOUL = Labels("translate", "gpt-5-mini", "openai", "acme")
LIMA = Labels("summarise", "claude-haiku-4-5", "anthropic", "acme")


class Time:
    """A clock whose hands a test sets."""

    def __init__(self) -> None:
        self.manual = ManualClock()
        self.ns = 0

    def monotonic_ns(self) -> int:
        return self.ns

    def now(self) -> Any:
        return self.manual.now()

    async def sleep(self, seconds: float) -> None:
        """Nobody sleeps here."""

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=[False, True], ids=["ring", "exact"])
def recorder(request: pytest.FixtureRequest, time: Time) -> MetricsRecorder:
    return MetricsRecorder(clock=time, exact=request.param)


def test_nothing_has_happened_yet(recorder: MetricsRecorder) -> None:
    seen = recorder.snapshot()
    assert (seen.total.sent, seen.total.requests_per_minute) == (0, 0.0)
    assert seen.total.latency.p50 is None
    assert seen.by_model == {}


def test_counts_say_what_was_sent_answered_failed_and_is_in_flight(
    recorder: MetricsRecorder,
) -> None:
    for _ in range(5):
        recorder.mark_sent(SEOUL)
    for _ in range(2):
        recorder.mark_received(SEOUL)
    recorder.mark_failed(SEOUL)
    total = recorder.snapshot().total
    assert (total.sent, total.received, total.failed, total.in_flight) == (5, 2, 1, 2)


def test_rates_are_per_minute_and_cut_by_every_label(recorder: MetricsRecorder) -> None:
    recorder.mark_sent(SEOUL)
    recorder.mark_received(SEOUL, input_tokens=100, output_tokens=10)
    recorder.mark_sent(LIMA)
    recorder.mark_failed(LIMA, input_tokens=7)
    seen = recorder.snapshot()
    assert seen.total.requests_per_minute == 2
    assert seen.total.tokens_per_minute == 117
    assert seen.by_operation["translate"].input_tokens_per_minute == 100
    assert seen.by_model["gpt-5-mini"].output_tokens_per_minute == 10
    assert seen.by_provider["anthropic"].failures_per_minute == 1
    assert seen.by_provider["openai"].responses_per_minute == 1
    assert seen.by_tenant["acme"].sent == 2
    assert recorder.per_minute() == (2.0, 117.0)


def test_what_is_older_than_the_window_no_longer_counts_as_rate(
    recorder: MetricsRecorder, time: Time
) -> None:
    recorder.mark_sent(SEOUL)
    recorder.snapshot()
    time.advance(60.5)
    total = recorder.snapshot().total
    assert (total.sent, total.requests_per_minute) == (1, 0.0)


def test_a_long_silence_is_forgotten_in_one_go(recorder: MetricsRecorder, time: Time) -> None:
    recorder.mark_sent(SEOUL)
    recorder.snapshot()
    time.advance(10_000)
    recorder.mark_sent(SEOUL)
    assert recorder.snapshot().total.requests_per_minute == 1


@pytest.mark.parametrize("seed", range(4))
def test_ring_rates_are_within_one_percent_of_the_exact_ones(seed: int) -> None:
    time, dice = Time(), random.Random(seed)
    ring = MetricsRecorder(clock=time)
    exact = MetricsRecorder(clock=time, exact=True)
    for step in range(12_000):
        time.advance(dice.expovariate(60))
        for recorder in (ring, exact):
            recorder.mark_received(SEOUL, input_tokens=100 + step % 7, output_tokens=20)
        if step > 3_000 and step % 500 == 0:
            near, true = ring.snapshot().total, exact.snapshot().total
            assert near.responses_per_minute == pytest.approx(true.responses_per_minute, rel=0.01)
            assert near.tokens_per_minute == pytest.approx(true.tokens_per_minute, rel=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_quantiles_are_within_two_percent_of_the_exact_ones(seed: int) -> None:
    time, dice = Time(), random.Random(seed)
    ring = MetricsRecorder(clock=time)
    durations = [dice.lognormvariate(0, 1.5) for _ in range(5_000)]
    for seconds in durations:
        ring.mark_received(SEOUL, latency_seconds=seconds, first_token_seconds=seconds / 10)
    durations.sort()
    total = ring.snapshot().total
    for share, found in ((50, total.latency.p50), (95, total.latency.p95), (99, total.latency.p99)):
        assert found == pytest.approx(durations[share * 50 - 1], rel=0.02)
    assert total.time_to_first_token.p50 == pytest.approx(durations[2_499] / 10, rel=0.02)


def test_the_shortest_and_the_longest_times_have_a_place() -> None:
    recorder = MetricsRecorder(clock=Time())
    recorder.mark_received(SEOUL, latency_seconds=0.0)
    assert recorder.snapshot().total.latency.p99 == 0.0
    recorder.mark_received(SEOUL, latency_seconds=1e9)
    assert recorder.snapshot().total.latency.p99 == pytest.approx(1e6, rel=0.02)


def test_quantiles_forget_what_is_older_than_the_window(time: Time) -> None:
    recorder = MetricsRecorder(clock=time)
    recorder.mark_waited(SEOUL, queue_seconds=5.0, backoff_seconds=2.0)
    assert recorder.snapshot().total.queue_wait.count == 1
    assert recorder.snapshot().total.backoff.p50 == pytest.approx(2.0, rel=0.02)
    time.advance(71)
    recorder.mark_waited(SEOUL, queue_seconds=1.0)
    assert recorder.snapshot().total.queue_wait.p99 == pytest.approx(1.0, rel=0.02)
    assert recorder.snapshot().total.backoff.count == 0


def test_events_that_come_late_are_sorted_in_or_left_out(time: Time) -> None:
    recorder = MetricsRecorder(clock=time)
    time.advance(100)
    recorder.mark_sent(SEOUL)
    time.ns -= 80 * 10**9
    recorder.mark_sent(SEOUL)
    recorder.mark_received(SEOUL, latency_seconds=1.0)
    time.ns += 30 * 10**9
    recorder.mark_sent(SEOUL)
    total = recorder.snapshot().total  # read at 50 s, when the newest event was at 100 s
    assert (total.sent, total.requests_per_minute) == (3, 2.0)


@pytest.mark.parametrize("seed", range(8))
def test_rates_are_those_of_the_buckets_whatever_the_order_of_marks_and_reads(seed: int) -> None:
    time, dice = Time(), random.Random(seed)
    recorder = MetricsRecorder(clock=time)
    sent, tokens = Counter[int](), Counter[int]()
    latest_ns = 0

    def in_window(buckets: Counter[int], now_ns: int) -> float:
        newest, inside = divmod(now_ns / 250e6, 1)
        outside = inside if now_ns == time.ns else 0
        return sum(
            number * (1 - outside if bucket == newest - 240 else 1)
            for bucket, number in buckets.items()
            if newest - 240 <= bucket
        )

    for _ in range(3_000):
        step = dice.choice([-4, 0.001, 0.02, 0.3, 5]) * dice.random()
        time.ns = max(time.ns + round(step * 1e9), 0)
        if time.ns // 250_000_000 >= latest_ns // 250_000_000:
            latest_ns = time.ns
        action = dice.randrange(4)
        if action == 0:
            recorder.mark_sent(SEOUL)
            sent[time.ns // 250_000_000] += 1
        elif action == 1:
            recorder.mark_received(LIMA, input_tokens=7, output_tokens=2)
            tokens[time.ns // 250_000_000] += 9
        elif action == 2:
            recorder.mark_waited(SEOUL, queue_seconds=1.0)
        else:
            expected = in_window(sent, latest_ns), in_window(tokens, latest_ns)
            assert recorder.per_minute() == pytest.approx(expected)
            if time.ns == latest_ns:
                total = recorder.snapshot().total
                seen = total.requests_per_minute, total.tokens_per_minute
                assert (total.sent, *seen) == pytest.approx((sent.total(), *expected))


def test_labels_beyond_the_limit_count_as_other(time: Time) -> None:
    recorder = MetricsRecorder(clock=time, max_series=3)
    for number in range(10):
        recorder.mark_sent(Labels(operation=f"op-{number}"))
    seen = recorder.snapshot()
    assert set(seen.by_operation) == {"op-0", "op-1", OTHER}
    assert seen.by_operation[OTHER].sent == 8
    assert seen.total.sent == 10


def test_threads_lose_no_mark() -> None:
    recorder = MetricsRecorder(max_series=4)

    def work(number: int) -> None:
        labels = Labels(operation=f"op-{number % 3}")
        for _ in range(5_000):
            recorder.mark_sent(labels)
            recorder.mark_received(labels, input_tokens=1)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    seen_meanwhile = recorder.snapshot().total.sent
    for thread in threads:
        thread.join()
    total = recorder.snapshot().total
    assert seen_meanwhile <= total.sent == total.received == 40_000
    assert total.in_flight == 0


def test_nothing_piles_up_while_another_thread_reads(time: Time) -> None:
    recorder = MetricsRecorder(clock=time)
    for _ in range(50_000):
        recorder.mark_sent(SEOUL)
    assert len(recorder._pending) < 1_024


def test_a_service_feeds_it_as_a_telemetry_backend(
    events: list[TelemetryEvent], time: Time
) -> None:
    recorder = MetricsRecorder(clock=time)
    assert isinstance(recorder, TelemetryClient)
    for event in events:
        recorder.emit(event)
    recorder.close()
    seen = recorder.snapshot()
    stats = seen.by_operation["translate"]
    assert (stats.sent, stats.received, stats.failed, stats.in_flight) == (2, 1, 1, 0)
    assert (stats.input_tokens_per_minute, stats.output_tokens_per_minute) == (1000, 40)
    assert stats.latency.count == 2
    assert stats.time_to_first_token.p50 == pytest.approx(0.1, rel=0.02)
    assert stats.queue_wait.p50 == pytest.approx(0.1, rel=0.02)
    assert stats.backoff.p50 == pytest.approx(0.2, rel=0.02)
    assert set(seen.by_tenant) == {"acme"}
    assert set(seen.by_model) == {"gpt-5-mini"}


def test_an_attempt_that_the_gates_refused_was_never_sent() -> None:
    from dataclasses import replace

    from llm_core import AttemptTimestamps

    made = example_result()
    refused = replace(made.attempts[0], timestamps=AttemptTimestamps(enqueued=0, ended=5))
    recorder = MetricsRecorder(clock=Time())
    for event in events_of(replace(made, attempts=(refused,))):
        recorder.emit(event)
    assert recorder.snapshot().total.sent == recorder.snapshot().total.failed == 0


def test_calls_that_never_finish_are_forgotten_at_last(
    events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from llm_metrics import recorder as module

    monkeypatch.setattr(module, "_CALLS_REMEMBERED", 3)
    recorder = MetricsRecorder(clock=Time())
    for number in range(10):
        recorder.emit(replace(events[0], request_id=f"call-{number}"))
    assert list(recorder._calls) == ["call-7", "call-8", "call-9"]


def test_a_snapshot_survives_json(recorder: MetricsRecorder) -> None:
    recorder.mark_sent(SEOUL)
    recorder.mark_received(SEOUL, input_tokens=1, latency_seconds=0.5)
    seen = recorder.snapshot()
    assert StatsSnapshot.from_dict(seen.to_dict()) == seen


@pytest.mark.parametrize(
    "wrong", [{"window_seconds": 0.5}, {"window_seconds": 100_000}, {"max_series": 0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        MetricsRecorder(**wrong)


def test_a_time_that_is_no_number_breaks_nobody_elses_mark() -> None:
    recorder = MetricsRecorder(clock=ManualClock())
    recorder.mark_received(latency_seconds=float("nan"))
    recorder.mark_received(latency_seconds=1.0)
    now = recorder.snapshot()
    assert (now.total.received, now.total.latency.count) == (2, 2)
