"""The error table: what each kind of failure means for the caller.

An `ErrorType` says what to *do*, not who said it.
Every type has one row in `ERROR_TABLE`; nothing else in the project decides whether a failure is
retried, trips a circuit breaker, lets a fallback answer, or has used up the provider's quota.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from llm_core.value import Value, immutable

__all__ = ["ERROR_TABLE", "ErrorTraits", "ErrorType"]


class ErrorType(StrEnum):
    """Kinds of failure, named by what the caller can do about them."""

    RATE_LIMITED = "rate_limited"
    """Too many requests or tokens for now; waiting helps."""
    QUOTA_EXHAUSTED = "quota_exhausted"
    """The account's money or contingent is used up; waiting a minute does not help."""
    OVERLOADED = "overloaded"
    """The provider is short of capacity for everybody (HTTP 503, Anthropic 529)."""
    SERVER_ERROR = "server_error"
    """The provider failed (HTTP 5xx, a body that makes no sense)."""
    TIMEOUT_CONNECT = "timeout_connect"
    """No connection within the time allowed; nothing was sent."""
    TIMEOUT_READ = "timeout_read"
    """Sent, but no byte came back, or a stream went silent, within the time allowed."""
    TIMEOUT_DEADLINE = "timeout_deadline"
    """The caller's own deadline was reached, or could not have been kept."""
    CONNECTION = "connection"
    """DNS, TLS, refused or reset connection."""
    AUTHENTICATION = "authentication"
    """The key is missing, wrong or expired."""
    PERMISSION = "permission"
    """The key is good but may not do this."""
    UNSUPPORTED_REGION = "unsupported_region"
    """The provider does not serve this country or region."""
    MODEL_NOT_FOUND = "model_not_found"
    """No such model, or not for this account."""
    INVALID_REQUEST = "invalid_request"
    """The request is malformed, or asks for what the model cannot do."""
    CONTEXT_TOO_LONG = "context_too_long"
    """The input does not fit the model's context window."""
    CONTENT_FILTERED = "content_filtered"
    """A filter of the provider stopped the input or the output."""
    REFUSED = "refused"
    """The model itself declined to answer."""
    TRUNCATED = "truncated"
    """The reply ended before its end: token limit, or a stream cut off."""
    OUTPUT_INVALID = "output_invalid"
    """The reply arrived but is not the value that was wanted."""
    CIRCUIT_OPEN = "circuit_open"
    """Our own breaker holds calls back because the provider is failing."""
    BUDGET_DENIED = "budget_denied"
    """Our own money limit would be exceeded."""
    GATE_TIMEOUT = "gate_timeout"
    """Our own limits could not admit the call in time, or the queue is full."""
    CANCELLED = "cancelled"
    """The caller gave up."""
    MISSING_DEPENDENCY = "missing_dependency"
    """An optional package is not installed."""
    INTERNAL = "internal"
    """A fault in this library or in code it was given."""

    @property
    def traits(self) -> ErrorTraits:
        """This type's row of the error table."""
        return ERROR_TABLE[self]


@immutable
class ErrorTraits(Value):
    """One row of the error table."""

    retryable: bool
    """The same request may succeed if it is sent again later."""
    trips_breaker: bool
    """Evidence that the provider is unhealthy; rate limits and the caller's mistakes are not."""
    may_fall_back: bool
    """Another model or provider may answer the same request."""
    consumes_quota: bool
    """The provider has counted the call against its limits, so gates keep the reservation."""


def _row(word: str) -> ErrorTraits:
    """Read a row written as four letters, each its trait's initial or a dash: ``rbfq``."""
    retryable, trips_breaker, may_fall_back, consumes_quota = (letter != "-" for letter in word)
    return ErrorTraits(
        retryable=retryable,
        trips_breaker=trips_breaker,
        may_fall_back=may_fall_back,
        consumes_quota=consumes_quota,
    )


# r retryable · b trips the breaker · f may fall back · q consumed the provider's quota.
# OpenAI counts unsuccessful requests against the per-minute limit («Rate limits» guide), so
# everything that was sent is taken as counted; only what never reached the provider is not.
ERROR_TABLE = MappingProxyType(
    {
        ErrorType.RATE_LIMITED: _row("r-fq"),
        ErrorType.QUOTA_EXHAUSTED: _row("--fq"),
        ErrorType.OVERLOADED: _row("rbfq"),
        ErrorType.SERVER_ERROR: _row("rbfq"),
        ErrorType.TIMEOUT_CONNECT: _row("rbf-"),
        ErrorType.TIMEOUT_READ: _row("rbfq"),
        ErrorType.TIMEOUT_DEADLINE: _row("---q"),
        ErrorType.CONNECTION: _row("rbfq"),
        ErrorType.AUTHENTICATION: _row("--fq"),
        ErrorType.PERMISSION: _row("--fq"),
        ErrorType.UNSUPPORTED_REGION: _row("--fq"),
        ErrorType.MODEL_NOT_FOUND: _row("--fq"),
        ErrorType.INVALID_REQUEST: _row("---q"),
        ErrorType.CONTEXT_TOO_LONG: _row("--fq"),
        ErrorType.CONTENT_FILTERED: _row("--fq"),
        ErrorType.REFUSED: _row("--fq"),
        ErrorType.TRUNCATED: _row("r-fq"),
        ErrorType.OUTPUT_INVALID: _row("--fq"),
        ErrorType.CIRCUIT_OPEN: _row("--f-"),
        ErrorType.BUDGET_DENIED: _row("--f-"),
        ErrorType.GATE_TIMEOUT: _row("--f-"),
        ErrorType.CANCELLED: _row("---q"),
        ErrorType.MISSING_DEPENDENCY: _row("--f-"),
        ErrorType.INTERNAL: _row("--fq"),
    }
)
"""`ErrorType` → `ErrorTraits`, complete and read-only."""
