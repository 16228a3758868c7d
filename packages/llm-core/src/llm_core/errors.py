"""Exceptions, grouped by what the caller can do.

::

    LLMError
    ├── WaitError                  wait, then try again
    │   ├── GateTimeout            the limits cannot admit the call within the timeout
    │   ├── QueueFull              too many are waiting already
    │   └── CircuitOpen            the breaker holds calls back
    ├── RequestError               change the request
    │   ├── InvalidValue           a field has a value it cannot have       (also a ValueError)
    │   ├── UnsupportedFeature     the model cannot do what was asked       (also a ValueError)
    │   └── CostExceedsLimit       one call weighs more than a whole limit  (also a ValueError)
    ├── ConfigurationError         change the configuration
    │   ├── MissingCredentials     no key was given and none is in the environment
    │   ├── MissingDependencyError an extra is not installed                (also an ImportError)
    │   └── UnknownModel           no provider is known for the model name  (also a LookupError)
    ├── DeniedError                give up, or ask somebody
    │   ├── BudgetDenied           the money limit would be exceeded
    │   └── DeadlineExceeded       the deadline has passed or cannot be kept (also a TimeoutError)
    ├── OutputError                the reply is not the value that was wanted
    └── ProviderError              the provider, or the way to it, failed; `info` tells everything

Services catch all of these and answer with a `GenerationResult`; gates and providers used alone
raise them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_core.error_types import ErrorType

if TYPE_CHECKING:
    from llm_core.error_info import ErrorInfo

__all__ = [
    "BudgetDenied",
    "CircuitOpen",
    "ConfigurationError",
    "CostExceedsLimit",
    "DeadlineExceeded",
    "DeniedError",
    "GateTimeout",
    "InvalidValue",
    "LLMError",
    "MissingCredentials",
    "MissingDependencyError",
    "OutputError",
    "ProviderError",
    "QueueFull",
    "RequestError",
    "UnknownModel",
    "UnsupportedFeature",
    "WaitError",
]


class LLMError(Exception):
    """Root of every exception that these packages raise on purpose.

    `details` holds the numbers behind the message as JSON-able values.
    `retry_after` is the wait in seconds after which another try makes sense, or None if unknown.
    """

    error_type: ErrorType = ErrorType.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.details: dict[str, Any] = dict(details or {})

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later, by the error table."""
        return self.error_type.traits.retryable


class WaitError(LLMError):
    """Our own gates hold the call back; waiting helps, if the caller can afford it."""

    error_type = ErrorType.GATE_TIMEOUT


class GateTimeout(WaitError):
    """The limits cannot admit the call within the timeout; raised as soon as that is known."""


class QueueFull(WaitError):
    """As many calls as `max_queue` allows are waiting already."""


class CircuitOpen(WaitError):
    """The breaker holds calls back until `retry_after` seconds from now."""

    error_type = ErrorType.CIRCUIT_OPEN


class RequestError(LLMError):
    """The request must change before it can succeed."""

    error_type = ErrorType.INVALID_REQUEST


class InvalidValue(RequestError, ValueError):
    """A field has a value it cannot have; the message names field, value and what was expected."""

    @classmethod
    def of(cls, field: str, value: object, expected: str) -> InvalidValue:
        """Build the error for `field`; long values are shortened to 80 characters."""
        # Cut before repr as well: a value may be megabytes of audio.
        shown = repr(value[:80]) if isinstance(value, (str, bytes)) else repr(value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        return cls(f"{field}: got {shown}, expected {expected}", details={"field": field})


class UnsupportedFeature(RequestError, ValueError):
    """The model or provider cannot do what the request asks; raised before anything is sent."""


class CostExceedsLimit(RequestError, ValueError):
    """One call weighs more than a whole limit, so no wait would ever be long enough."""


class ConfigurationError(LLMError):
    """The set-up must change: a setting, a key, an installed package."""

    error_type = ErrorType.INVALID_REQUEST


class MissingCredentials(ConfigurationError):
    """No API key was given or is in the environment; the message names the variable to set."""

    error_type = ErrorType.AUTHENTICATION


class MissingDependencyError(ConfigurationError, ImportError):
    """An optional package is not installed; the message says what to install."""

    error_type = ErrorType.MISSING_DEPENDENCY


class UnknownModel(ConfigurationError, LookupError):
    """No provider, or more than one, fits the model name; the message lists the candidates."""

    error_type = ErrorType.MODEL_NOT_FOUND


class DeniedError(LLMError):
    """A limit that the caller set forbids the call."""

    error_type = ErrorType.BUDGET_DENIED


class BudgetDenied(DeniedError):
    """The money limit would be exceeded."""


class DeadlineExceeded(DeniedError, TimeoutError):
    """The deadline has passed, or the next step could not have ended before it."""

    error_type = ErrorType.TIMEOUT_DEADLINE


class OutputError(LLMError):
    """The reply arrived but is not the value that was wanted."""

    error_type = ErrorType.OUTPUT_INVALID


class ProviderError(LLMError):
    """The provider, or the way to it, failed.

    `info` is all that is known; `info.partial` keeps what had arrived of a stream.
    Nothing else (besides cancellation) leaves a provider.
    """

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message, retry_after=info.retry_after, details=info.details)
        self.info = info
        self.error_type = info.type

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later, as classified for this very failure."""
        return self.info.retryable

    def __reduce__(self) -> tuple[type[ProviderError], tuple[ErrorInfo], dict[str, Any]]:
        return type(self), (self.info,), self.__dict__
