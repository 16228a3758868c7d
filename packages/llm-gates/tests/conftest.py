"""What the root conftest gives as well; this file can go as soon as it does everywhere."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import pytest


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Give the URL of a running Redis, or skip (fail where `CI` is set)."""
    url = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 6379), timeout=2).close()
    except OSError as error:
        message = f"no Redis at {url}: {error}; start one with: redis-server --save ''"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return url
