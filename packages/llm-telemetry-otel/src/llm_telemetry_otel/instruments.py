"""The histograms and counters that a finished call is recorded in."""

from __future__ import annotations

from typing import Any

from opentelemetry.metrics import Meter

from llm_core import GenerationResult
from llm_core.conventions import (
    OPERATION_DURATION,
    TIME_PER_OUTPUT_CHUNK,
    TIME_TO_FIRST_CHUNK,
    TOKEN_USAGE,
    Metric,
)

__all__ = ["Instruments"]

_SHARED = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "server.address",
    "server.port",
)


class Instruments:
    """The conventions' client metrics, and under ``llm_service.*`` what they have no word for."""

    def __init__(self, meter: Meter) -> None:
        self._tokens = _histogram(meter, TOKEN_USAGE)
        self._duration = _histogram(meter, OPERATION_DURATION)
        self._first_chunk = _histogram(meter, TIME_TO_FIRST_CHUNK)
        self._per_chunk = _histogram(meter, TIME_PER_OUTPUT_CHUNK)
        self._attempts = meter.create_counter(
            "llm_service.attempts", "{attempt}", "Requests sent to providers, retries included."
        )
        self._wait = meter.create_counter(
            "llm_service.wait", "s", "Waiting at our own gates and pauses between attempts."
        )
        self._cost = meter.create_counter(
            "llm_service.cost", "{currency}", "Money spent, as far as prices are known."
        )

    def record(self, result: GenerationResult[Any], facts: dict[str, Any]) -> None:
        """Record one finished call; `facts` are its span's attributes.

        Tokens only as far as they were reported. The time per chunk is recorded once per streamed
        call, as the mean over its tokens: events do not tell of single chunks.
        """
        shared = {name: facts[name] for name in _SHARED if name in facts}
        usage = result.usage
        if usage.total_tokens:
            self._tokens.record(usage.input_tokens, shared | {"gen_ai.token.type": "input"})
            self._tokens.record(usage.output_tokens, shared | {"gen_ai.token.type": "output"})
        seconds = result.timestamps.total_seconds
        if seconds is not None:
            error = facts.get("error.type")
            self._duration.record(seconds, shared | {"error.type": error} if error else shared)
        first = result.timestamps.time_to_first_token_seconds
        if first is not None:
            self._first_chunk.record(first, shared)
        last = result.attempts[-1] if result.attempts else None
        mean = last.time_per_output_token_seconds if last else None
        if mean is not None:
            self._per_chunk.record(mean, shared)
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
