"""Where a provider's endpoint is, for telemetry: OpenTelemetry's `server.address` and `server.port`."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["ServerAddress", "address_of"]

_PORTS = {"http": 80, "https": 443}


class ServerAddress(NamedTuple):
    """The host and port of an endpoint."""

    host: str
    port: int


def address_of(url: str, *, default_port: int = 443) -> ServerAddress | None:
    """Return where `url` points, `default_port` being that of one without scheme; None if it is no URL."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        port = parts.port or _PORTS.get(parts.scheme, default_port)
    except ValueError:
        return None
    return ServerAddress(parts.hostname, port) if parts.hostname else None
