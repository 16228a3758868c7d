"""Metrics as the conventions' table (v1.41.1) has them."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from llm_core import (
    EventTimestamps,
    GenerationFinished,
    GenerationRequest,
    TelemetryEvent,
    Usage,
)
from llm_core.example_call import events_of, example_result
from llm_telemetry_otel import OTelTelemetry
from llm_telemetry_otel import instruments as instruments_module
from llm_telemetry_otel.instruments import Instruments

SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [
    *[1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576],
    *[4194304, 16777216, 67108864],
]
# gen-ai-metrics.md, section "Generative AI client metrics".
TABLE = {
    "gen_ai.client.token.usage": ("{token}", TOKENS, {"gen_ai.token.type"}),
    "gen_ai.client.operation.duration": ("s", SECONDS, {"error.type"}),
    "gen_ai.client.operation.time_to_first_chunk": ("s", SECONDS, set()),
    "gen_ai.client.operation.time_per_output_chunk": ("s", SECONDS, set()),
}
ATTRIBUTES = {
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "server.address",
    "server.port",
}


def recorded(events: list[TelemetryEvent]) -> dict[str, Any]:
    """Return the metrics that `events` give, by name."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    telemetry = OTelTelemetry(tracer_provider=TracerProvider(), meter_provider=provider)
    for event in events:
        telemetry.emit(event)
    telemetry.close()
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    [resource] = data.resource_metrics
    [scope] = resource.scope_metrics
    return {metric.name: metric for metric in scope.metrics}


def point_of(metric: Any, **wanted: Any) -> Any:
    [point] = [
        p
        for p in metric.data.data_points
        if all(p.attributes.get(k.replace("__", ".")) == v for k, v in wanted.items())
    ]
    return point


@pytest.mark.parametrize("name", TABLE)
def test_the_table_is_followed_metric_by_metric(events: list[TelemetryEvent], name: str) -> None:
    unit, boundaries, more = TABLE[name]
    metric = recorded(events)[name]
    assert metric.unit == unit
    for point in metric.data.data_points:
        assert list(point.explicit_bounds) == boundaries
        assert set(point.attributes) <= ATTRIBUTES | more
        assert {"gen_ai.operation.name", "gen_ai.provider.name"} <= set(point.attributes)


def test_nothing_is_named_as_if_the_conventions_had_it(events: list[TelemetryEvent]) -> None:
    own = set(recorded(events)) - set(TABLE)
    assert own == {"llm_service.attempts", "llm_service.wait", "llm_service.cost"}


def test_tokens_are_counted_once_per_call(events: list[TelemetryEvent]) -> None:
    tokens = recorded(events)["gen_ai.client.token.usage"]
    sent = point_of(tokens, gen_ai__token__type="input")
    made = point_of(tokens, gen_ai__token__type="output")
    assert (sent.count, sent.sum, made.count, made.sum) == (1, 1000, 1, 40)


def test_times_are_the_calls(events: list[TelemetryEvent]) -> None:
    metrics = recorded(events)
    assert point_of(metrics["gen_ai.client.operation.duration"]).sum == pytest.approx(0.91)
    first = point_of(metrics["gen_ai.client.operation.time_to_first_chunk"])
    assert first.sum == pytest.approx(0.1)
    mean = point_of(metrics["gen_ai.client.operation.time_per_output_chunk"])
    assert mean.sum == pytest.approx(0.39 / 39)


def test_our_own_numbers_have_our_own_names(events: list[TelemetryEvent]) -> None:
    metrics = recorded(events)
    assert point_of(metrics["llm_service.attempts"]).value == 2
    wait = metrics["llm_service.wait"]
    assert point_of(wait, llm_service__wait__kind="queue").value == pytest.approx(0.1)
    assert point_of(wait, llm_service__wait__kind="backoff").value == pytest.approx(0.2)
    cost = point_of(metrics["llm_service.cost"], llm_service__cost__currency="USD")
    assert cost.value == pytest.approx(0.000285)


