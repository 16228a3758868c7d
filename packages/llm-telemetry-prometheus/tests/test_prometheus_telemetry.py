from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points

import pytest
from prometheus_client import CollectorRegistry

from llm_core import (
    ConfigurationError,
    EventTimestamps,
    GenerationFinished,
    GenerationRequest,
    InvalidValue,
    TelemetryClient,
    TelemetryEvent,
    Usage,
)
from llm_core.example_call import example_result
from llm_telemetry_prometheus import PrometheusTelemetry, from_environment, prometheus_name

SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [
    *[1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576],
    *[4194304, 16777216, 67108864],
]
# gen-ai-metrics.md v1.41.1, section "Generative AI client metrics", in Prometheus form.
TABLE = {
    "gen_ai_client_token_usage": (TOKENS, {"gen_ai_token_type"}),
    "gen_ai_client_operation_duration_seconds": (SECONDS, {"error_type"}),
    "gen_ai_client_operation_time_to_first_chunk_seconds": (SECONDS, set()),
    "gen_ai_client_operation_time_per_output_chunk_seconds": (SECONDS, set()),
}
SHARED = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "gpt-5-mini",
    "gen_ai_response_model": "gpt-5-mini-2025-08-07",
    "llm_service_operation": "translate",
}


@pytest.fixture
def telemetry() -> PrometheusTelemetry:
    return PrometheusTelemetry()


def tell(telemetry: PrometheusTelemetry, events: list[TelemetryEvent]) -> None:
    for event in events:
        telemetry.emit(event)


def sample(telemetry: PrometheusTelemetry, name: str, **more: str) -> float | None:
    return telemetry.registry.get_sample_value(name, SHARED | more)


@pytest.mark.parametrize("name", TABLE)
def test_the_table_is_followed_metric_by_metric(
    telemetry: PrometheusTelemetry, events: list[TelemetryEvent], name: str
) -> None:
    boundaries, more = TABLE[name]
    tell(telemetry, events)
    [metric] = [metric for metric in telemetry.registry.collect() if metric.name == name]
    assert metric.type == "histogram"
    buckets = [s for s in metric.samples if s.name == f"{name}_bucket"]
    bounds = {float(s.labels["le"]) for s in buckets}
    assert sorted(bounds) == [*boundaries, float("inf")]
    assert {label for s in buckets for label in s.labels} == {*SHARED, *more, "le"}


def test_a_call_is_counted_once_with_its_tokens_times_and_money(
    telemetry: PrometheusTelemetry, events: list[TelemetryEvent]
) -> None:
    assert isinstance(telemetry, TelemetryClient)
    tell(telemetry, events)
    tokens = "gen_ai_client_token_usage_sum"
    assert sample(telemetry, tokens, gen_ai_token_type="input") == 1000
    assert sample(telemetry, tokens, gen_ai_token_type="output") == 40
    duration = "gen_ai_client_operation_duration_seconds"
    assert sample(telemetry, f"{duration}_count", error_type="") == 1
    assert sample(telemetry, f"{duration}_sum", error_type="") == pytest.approx(0.91)
    first = "gen_ai_client_operation_time_to_first_chunk_seconds_sum"
    assert sample(telemetry, first) == pytest.approx(0.1)
    mean = "gen_ai_client_operation_time_per_output_chunk_seconds_sum"
    assert sample(telemetry, mean) == pytest.approx(0.01)
    assert sample(telemetry, "llm_service_attempts_total") == 2
    wait = "llm_service_wait_seconds_total"
    assert sample(telemetry, wait, llm_service_wait_kind="queue") == pytest.approx(0.1)
    assert sample(telemetry, wait, llm_service_wait_kind="backoff") == pytest.approx(0.2)
    money = sample(telemetry, "llm_service_cost_total", llm_service_cost_currency="USD")
    assert money == pytest.approx(0.000285)


