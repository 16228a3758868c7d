"""One provider on one event loop after the other, each kind in a program of its own: nothing is left to complain about."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from llm_providers import AnthropicProvider, OpenAIProvider
from llm_sim import SimServer

_PROGRAM = """
import asyncio
import sys
from llm_core import LLMCallRequest, Message
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider

url = sys.argv[1]
provider = {provider}
request = LLMCallRequest(model="sim-1", messages=(Message.user("Hi"),), max_output_tokens=20)


async def call():
    assert (await provider.invoke(request)).text


async def stream(*, at_most=1000):
    async for _ in provider.stream(request):
        at_most -= 1
        if not at_most:
            break


def on_a_loop_of_its_own(*, closed):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(call())
    if closed:
        loop.close()


{use}
"""

_PROVIDERS = {
    "openai": "OpenAIProvider('k', url + '/v1')",
    "anthropic": "AnthropicProvider('k', url)",
    "ollama": "OllamaProvider(url)",
}

_RUNS = """
for _ in range(2):
    asyncio.run(call())
    asyncio.run(stream())
    asyncio.run(stream(at_most=2))
provider.check()
asyncio.run(call())
"""

_CLOSED_IN_THE_END = """
asyncio.run(call())
asyncio.run(call())
asyncio.run(provider.aclose())
"""

_LOOPS_THAT_JUST_STOP = """
for closed in (True, False, True):
    on_a_loop_of_its_own(closed=closed)
asyncio.run(call())
asyncio.run(provider.aclose())
for closed in (True, False):
    on_a_loop_of_its_own(closed=closed)
"""


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer() as server:
        yield server


def _told(sim: SimServer, provider: str, use: str, *flags: str) -> str:
    """Return what a program writes to stderr that makes `use` of `provider`."""
    program = _PROGRAM.format(provider=_PROVIDERS[provider], use=use)
    ran = subprocess.run(
        [sys.executable, *flags, "-c", program, sim.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


@pytest.mark.parametrize("provider", _PROVIDERS)
@pytest.mark.parametrize("use", [_RUNS, _CLOSED_IN_THE_END], ids=["open", "closed"])
def test_one_run_after_the_other_leaves_no_connection_open(
    sim: SimServer, provider: str, use: str
) -> None:
    assert _told(sim, provider, use, "-W", "always") == ""


@pytest.mark.parametrize("provider", _PROVIDERS)
def test_loops_that_just_stop_are_let_go_silently(sim: SimServer, provider: str) -> None:
    assert _told(sim, provider, _LOOPS_THAT_JUST_STOP) == ""


@pytest.mark.parametrize("kind", [OpenAIProvider, AnthropicProvider])
def test_a_client_of_the_callers_own_outlives_the_loops(kind: Any) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"data": []})

    own = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    provider = kind("key", http_client=own)
    for _ in range(2):
        assert asyncio.run(provider.list_models()) == ()
    asyncio.run(provider.aclose())
    assert not own.is_closed
    asyncio.run(own.aclose())
