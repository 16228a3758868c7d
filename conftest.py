"""What every test of the repository gets: no way out of this machine, and the services on it.

nox starts pytest at the root as well, so this holds for each package's tests alone, too.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import pytest

OFFLINE = Path(__file__).parent / "tests" / "offline"
OUTSIDE_ALLOWED = "LLM_TESTS_OUTSIDE_ALLOWED"  # the name that tests/offline reads


def pytest_configure() -> None:
    """Close the way out for this process and for every Python it starts."""
    # A proxy on loopback would be a way around the refusal, and a surprise for local servers.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    # Where every package is installed there are several telemetry backends, and one must be named.
    os.environ.setdefault("LLM_TELEMETRY", "none")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    # What a change did is to be told from what chance found: new examples are for people to look for.
    hypothesis.settings.register_profile("ci", derandomize=True)
    if os.environ.get("CI"):
        hypothesis.settings.load_profile("ci")
    spec = importlib.util.spec_from_file_location("offline", OFFLINE / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests marked `realtime` be tried again: another program may have had the processor.

    They come last, when no long test of another process keeps them waiting for their turn.
    """
    items.sort(key=is_realtime)
    for item in filter(is_realtime, items):
        item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))


def is_realtime(item: pytest.Item) -> bool:
    """Say whether a test measures real time."""
    return item.get_closest_marker("realtime") is not None


# Around the watch of pytest-timeout: waiting for a turn is no test's time.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run each test in its turn, and open the way out for one marked `live`."""
    with turn_of(item), way_out_for(item):
        return (yield)


@contextmanager
def turn_of(item: pytest.Item) -> Iterator[None]:
    """Give a test marked `realtime` the machine alone where several processes share the tests (`-n 2`)."""
    if not hasattr(item.config, "workerinput"):
        yield
        return
    import fcntl

    with open(__file__, "rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX if is_realtime(item) else fcntl.LOCK_SH)
        try:
            yield
        finally:
            # Closing alone would not do: a forked child has the file open, too.
            fcntl.flock(turn, fcntl.LOCK_UN)


@contextmanager
def way_out_for(item: pytest.Item) -> Iterator[None]:
    """Open the way out for a test marked `live`, and only while it runs."""
    if item.get_closest_marker("live") is None:
        yield
        return
    os.environ[OUTSIDE_ALLOWED] = "1"
    try:
        yield
    finally:
        del os.environ[OUTSIDE_ALLOWED]


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Give the URL of a running Redis: `REDIS_URL`, else the standard port on 127.0.0.1.

    Without one the test is skipped, or fails where `CI` is set. The server is shared and may be
    the developer's own: use keys with a prefix of the test's, and never flush.
    """
    url = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
    _require_answer(
        "Redis",
        url,
        port=6379,
        greeting=b"PING\r\n",
        start="redis-server (package redis-server) or docker run --rm -p 6379:6379 redis",
    )
    return url


def _require_answer(service: str, url: str, *, port: int, greeting: bytes, start: str) -> None:
    """Skip (or fail, where `CI` is set) unless `service` answers `greeting` within 2 seconds."""
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "127.0.0.1", parts.port or port)
        with socket.create_connection(address, timeout=2) as connection:
            connection.sendall(greeting)
            answered = bool(connection.recv(1))
        reason = "" if answered else "the connection was closed without an answer"
    except OSError as error:
        reason = str(error)
    if not reason:
        return
    message = f"no {service} at {url}: {reason}; start one with: {start}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