def test_a_failure_without_usage_invents_no_numbers() -> None:
    made = example_result()
    failed = replace(
        made,
        success=False,
        error=made.attempts[0].error,
        attempts=made.attempts[:1],
        usage=Usage(),
        cost=type(made.cost)(),
        backoff=type(made.backoff)(),
        timestamps=EventTimestamps(
            requested_at=made.timestamps.requested_at, requested=0, completed=10**9
        ),
    )
    metrics = recorded(events_of(failed))
    assert set(metrics) == {"gen_ai.client.operation.duration", "llm_service.attempts"}
    point = point_of(metrics["gen_ai.client.operation.duration"])
    assert point.attributes["error.type"] == "rate_limited"


def test_tokens_that_were_counted_here_are_not_recorded() -> None:
    made = example_result()
    guessed = replace(made.attempts[1], usage=Usage(input_tokens=7, estimated=True))
    known = replace(made.attempts[1], usage=Usage(input_tokens=900, output_tokens=30))
    both = replace(
        made,
        attempts=(guessed, known),
        usage=Usage(input_tokens=907, output_tokens=30, estimated=True),
    )
    tokens = recorded(events_of(both))["gen_ai.client.token.usage"]
    assert point_of(tokens, gen_ai__token__type="input").sum == 900
    only = replace(made, attempts=(guessed,), usage=guessed.usage or Usage())
    assert "gen_ai.client.token.usage" not in recorded(events_of(only))


def test_a_call_that_found_no_model_has_none_among_its_attributes() -> None:
    made = example_result(attempts=(), model=None, success=False)
    for metric in recorded(events_of(made)).values():
        for point in metric.data.data_points:
            assert None not in point.attributes.values()


def test_embeddings_have_no_output_tokens() -> None:
    request = GenerationRequest(user="hi", metadata={"gen_ai.operation.name": "embeddings"})
    made = example_result(request=request, usage=Usage(input_tokens=10))
    [point] = recorded(events_of(made))["gen_ai.client.token.usage"].data.data_points
    assert point.attributes["gen_ai.token.type"] == "input"
    assert point.attributes["gen_ai.operation.name"] == "embeddings"


def test_a_call_that_was_cancelled_before_anything_is_recorded_without_a_time() -> None:
    made = example_result()
    times = EventTimestamps(requested_at=made.timestamps.requested_at, requested=0)
    metrics = recorded(events_of(replace(made, attempts=(), timestamps=times)))
    assert "gen_ai.client.operation.duration" not in metrics


class TestRecording:
    """Metrics are recorded beside the calls, on a thread of their own."""

    def test_it_happens_without_closing(self, events: list[TelemetryEvent]) -> None:
        recorded = threading.Event()
        meter = MeterProvider([InMemoryMetricReader()]).get_meter("test")
        instruments = Instruments(meter)
        instruments.record = lambda *_: recorded.set()  # type: ignore[method-assign]
        finished = events[-1]
        assert isinstance(finished, GenerationFinished)
        instruments.put(finished.result, {})
        assert recorded.wait(10)
        instruments.close()

    def test_what_does_not_fit_or_comes_too_late_is_dropped_and_counted(
        self, events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(instruments_module, "_CAPACITY", 1)
        monkeypatch.setattr(instruments_module, "_LINGER_SECONDS", 10.0)
        reader = InMemoryMetricReader()
        instruments = Instruments(MeterProvider([reader]).get_meter("test"))
        finished = events[-1]
        assert isinstance(finished, GenerationFinished)
        for _ in range(3):
            instruments.put(finished.result, {})
        assert instruments.dropped == 2
        instruments.close()
        instruments.put(finished.result, {})
        assert instruments.dropped == 3
        data = reader.get_metrics_data()
        assert data is not None
        names = [m.name for m in data.resource_metrics[0].scope_metrics[0].metrics]
        assert "llm_service.attempts" in names

    def test_a_forked_child_records_its_own_calls_only(
        self, events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        instruments = Instruments(MeterProvider([InMemoryMetricReader()]).get_meter("test"))
        seen: list[str] = []
        instruments.record = lambda _, facts: seen.append(facts["who"])  # type: ignore[method-assign]
        finished = events[-1]
        assert isinstance(finished, GenerationFinished)
        monkeypatch.setattr(instruments_module, "_LINGER_SECONDS", 10.0)
        instruments.put(finished.result, {"who": "parent"})
        parent = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        instruments.put(finished.result, {"who": "child"})
        instruments.close()
        assert seen == ["child"]
