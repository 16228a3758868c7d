from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_core import RateLimitFacts, RateLimitWindow
from llm_providers.rate_limit_headers import read_rate_limits, read_retry_after

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "9"}, 9.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Sun, 22 Nov 9999 12:00:30 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, NOW) == seconds


def test_openais_headers() -> None:
    facts = read_rate_limits(
        {
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms",
            "x-ratelimit-limit-tokens": "2000000",
            "x-ratelimit-remaining-tokens": "1999000",
            "x-ratelimit-reset-tokens": "1m30.5s",
        },
        NOW,
    )
    assert facts == RateLimitFacts(
        requests=RateLimitWindow(limit=10_000, remaining=9999, reset_seconds=0.006),
        tokens=RateLimitWindow(limit=2_000_000, remaining=1_999_000, reset_seconds=90.5),
    )


def test_anthropics_headers() -> None:
    facts = read_rate_limits(
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:01Z",
            "anthropic-ratelimit-input-tokens-limit": "40000",
            "anthropic-ratelimit-input-tokens-reset": "2026-11-22T11:59:00Z",
            "anthropic-ratelimit-output-tokens-remaining": "8000",
            "anthropic-ratelimit-output-tokens-reset": "whenever",
            "retry-after": "12",
        },
        NOW,
    )
    assert facts == RateLimitFacts(
        requests=RateLimitWindow(limit=50, remaining=49, reset_seconds=1.0),
        input_tokens=RateLimitWindow(limit=40_000, reset_seconds=0.0),
        output_tokens=RateLimitWindow(remaining=8000),
        retry_after=12.0,
    )


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("6m0s", 360.0),
        ("1h", 3600.0),
        ("2d", 172_800.0),
        ("17ms", 0.017),
        ("5us", 5e-6),
        ("5\xb5s", 5e-6),
        ("9ns", 9e-9),
        ("8.64s", 8.64),
        ("12", 12.0),
        ("", None),
        ("1x", None),
        ("99999999999d", None),
    ],
)
def test_durations(reset: str, seconds: float | None) -> None:
    facts = read_rate_limits(
        {"x-ratelimit-reset-tokens": reset, "x-ratelimit-remaining-tokens": "1"}, NOW
    )
    assert facts is not None
    assert facts.tokens is not None
    assert facts.tokens.reset_seconds == (None if seconds is None else pytest.approx(seconds))


def test_headers_that_say_nothing() -> None:
    assert read_rate_limits({"content-type": "text/plain"}, NOW) is None
    assert read_rate_limits({"retry-after": "1"}, NOW) == RateLimitFacts(retry_after=1.0)
    odd = {"x-ratelimit-limit-tokens": "many", "x-ratelimit-limit-requests": "-5"}
    assert read_rate_limits(odd, NOW) is None


NAMES = (
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-requests-limit",
)
VALUES = st.one_of(
    st.text(max_size=40),
    st.floats().map(str),
    st.integers().map(str),
    st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.datetimes(timezones=st.sampled_from([UTC])).map(datetime.isoformat),
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_no_header_can_break_the_reading(headers: dict[str, str]) -> None:
    facts = read_rate_limits(headers, NOW)
    if facts is not None and facts.retry_after is not None:
        assert 0 <= facts.retry_after <= 366 * 86400
