"""A failure as data: what a result keeps of an exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_core.error_types import ErrorType
from llm_core.errors import LLMError, ProviderError
from llm_core.frozen import EMPTY
from llm_core.record import CheckedRecord
from llm_core.response import ProviderResponse

__all__ = ["ErrorInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo(CheckedRecord):
    """What went wrong, in words for people and in fields for programs."""

    type: ErrorType
    message: str
    retryable: bool = False
    """The same request may succeed later; by the error table unless the provider said otherwise."""
    retry_after: float | None = None
    """Seconds after which another try makes sense, as the provider or the gate said."""
    status_code: int | None = None
    """The HTTP status, if there was one (a mid-stream failure has 200)."""
    code: str | None = None
    """The vendor's own error code or type, such as ``insufficient_quota``."""
    provider: str | None = None
    model: str | None = None
    provider_request_id: str | None = None
    """The vendor's id of the failed HTTP request, for its support."""
    exception: str | None = None
    """The class name of the exception this was made from."""
    details: Mapping[str, Any] = EMPTY
    """Further facts, such as the numbers of a context that was too long."""
    partial: ProviderResponse | None = None
    """What had arrived of the reply: text, tool-call fragments, best known usage."""

    @classmethod
    def of(cls, error_type: ErrorType, message: str, **fields: Any) -> ErrorInfo:
        """Build an ErrorInfo whose `retryable` is the error table's unless given."""
        fields.setdefault("retryable", error_type.traits.retryable)
        return cls(type=error_type, message=message, **fields)

    @classmethod
    def from_exception(cls, error: BaseException) -> ErrorInfo:
        """Describe any exception; what is not an LLMError is an internal fault."""
        name = type(error).__name__
        if isinstance(error, ProviderError):
            return error.info
        if isinstance(error, LLMError):
            return cls(
                type=error.error_type,
                message=str(error),
                retryable=error.retryable,
                retry_after=error.retry_after,
                exception=name,
                details=error.details,
            )
        return cls(type=ErrorType.INTERNAL, message=f"{name}: {error}", exception=name)

    def to_exception(self) -> ProviderError:
        """Return an exception that carries this; `GenerationResult.unwrap` raises it."""
        return ProviderError(self)