def test_a_failure_invents_no_numbers(telemetry: PrometheusTelemetry) -> None:
    made = example_result()
    failed = replace(
        made,
        success=False,
        error=made.attempts[0].error,
        attempts=(),
        usage=Usage(),
        cost=type(made.cost)(),
        backoff=type(made.backoff)(),
        timestamps=EventTimestamps(
            requested_at=made.timestamps.requested_at, requested=0, completed=10**9
        ),
    )
    telemetry.emit(GenerationFinished(request_id="r", at_ns=0, result=failed))
    text = telemetry.render().decode()
    assert 'error_type="rate_limited"' in text
    assert "gen_ai_client_token_usage_sum" not in text
    assert "llm_service_cost_total{" not in text
    unfinished = replace(failed, timestamps=replace(failed.timestamps, completed=None))
    telemetry.emit(GenerationFinished(request_id="r", at_ns=0, result=unfinished))
    assert telemetry.render().decode().count("operation_duration_seconds_count{") == 1


def test_tokens_that_were_counted_here_are_not_recorded(telemetry: PrometheusTelemetry) -> None:
    made = example_result()
    guessed = replace(made.attempts[1], usage=Usage(input_tokens=7, estimated=True))
    known = replace(made.attempts[1], usage=Usage(input_tokens=900, output_tokens=30))
    total = Usage(input_tokens=907, output_tokens=30, estimated=True)
    both = replace(made, attempts=(guessed, known), usage=total)
    telemetry.emit(GenerationFinished(request_id="r", at_ns=0, result=both))
    name = "gen_ai_client_token_usage_sum"
    assert sample(telemetry, name, gen_ai_token_type="input") == 900


def test_embeddings_have_no_output_tokens(telemetry: PrometheusTelemetry) -> None:
    request = GenerationRequest(user="hi", metadata={"gen_ai.operation.name": "embeddings"})
    made = example_result(request=request, usage=Usage(input_tokens=10))
    telemetry.emit(GenerationFinished(request_id="r", at_ns=0, result=made))
    text = telemetry.render().decode()
    assert 'gen_ai_operation_name="embeddings"' in text
    assert 'gen_ai_token_type="input"' in text
    assert 'gen_ai_token_type="output"' not in text


def test_calls_under_way_are_seen(
    telemetry: PrometheusTelemetry, events: list[TelemetryEvent]
) -> None:
    telemetry.emit(events[0])
    assert telemetry.registry.get_sample_value("llm_service_in_flight") == 1
    tell(telemetry, events[1:])
    assert telemetry.registry.get_sample_value("llm_service_in_flight") == 0


def test_a_label_has_a_bounded_number_of_values() -> None:
    telemetry = PrometheusTelemetry(max_label_values=3)
    for number in range(50):
        made = example_result(operation_name=f"op-{number}", model=f"model-{number}")
        telemetry.emit(GenerationFinished(request_id="r", at_ns=0, result=made))
    text = telemetry.render().decode()
    assert 'llm_service_operation="op-2"' in text
    assert "op-3" not in text
    assert 'gen_ai_response_model="(other)",llm_service_operation="(other)"' in text
    counts = [line for line in text.splitlines() if "duration_seconds_count{" in line]
    assert len(counts) == 4
    assert sum(float(line.rpartition(" ")[2]) for line in counts) == 50


def test_prometheus_can_fetch_it(
    telemetry: PrometheusTelemetry, events: list[TelemetryEvent]
) -> None:
    tell(telemetry, events)
    assert telemetry.port is None
    telemetry.serve(port=0)
    telemetry.serve(port=0)
    with urllib.request.urlopen(f"http://127.0.0.1:{telemetry.port}/metrics", timeout=10) as got:
        body = got.read().decode()
    assert "gen_ai_client_operation_duration_seconds_bucket" in body
    telemetry.close()
    telemetry.close()
    assert telemetry.port is None
    assert b"llm_service_attempts_total" in telemetry.render()


def test_a_registry_may_be_given() -> None:
    registry = CollectorRegistry()
    assert PrometheusTelemetry(registry=registry).registry is registry


def test_room_for_no_label_is_refused() -> None:
    with pytest.raises(InvalidValue, match="max_label_values"):
        PrometheusTelemetry(max_label_values=0)


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("gen_ai.client.token.usage", "{token}", "gen_ai_client_token_usage"),
        ("gen_ai.client.operation.duration", "s", "gen_ai_client_operation_duration_seconds"),
        ("wait.seconds", "s", "wait_seconds"),
        ("error.type", "", "error_type"),
    ],
)
def test_names_follow_opentelemetrys_rules(name: str, unit: str, expected: str) -> None:
    assert prometheus_name(name, unit) == expected


