"""A failure as data: what a result keeps of an exception."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from llm_core._waits import usable_wait
from llm_core.error_types import ErrorType
from llm_core.errors import LLMError, ProviderError
from llm_core.frozen import EMPTY
from llm_core.record import UNSET, CheckedRecord
from llm_core.response import ProviderResponse, RateLimitFacts
from llm_core.value import immutable

__all__ = ["ErrorInfo"]

# Stands for the error table's word until the record is made; nobody sees it afterwards.
_BY_TABLE: Final = cast("bool", UNSET)
# What a call comes to whose answer got lost on its way, or arrived in pieces.
_UNREADABLE = frozenset(
    {
        ErrorType.CONNECTION,
        ErrorType.SERVER_ERROR,
        ErrorType.TIMEOUT_DEADLINE,
        ErrorType.TIMEOUT_READ,
        ErrorType.TRUNCATED,
    }
)


@immutable
class ErrorInfo(CheckedRecord):
    """What went wrong, in words for people and in fields for programs."""

    type: ErrorType
    message: str
    retryable: bool = _BY_TABLE
    """The same request may succeed later; what the error table says of `type` unless given."""
    retry_after: float | None = None
    """Seconds after which another try makes sense, as the provider or the gate said.

    At most a year; None if what is given is negative or endless: describing a failure must not fail on that.
    """
    status_code: int | None = None
    """The HTTP status, if there was one (a mid-stream failure has 200)."""
    code: str | None = None
    """The vendor's own error code or type, such as ``insufficient_quota``."""
    provider: str | None = None
    model: str | None = None
    provider_request_id: str | None = None
    """The vendor's id of the failed HTTP request, for its support."""
    rate_limits: RateLimitFacts | None = None
    """What the headers of the failed reply said about limits, so that gates learn from refusals, too."""
    exception: str | None = None
    """The class name of the exception this was made from."""
    details: Mapping[str, Any] = EMPTY
    """Further facts, such as the numbers of a context that was too long."""
    partial: ProviderResponse | None = None
    """What had arrived of the reply: text, tool-call fragments, best known usage."""

    def _check(self, names: Iterable[str]) -> None:
        if isinstance(self.retry_after, (int, float)):  # else it is None, or of the wrong type
            object.__setattr__(self, "retry_after", usable_wait(self.retry_after))
        CheckedRecord._check(self, names)

    def _validate(self) -> None:
        if self.retryable is _BY_TABLE:
            object.__setattr__(self, "retryable", self.type.traits.retryable)

    @classmethod
    def of(cls, error_type: ErrorType, message: str, **fields: Any) -> ErrorInfo:
        """Build an ErrorInfo, with type and message by position."""
        return cls(type=error_type, message=message, **fields)

    @classmethod
    def from_exception(cls, error: BaseException) -> ErrorInfo:
        """Describe any exception.

        What is no LLMError is an internal fault; what is no Exception (`asyncio.CancelledError`,
        KeyboardInterrupt) means that the caller gave up.
        """
        name = type(error).__name__
        if isinstance(error, ProviderError):
            return error.info
        if isinstance(error, LLMError):
            return cls(
                type=error.error_type,
                message=str(error),
                retryable=error.retryable,
                retry_after=usable_wait(error.retry_after),
                exception=name,
                details=error.details,
            )
        kind = ErrorType.INTERNAL if isinstance(error, Exception) else ErrorType.CANCELLED
        text = str(error)
        return cls(type=kind, message=f"{name}: {text}" if text else name, exception=name)

    @property
    def may_be_billed(self) -> bool:
        """Whether the vendor may have made an answer, and bills it, although none arrived that can be read.

        So it is after a broken connection, a time-out, or a success whose body makes no sense; not after a refusal,
        nor if nothing was sent, which providers tell by ``details["sent"]``.
        """
        refused = self.status_code is not None and self.status_code >= 400
        return self.type in _UNREADABLE and not refused and self.details.get("sent", True) is True

    def to_exception(self) -> ProviderError:
        """Return an exception that carries this; `GenerationResult.unwrap` raises it."""
        return ProviderError(self)
