"""What the tests of the gates in Redis have in common."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest

from llm_gates import GateSet, RedisGateSet
from llm_gates.redis_script import redis_client


@pytest.fixture(params=["fake", "real"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., RedisGateSet]]:
    """Give a function that makes gate sets sharing one prefix on one server."""
    made: list[RedisGateSet] = []
    common = f"llm-gates-test-{uuid.uuid4().hex[:8]}"
    if request.param == "fake":
        server = fakeredis.FakeServer()
        client: Callable[[], Any] = lambda: fakeredis.FakeRedis(server=server)  # noqa: E731
    else:
        url = request.getfixturevalue("redis_url")
        client = redis_client(url)

    def build(*gates: GateSet, prefix: str = "", **options: Any) -> RedisGateSet:
        made.append(RedisGateSet(*gates, prefix=common + prefix, client=client, **options))
        return made[-1]

    yield build
    for gates in made:
        gates.close()
    cleaner = client()
    for key in cleaner.scan_iter(match=f"{{{common}*"):
        cleaner.delete(key)
    cleaner.close()