class TestEnvironment:
    def test_it_serves_where_the_variables_say(self) -> None:
        telemetry = from_environment({"OTEL_EXPORTER_PROMETHEUS_PORT": "0"})
        try:
            url = f"http://127.0.0.1:{telemetry.port}/metrics"
            with urllib.request.urlopen(url, timeout=10) as got:
                assert got.status == 200
        finally:
            telemetry.close()

    def test_the_programs_own_variables_are_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
        from_environment().close()

    @pytest.mark.parametrize("port", ["http", "-1", "70000"])
    def test_a_port_that_cannot_be_is_an_error(self, port: str) -> None:
        with pytest.raises(ConfigurationError, match=f"got '{port}'"):
            from_environment({"OTEL_EXPORTER_PROMETHEUS_PORT": port})

    def test_a_port_that_something_else_has_is_an_error_that_says_what_to_do(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            with pytest.raises(ConfigurationError, match=r"in use; give each program a port"):
                from_environment({"OTEL_EXPORTER_PROMETHEUS_PORT": port})

    def test_it_is_found_by_its_entry_point(self) -> None:
        points = entry_points(group="llm_metrics.telemetry")
        [point] = [point for point in points if point.name == "prometheus"]
        assert point.load() is from_environment


@pytest.fixture
def pair() -> Iterator[tuple[PrometheusTelemetry, PrometheusTelemetry]]:
    """Give two backends as two services of one program get them: at one port, by its number."""
    first = from_environment({"OTEL_EXPORTER_PROMETHEUS_PORT": "0"})
    second = from_environment({"OTEL_EXPORTER_PROMETHEUS_PORT": str(first.port)})
    yield first, second
    first.close()
    second.close()


Pair = tuple[PrometheusTelemetry, PrometheusTelemetry]


def attempts_at(port: int | None) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as got:
        lines = got.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("llm_service_attempts_total{")
    )


class TestShared:
    def test_one_endpoint_gives_the_sum(self, pair: Pair, events: list[TelemetryEvent]) -> None:
        first, second = pair
        assert first.port == second.port
        for telemetry in pair:
            tell(telemetry, events)
        assert attempts_at(first.port) == 2 * 2
        assert sample(second, "llm_service_attempts_total") == 2 * 2

    def test_it_ends_with_the_last(self, pair: Pair) -> None:
        first, second = pair
        port = first.port
        first.close()
        first.close()
        assert first.port is None
        assert attempts_at(port) == 0
        second.close()
        with pytest.raises(OSError, match="refused"):
            attempts_at(port)

    def test_after_the_last_the_port_is_served_anew(
        self, pair: Pair, events: list[TelemetryEvent]
    ) -> None:
        port = pair[0].port
        assert port is not None
        tell(pair[0], events)
        for telemetry in pair:
            telemetry.close()
        again = PrometheusTelemetry.shared(port)
        assert attempts_at(port) == 0
        again.close()

    def test_any_free_port_is_one_of_its_own(self) -> None:
        one, other = PrometheusTelemetry.shared(0), PrometheusTelemetry.shared(0)
        assert one.port != other.port
        one.close()
        other.close()

    def test_one_that_serves_for_itself_is_not_joined(self) -> None:
        alone = PrometheusTelemetry()
        alone.serve(0)
        assert alone.port is not None
        with pytest.raises(OSError, match="in use"):
            PrometheusTelemetry.shared(alone.port)
        alone.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_a_forked_child_counts_for_itself_and_can_close(
        self, pair: Pair, events: list[TelemetryEvent]
    ) -> None:
        first, second = pair
        tell(first, events * 2)
        port = first.port
        assert port is not None
        told, tell_parent = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)  # ends a child that waits for ever
                served = first.port
                tell(second, events)
                first.serve(0)
                words = f"{served} {attempts_at(first.port):g}"
                for telemetry in pair:
                    telemetry.close()
                os.write(tell_parent, words.encode())
            finally:
                os._exit(0)
        os.close(tell_parent)
        _, status = os.waitpid(child, 0)
        with os.fdopen(told) as stream:
            assert stream.read() == "None 2"
        assert status == 0
        assert attempts_at(port) == 4
        assert second.port == port
