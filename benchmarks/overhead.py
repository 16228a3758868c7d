"""What a call through the whole service costs on top of the bare provider, beside peers.

    hatch run bench overhead                # with peers, each in an environment of its own made by uv
    hatch run bench overhead --no-peers

Every contender makes the same plain chat call, one at a time, to the same server process with canned replies;
what is compared is the CPU time of the client process, the median over rounds.
Ours: rpm, tpm and concurrency gates, breaker, retries, metrics, usage, cost, one pipeline step.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.providers import run_server

from llm_core import LLMCallRequest, Message
from llm_core.testing import FixedPriceBook
from llm_providers import OpenAIProvider
from llm_service import BaseLLMService

OVERHEAD_RATIO = 0.09
"""The service may add this much of the bare SDK call."""
PEERS = {
    "langchain-openai with InMemoryRateLimiter": ("langchain_peer.py", ["langchain-openai>=1"]),
    "litellm acompletion": ("litellm_peer.py", ["litellm>=1.80"]),
    "pydantic-ai": ("pydantic_ai_peer.py", ["pydantic-ai-slim[openai]>=1"]),
}
QUESTION = "Say something."
PRICES = FixedPriceBook(input_per_million=Decimal("0.25"), output_per_million=Decimal("2"))

Call = Callable[[], Awaitable[Any]]


async def microseconds(call: Call, times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        await call()
    return (time.process_time() - started) / times * 1e6


async def measure_ours(base_url: str, rounds: int, times: int) -> dict[str, list[float]]:
    import openai

    sdk = openai.AsyncOpenAI(api_key="key", base_url=base_url, max_retries=0)
    provider = OpenAIProvider("key", base_url, "chat_completions")
    request = LLMCallRequest(model="gpt-4o", messages=(Message.user(QUESTION),))
    service = BaseLLMService(
        model="gpt-4o",
        provider=provider,
        max_rpm=10_000_000,
        max_tpm=10_000_000_000,
        max_concurrent_requests=64,
        price_book=PRICES,
        telemetry="none",
    )

    async def full() -> None:
        result = await service.generate(QUESTION, operation_name="bench", pipeline=str.strip)
        assert result.success, result.error

    async def bare_sdk() -> None:
        messages: Any = [{"role": "user", "content": QUESTION}]
        await sdk.chat.completions.create(model="gpt-4o", messages=messages)

    calls: dict[str, Call] = {
        "bare openai SDK": bare_sdk,
        "our provider": lambda: provider.invoke(request),
        "our service, full path": full,
    }
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        await microseconds(call, times // 4)
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(await microseconds(call, times))
    return found


def measure_peer(script: str, packages: list[str], base_url: str, times: int) -> list[float]:
    """Run a peer's script in an environment of its own; it prints a list of microseconds."""
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    wanted = [word for package in packages for word in ("--with", package)]
    path = Path(__file__).parent / "peers" / script
    command = [uv, "run", "--no-project", "--python", sys.executable, *wanted]
    done = subprocess.run(
        [*command, "python", str(path), base_url, str(times)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        print(f"  {script}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return []
    found: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def show(found: dict[str, list[float]]) -> bool:
    sdk = statistics.median(found["bare openai SDK"])
    print(f"{'':46}{'CPU us':>9}{'spread':>9}{'of SDK':>9}")
    for name, rounds in found.items():
        if rounds:
            middle, spread = statistics.median(rounds), max(rounds) - min(rounds)
            print(f"{name:46}{middle:9.0f}{spread:9.0f}{middle / sdk:9.2f}")
    differences = [
        full - bare
        for full, bare in zip(found["our service, full path"], found["our provider"], strict=True)
    ]
    added = statistics.median(differences)
    print(
        f"\nthe service adds {added:.0f} us a call, {added / sdk:.3f} of an SDK call "
        f"(target: at most {OVERHEAD_RATIO})"
    )
    return added / sdk <= OVERHEAD_RATIO


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=run_server, args=(there,), daemon=True
    )
    server.start()
    try:
        base_url = f"http://127.0.0.1:{here.recv()}/v1"
        found = asyncio.run(measure_ours(base_url, arguments.rounds, arguments.times))
        if not arguments.no_peers:
            for name, (script, packages) in PEERS.items():
                found[name] = measure_peer(script, packages, base_url, arguments.times)
    finally:
        server.terminate()
    return 0 if show(found) else 1


if __name__ == "__main__":
    sys.exit(main())
