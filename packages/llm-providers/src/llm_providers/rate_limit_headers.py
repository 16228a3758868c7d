"""What the headers of a reply say about limits, for every vendor's naming.

Sources: OpenAI's guide «Rate limits» (``x-ratelimit-*``, resets such as ``6m0s`` or ``17ms``),
Anthropic's «Rate limits» (``anthropic-ratelimit-*``, resets as RFC 3339 instants), RFC 9110 section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from llm_core import RateLimitFacts, RateLimitWindow

__all__ = ["read_rate_limits", "read_retry_after"]

_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|\xb5s|ns|h|m|s|d)")
_UNIT_SECONDS = {
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\xb5s": 1e-6,
    "ns": 1e-9,
}
_LONGEST_SECONDS = 366 * 86400.0
"""Waits beyond a year are a server's mistake; they are taken as unknown."""


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds to wait, from ``retry-after-ms``, else ``retry-after`` in seconds, fractions or as an HTTP date.

    Header names are in lower case; `now` is the UTC time that a date is taken from.
    None if there is nothing to read.
    """
    from_milliseconds = _seconds(headers.get("retry-after-ms"), scale=1e-3)
    if from_milliseconds is not None:
        return from_milliseconds
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        instant = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _until(instant, now)


def read_rate_limits(headers: Mapping[str, str], now: datetime) -> RateLimitFacts | None:
    """Return everything that `headers` (names in lower case) say about limits; None if they say nothing."""
    retry_after = read_retry_after(headers, now)
    if "anthropic-ratelimit-requests-limit" in headers or any(
        name.startswith("anthropic-ratelimit-") for name in headers
    ):
        return RateLimitFacts(
            requests=_anthropic(headers, "requests", now),
            tokens=_anthropic(headers, "tokens", now),
            input_tokens=_anthropic(headers, "input-tokens", now),
            output_tokens=_anthropic(headers, "output-tokens", now),
            retry_after=retry_after,
        )
    requests, tokens = _openai(headers, "requests"), _openai(headers, "tokens")
    if requests is None and tokens is None and retry_after is None:
        return None
    return RateLimitFacts(requests=requests, tokens=tokens, retry_after=retry_after)


def _openai(headers: Mapping[str, str], metric: str) -> RateLimitWindow | None:
    limit = _count(headers.get("x-ratelimit-limit-" + metric))
    remaining = _count(headers.get("x-ratelimit-remaining-" + metric))
    reset = _duration(headers.get("x-ratelimit-reset-" + metric))
    return _window(limit, remaining, reset)


def _anthropic(headers: Mapping[str, str], metric: str, now: datetime) -> RateLimitWindow | None:
    prefix = f"anthropic-ratelimit-{metric}-"
    reset = headers.get(prefix + "reset")
    return _window(
        _count(headers.get(prefix + "limit")),
        _count(headers.get(prefix + "remaining")),
        None if reset is None else _instant(reset, now),
    )


def _window(
    limit: int | None, remaining: int | None, reset_seconds: float | None
) -> RateLimitWindow | None:
    if limit is None and remaining is None and reset_seconds is None:
        return None
    return RateLimitWindow(limit=limit, remaining=remaining, reset_seconds=reset_seconds)


def _count(value: str | None) -> int | None:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 18:
        return None
    return int(value)


def _seconds(value: str | None, *, scale: float = 1.0) -> float | None:
    """Read a plain number, zero or more, and multiply it."""
    if value is None:
        return None
    try:
        seconds = float(value) * scale
    except ValueError:
        return None
    return seconds if 0 <= seconds <= _LONGEST_SECONDS else None


def _duration(value: str | None) -> float | None:
    """Read ``1m30.5s``, ``17ms`` or a plain number of seconds."""
    if value is None:
        return None
    value = value.strip()
    parts = _GO_DURATION.findall(value)
    if parts and "".join(number + unit for number, unit in parts) == value:
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
        return seconds if seconds <= _LONGEST_SECONDS else None
    return _seconds(value)


def _instant(value: str, now: datetime) -> float | None:
    try:
        return _until(datetime.fromisoformat(value), now)
    except ValueError:
        return None


def _until(instant: datetime, now: datetime) -> float | None:
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    try:
        seconds = (instant - now).total_seconds()
    except OverflowError:
        return None
    return max(seconds, 0.0) if seconds <= _LONGEST_SECONDS else None
