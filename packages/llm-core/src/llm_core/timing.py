"""When everything happened, and how long each part took.

One wall-clock reading anchors a call; every later point is a monotonic clock reading in
nanoseconds. So durations are never negative, even when the wall clock is set back, and any point
still has its UTC time: `utc("admitted")`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta

from llm_core.frozen import EMPTY
from llm_core.record import Record
from llm_core.value import immutable

__all__ = ["AttemptTimestamps", "BackoffStats", "EventTimestamps"]


def _seconds(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else (end - start) / 1e9


class _AttemptDurations(Record):
    """What lies between the points of an attempt; in a call's points, of its last attempt."""

    __slots__ = ()

    # Told to type checkers alone: each subclass has them as fields, in its own order of events.
    enqueued: int | None
    admitted: int | None
    started: int | None
    request_sent: int | None
    first_byte: int | None
    first_token: int | None
    last_token: int | None
    ended: int | None

    @property
    def queue_seconds(self) -> float | None:
        """Time at our own gates, to admission or to the end of an attempt that never was admitted.

        No part of the provider's latency.
        """
        return _seconds(self.enqueued, self.ended if self.admitted is None else self.admitted)

    @property
    def call_seconds(self) -> float | None:
        """The provider's latency: call to complete answer, network included."""
        return _seconds(self.started, self.ended)

    @property
    def time_to_first_byte_seconds(self) -> float | None:
        """Request sent to first byte back: network and the provider's own queue."""
        return _seconds(self.request_sent, self.first_byte)

    @property
    def time_to_first_token_seconds(self) -> float | None:
        """Call to first token."""
        return _seconds(self.started, self.first_token)

    def time_per_output_token_seconds(self, output_tokens: int) -> float | None:
        """Mean time between tokens after the first one; None for fewer than two tokens."""
        span = _seconds(self.first_token, self.last_token)
        return None if span is None or output_tokens < 2 else span / (output_tokens - 1)


@immutable
class AttemptTimestamps(_AttemptDurations):
    """The points of one attempt, as monotonic nanoseconds; None for what did not happen."""

    enqueued: int | None = None
    """Asked the gates."""
    admitted: int | None = None
    """The gates let it go (dequeued)."""
    started: int | None = None
    """The provider was called."""
    request_sent: int | None = None
    """The request had been handed to the transport."""
    first_byte: int | None = None
    """The first byte, or the whole reply where the transport does not tell."""
    first_token: int | None = None
    """The first text, reasoning, tool call or audio (streams only)."""
    last_token: int | None = None
    """The last of these (streams only)."""
    ended: int | None = None
    """The provider's answer or error was complete."""
    backoff_until: int | None = None
    """The end of the pause after this attempt."""

    @property
    def backoff_seconds(self) -> float | None:
        """The pause after this attempt."""
        return _seconds(self.ended, self.backoff_until)


@immutable
class EventTimestamps(_AttemptDurations):
    """The points of one call, as monotonic nanoseconds; None for what did not happen.

    The points from `enqueued` to `backoff_until` are those of the *last* attempt, which gave the
    answer or the error; every attempt keeps its own in `InvocationAttempt.timestamps`, and the
    waits of all attempts are summed in `BackoffStats`.
    """

    requested_at: datetime
    """Wall-clock time (UTC) of `requested`: the anchor of all other points."""
    requested: int
    """The service was called."""
    prepared: int | None = None
    """The request had become a provider call."""
    cache_checked: int | None = None
    """The response cache had been asked."""
    enqueued: int | None = None
    admitted: int | None = None
    started: int | None = None
    request_sent: int | None = None
    first_byte: int | None = None
    first_token: int | None = None
    last_token: int | None = None
    ended: int | None = None
    backoff_until: int | None = None
    """The end of the last pause between attempts, which lies before `enqueued` of the last one."""
    refine_started: int | None = None
    """The first pipeline step began."""
    refined: int | None = None
    """Post-processing was complete."""
    recorded: int | None = None
    """Metrics and telemetry had been told."""
    completed: int | None = None
    """The result was handed back."""

    def utc(self, point: str) -> datetime | None:
        """Return the wall-clock time (UTC) of a point by its field name; None if it did not happen.

        Raises AttributeError for a name that is no point.
        """
        if point not in _POINTS:
            raise AttributeError(f"no point {point!r}; expected one of {', '.join(_POINTS)}")
        instant: int | None = getattr(self, point)
        if instant is None:
            return None
        return self.requested_at + timedelta(microseconds=(instant - self.requested) / 1e3)

    @property
    def total_seconds(self) -> float | None:
        """The whole call, as its caller felt it."""
        return _seconds(self.requested, self.completed)

    @property
    def prepare_seconds(self) -> float | None:
        """Request to provider call: alias, template, token estimate."""
        return _seconds(self.requested, self.prepared)

    @property
    def refine_seconds(self) -> float | None:
        """Time in the pipeline."""
        return _seconds(self.refine_started, self.refined)


_POINTS = tuple(field.name for field in fields(EventTimestamps) if field.name != "requested_at")


@immutable
class BackoffStats(Record):
    """Waiting, summed over all attempts of a call; always filled, zero when nothing waited.

    Waits at our own gates and pauses after a provider's failure never mix.
    """

    gate_waits: int = 0
    """Attempts that had to wait at a gate."""
    gate_wait_seconds: float = 0.0
    """Time at our own gates."""
    gate_wait_by_limit: Mapping[str, float] = EMPTY
    """Seconds by the name of the limit that was waited for."""
    backoffs: int = 0
    """Pauses after a failed attempt."""
    backoff_seconds: float = 0.0
    """Time in these pauses."""
    retry_after_seconds: float = 0.0
    """The part of `backoff_seconds` that the provider asked for (Retry-After)."""

    @property
    def total_seconds(self) -> float:
        """Both kinds of waiting together."""
        return self.gate_wait_seconds + self.backoff_seconds
