"""Where the time went: derived durations, UTC times, waits apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llm_core import (
    AttemptTimestamps,
    BackoffStats,
    EventTimestamps,
    FrozenDict,
    InvocationAttempt,
    Usage,
)

SECOND = 1_000_000_000
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

FULL = EventTimestamps(
    requested_at=NOON,
    requested=5 * SECOND,
    prepared=5 * SECOND + 250_000_000,
    cache_checked=5 * SECOND + 300_000_000,
    enqueued=6 * SECOND,
    admitted=8 * SECOND,
    started=8 * SECOND,
    request_sent=8 * SECOND + 500_000_000,
    first_byte=9 * SECOND,
    first_token=10 * SECOND,
    last_token=14 * SECOND,
    ended=15 * SECOND,
    backoff_until=6 * SECOND,
    refine_started=15 * SECOND,
    refined=15 * SECOND + 500_000_000,
    recorded=16 * SECOND,
    completed=17 * SECOND,
)
ATTEMPT = AttemptTimestamps(
    enqueued=0,
    admitted=2 * SECOND,
    started=2 * SECOND,
    request_sent=3 * SECOND,
    first_byte=4 * SECOND,
    first_token=5 * SECOND,
    last_token=9 * SECOND,
    ended=10 * SECOND,
    backoff_until=13 * SECOND,
)
DURATIONS = [
    "total_seconds",
    "prepare_seconds",
    "queue_seconds",
    "call_seconds",
    "time_to_first_byte_seconds",
    "time_to_first_token_seconds",
    "refine_seconds",
]


def test_a_call_says_where_its_time_went() -> None:
    assert {name: getattr(FULL, name) for name in DURATIONS} == {
        "total_seconds": 12.0,
        "prepare_seconds": 0.25,
        "queue_seconds": 2.0,
        "call_seconds": 7.0,
        "time_to_first_byte_seconds": 0.5,
        "time_to_first_token_seconds": 2.0,
        "refine_seconds": 0.5,
    }
    assert FULL.time_per_output_token_seconds(5) == 1.0


def test_what_did_not_happen_took_no_known_time() -> None:
    bare = EventTimestamps(requested_at=NOON, requested=1)
    assert [getattr(bare, name) for name in DURATIONS] == [None] * len(DURATIONS)
    assert bare.time_per_output_token_seconds(5) is None


@pytest.mark.parametrize("tokens", [0, 1])
def test_fewer_than_two_tokens_have_no_time_between_them(tokens: int) -> None:
    assert FULL.time_per_output_token_seconds(tokens) is None


def test_every_point_has_its_utc_time() -> None:
    assert FULL.utc("requested") == NOON
    assert FULL.utc("prepared") == NOON + timedelta(milliseconds=250)
    assert FULL.utc("completed") == NOON + timedelta(seconds=12)
    assert EventTimestamps(requested_at=NOON, requested=1).utc("admitted") is None


@pytest.mark.parametrize("name", ["requested_at", "total_seconds", "utc", "lunch"])
def test_a_name_that_is_no_point_is_refused(name: str) -> None:
    with pytest.raises(AttributeError, match=f"no point '{name}'; expected one of requested, "):
        FULL.utc(name)


def test_there_are_at_least_fifteen_points() -> None:
    points = {name for name in FULL.to_dict() if name != "requested_at"}
    assert len(points) == 16
    assert all(FULL.utc(point) is not None for point in points)


def test_an_attempt_that_was_never_admitted_spent_its_time_at_the_gates() -> None:
    refused = AttemptTimestamps(enqueued=0, ended=2 * SECOND)
    assert (refused.queue_seconds, refused.call_seconds) == (2.0, None)
    assert AttemptTimestamps(enqueued=0).queue_seconds is None


def test_an_attempt_says_where_its_time_went() -> None:
    assert ATTEMPT.queue_seconds == 2.0
    assert ATTEMPT.call_seconds == 8.0
    assert ATTEMPT.time_to_first_byte_seconds == 1.0
    assert ATTEMPT.time_to_first_token_seconds == 3.0
    assert ATTEMPT.backoff_seconds == 3.0
    assert ATTEMPT.time_per_output_token_seconds(5) == 1.0
    assert AttemptTimestamps().call_seconds is None


def test_an_attempt_that_knows_its_usage_knows_its_pace() -> None:
    attempt = InvocationAttempt(number=1, provider="p", model="m", timestamps=ATTEMPT)
    assert attempt.time_per_output_token_seconds is None
    counted = InvocationAttempt(
        number=1, provider="p", model="m", timestamps=ATTEMPT, usage=Usage(output_tokens=3)
    )
    assert counted.time_per_output_token_seconds == 2.0


def test_waiting_is_zero_when_nothing_waited() -> None:
    assert BackoffStats().to_dict() == {
        "gate_waits": 0,
        "gate_wait_seconds": 0.0,
        "gate_wait_by_limit": {},
        "backoffs": 0,
        "backoff_seconds": 0.0,
        "retry_after_seconds": 0.0,
    }


def test_waits_at_our_gates_stay_apart_from_back_off() -> None:
    by_limit = {"rpm": 1.5}
    stats = BackoffStats(
        gate_waits=1,
        gate_wait_seconds=1.5,
        gate_wait_by_limit=by_limit,
        backoffs=2,
        backoff_seconds=3.0,
        retry_after_seconds=2.0,
    )
    assert stats.total_seconds == 4.5
    by_limit["tpm"] = 9.0
    assert stats.gate_wait_by_limit == FrozenDict(rpm=1.5)
