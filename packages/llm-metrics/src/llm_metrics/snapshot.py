"""What a `MetricsRecorder` saw, frozen at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from llm_core import EMPTY, Record, immutable

__all__ = ["OTHER", "Labels", "Quantiles", "StatsSnapshot", "TrafficStats"]

OTHER = "(other)"
"""The label of everything that came after the recorder's room for labels was used up."""


class Labels(NamedTuple):
    """Whose traffic it is; an empty text means that this is not known or does not apply."""

    operation: str = ""
    model: str = ""
    provider: str = ""
    tenant: str = ""


@immutable
class Quantiles(Record):
    """How long something took, over the window; seconds, None while nothing was measured."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@immutable
class TrafficStats(Record):
    """One slice of the traffic: counts since the recorder was made, rates and times of the window."""

    sent: int = 0
    """Requests sent to providers; every attempt is one."""
    received: int = 0
    """Complete answers."""
    failed: int = 0
    """Attempts that ended in an error."""
    requests_per_minute: float = 0.0
    responses_per_minute: float = 0.0
    """Complete answers per minute; failures are no responses."""
    failures_per_minute: float = 0.0
    input_tokens_per_minute: float = 0.0
    output_tokens_per_minute: float = 0.0
    latency: Quantiles = Quantiles()
    """Call to complete answer, without our own waiting."""
    time_to_first_token: Quantiles = Quantiles()
    """Call to first token, of streamed answers."""
    queue_wait: Quantiles = Quantiles()
    """Waiting at our own gates, per attempt that waited."""
    backoff: Quantiles = Quantiles()
    """Pauses between the attempts of a call, per call that paused."""

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have neither an answer nor an error yet."""
        return max(self.sent - self.received - self.failed, 0)

    @property
    def tokens_per_minute(self) -> float:
        """Input and output together."""
        return self.input_tokens_per_minute + self.output_tokens_per_minute


@immutable
class StatsSnapshot(Record):
    """All traffic, and the same traffic cut in four ways."""

    at: datetime
    window_seconds: float
    total: TrafficStats
    by_operation: Mapping[str, TrafficStats] = EMPTY
    by_model: Mapping[str, TrafficStats] = EMPTY
    by_provider: Mapping[str, TrafficStats] = EMPTY
    by_tenant: Mapping[str, TrafficStats] = EMPTY
