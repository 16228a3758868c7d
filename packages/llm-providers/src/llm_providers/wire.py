"""What passes between the pure conversions and whatever carries bytes to a vendor.

A `Transport` is all that a provider needs of a vendor's SDK; swapping it touches no conversion.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, runtime_checkable

from llm_core import EMPTY, ErrorType, Value, immutable

__all__ = ["Transport", "TransportFailure", "WireCall", "WireReply", "WireStream"]


@immutable
class WireCall(Value):
    """One HTTP call below a vendor's base URL."""

    path: str
    """Such as ``/responses``; it may hold a query string."""
    content: bytes | None = None
    """The JSON body, encoded."""
    method: str = "POST"
    headers: Mapping[str, str] = EMPTY
    """Extra headers; they go over the transport's own."""
    form: Mapping[str, Any] = EMPTY
    """The plain fields of a form, sent together with `files`."""
    files: Mapping[str, tuple[str, bytes, str]] = EMPTY
    """Form field → file name, content and media type; sends ``multipart/form-data``."""
    timeout_seconds: float | None = None
    """The longest the whole call may take; None means the provider's own limit."""


@immutable
class WireReply(Value):
    """A whole HTTP reply of any status."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes


class WireStream(Protocol):
    """An HTTP reply whose body is still coming."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Give the decoded body as it comes, once; raises TransportFailure when the connection breaks."""

    async def aclose(self) -> None:
        """Close the connection at once, whatever is still to come; may be called again."""


@runtime_checkable
class Transport(Protocol):
    """Carries calls to one vendor's server; never retries."""

    async def ready(self) -> None:
        """Make what the first call needs, such as a client; its time is not the call's. Raises ConfigurationError."""

    def check(self) -> None:
        """Raise MissingCredentials or MissingDependencyError if nothing could be sent; sends nothing."""

    async def send(self, call: WireCall) -> WireReply:
        """Send `call` and read the whole reply, of whatever status; raises TransportFailure."""

    async def open(self, call: WireCall) -> WireStream:
        """Send `call` and return as soon as the headers are there; raises TransportFailure."""

    async def aclose(self) -> None:
        """Give back all connections; may be called again, and the transport may be used again after it."""


class TransportFailure(Exception):
    """No whole reply arrived: connecting, sending or reading failed."""

    def __init__(
        self,
        error_type: ErrorType,
        message: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.details = dict(details or {})
