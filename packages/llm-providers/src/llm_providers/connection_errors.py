"""From an exception of an HTTP client to a `TransportFailure`.

The SDKs run on two generations of one client library (httpx2; ollama still on httpx) whose exceptions have the same names,
so they are told apart by name along the chain of causes, without importing either.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from llm_core import ErrorType
from llm_providers.wire import TransportFailure

__all__ = ["transport_failure"]

_BY_NAME = {
    "ConnectTimeout": (
        ErrorType.TIMEOUT_CONNECT,
        "no connection within the time allowed",
    ),
    "PoolTimeout": (
        ErrorType.TIMEOUT_CONNECT,
        "no free connection in the pool in time",
    ),
    "ReadTimeout": (ErrorType.TIMEOUT_READ, "no answer within the time allowed"),
    "WriteTimeout": (ErrorType.TIMEOUT_READ, "the request could not be sent in time"),
    "ConnectError": (ErrorType.CONNECTION, "could not connect"),
    "ReadError": (ErrorType.CONNECTION, "the connection broke while reading"),
    "WriteError": (ErrorType.CONNECTION, "the connection broke while sending"),
    "CloseError": (ErrorType.CONNECTION, "the connection broke while closing"),
    "RemoteProtocolError": (
        ErrorType.CONNECTION,
        "the server broke off or broke the HTTP protocol",
    ),
    "LocalProtocolError": (
        ErrorType.INVALID_REQUEST,
        "the request cannot be sent over HTTP",
    ),
    "ProxyError": (ErrorType.CONNECTION, "the proxy failed"),
    "UnsupportedProtocol": (
        ErrorType.INVALID_REQUEST,
        "the base URL must begin with http:// or https://",
    ),
    "InvalidURL": (ErrorType.INVALID_REQUEST, "the base URL is no URL"),
    "DecodingError": (ErrorType.SERVER_ERROR, "the body's compression is broken"),
    "TooManyRedirects": (ErrorType.SERVER_ERROR, "too many redirects"),
}
_NEVER_CONNECTED = {"ConnectError", "ConnectTimeout"}

# Where the request had no connection to go out on.
_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})


def transport_failure(error: BaseException) -> TransportFailure | None:
    """Describe `error`, looking along its causes; None if it has nothing to do with the connection.

    `details["reason"]` is ``dns``, ``tls``, ``refused`` or ``reset`` where that is known, and `details["sent"]` is false
    where the request cannot have reached the vendor.
    """
    chain = _chain(error)
    name = next((name for name in _names(chain) if name in _BY_NAME), None)
    reason, cause = _reason(chain)
    if name is None and reason is None:
        return None
    error_type, words = _BY_NAME.get(name or "", (ErrorType.CONNECTION, "the connection failed"))
    told = str(cause or chain[-1]) or type(chain[-1]).__name__
    if "LocalProtocolError" in _names(chain):
        told = "a header, the method or the path is malformed"  # its own words quote the key
    if _NEVER_CONNECTED.intersection(_names(chain)) and (server := _server(chain)):
        told = f"{server}: {told}"
    details: dict[str, Any] = {"reason": reason} if reason else {}
    if name in _UNSENT or reason in ("dns", "refused"):
        details["sent"] = False
    return TransportFailure(error_type, f"{words}: {told}", details)


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain


def _names(chain: list[BaseException]) -> list[str]:
    return [kind.__name__ for error in chain for kind in type(error).__mro__]


def _server(chain: list[BaseException]) -> str | None:
    """Return where the request was to go, without path, user and password; None if no error of the chain knows."""
    for error in chain:
        try:
            request: Any = getattr(error, "request", None)
            parts = urlsplit(str(getattr(request, "url", "")))
        except (RuntimeError, ValueError):  # the former is httpx's word for: no request is known
            continue
        if parts.hostname:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return None


def _reason(chain: list[BaseException]) -> tuple[str | None, BaseException | None]:
    for error in chain:
        if isinstance(error, ssl.SSLError):
            return "tls", error
        if isinstance(error, socket.gaierror):
            return "dns", error
        if isinstance(error, ConnectionRefusedError):
            return "refused", error
        if isinstance(error, (ConnectionResetError, BrokenPipeError)):
            return "reset", error
        for inner in getattr(error, "exceptions", ()):  # several addresses tried, each failed
            reason, cause = _reason(_chain(inner))
            if reason:
                return reason, cause
    return None, None
