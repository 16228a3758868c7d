"""Twenty thousand calls through the whole service against a simulator that enforces the same limits strictly.

    hatch run bench full_path                 # about eight minutes
    hatch run bench full_path --calls 7000    # a taste of it

The simulator runs in a process of its own and judges every window of 60 seconds.
Printed: rate-limit answers, use of the limit, and, in a second run with injected faults, how every call ended.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llm_core import InvocationAttempt
from llm_core.testing import FixedPriceBook
from llm_gates import ConcurrencyGate, GateSet, RpmGate, TpmGate
from llm_providers import OpenAIProvider
from llm_service import BaseLLMService, RetryPolicy

CALLS = 20_000
# A little less than a third of the calls, so that they fill three windows and the first moment of a fourth: what
# comes later in a window is paced by the CPU and not by the limit.
REQUESTS_A_MINUTE = 6_600
TOKENS_A_MINUTE = 6_000_000
IN_FLIGHT = 32
# What leaves the gate waits its turn on the event loop: with 32 calls of the SDK before it, some 50 ms.
GUARD_SECONDS = 0.3
FAULTS = ("500:0.02", "503:0.02", "reset:0.01")
PRICES = FixedPriceBook(input_per_million=Decimal("0.25"), output_per_million=Decimal("2"))


class Simulator:
    """`llm-sim serve` in a process of its own."""

    def __init__(self, *faults: str) -> None:
        limits = ["--rpm", str(REQUESTS_A_MINUTE), "--tpm", str(TOKENS_A_MINUTE)]
        limits += ["--concurrency", str(IN_FLIGHT), "--algorithm", "sliding"]
        asked = [word for fault in faults for word in ("--fault", fault)]
        command = [sys.executable, "-m", "llm_sim", "serve", "--port", "0", *limits, *asked]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = ""
        for line in self.process.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                self.url = found[0]
                break

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)

    def report(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/_sim/report", timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)
        return found


@dataclass(slots=True)
class Ledger:
    """What the results say was spent: of answers that arrived, and of those that got lost and may be billed."""

    known: Decimal = Decimal(0)
    lost: int = 0
    lost_at_least: Decimal = Decimal(0)

    def add(self, attempt: InvocationAttempt) -> None:
        if attempt.cost is None or attempt.usage is None:
            return
        amount = attempt.cost.amount or Decimal(0)
        if attempt.usage.estimated:
            self.lost += 1
            self.lost_at_least += amount
        else:
            self.known += amount


async def flood(sim: Simulator, calls: int) -> tuple[collections.Counter[str], float, Ledger]:
    """Send `calls` requests as fast as the gates allow; return how they ended, seconds, and money."""
    gates = GateSet(
        RpmGate(REQUESTS_A_MINUTE, guard_seconds=GUARD_SECONDS),
        TpmGate(TOKENS_A_MINUTE, guard_seconds=GUARD_SECONDS),
        ConcurrencyGate(IN_FLIGHT),
    )
    service = BaseLLMService(
        model="gpt-5-mini",
        provider=OpenAIProvider(api_key="simulated", base_url=f"{sim.url}/v1"),
        gate=gates,
        retry=RetryPolicy(max_attempts=4, initial_seconds=0.1),
        price_book=PRICES,
        telemetry="none",
    )
    ends: collections.Counter[str] = collections.Counter()
    ledger = Ledger()
    started = time.monotonic()
    async with service:
        requests = (f"question {number}" for number in range(calls))
        async for _, result in service.generate_many(requests, in_flight=2 * IN_FLIGHT):
            ends["ok" if result.success else str(result.error and result.error.type)] += 1
            ends["attempts"] += len(result.attempts)
            for attempt in result.attempts:
                ledger.add(attempt)
    return ends, time.monotonic() - started, ledger


def show(name: str, sim: Simulator, calls: int) -> dict[str, Any]:
    ends, seconds, ledger = asyncio.run(flood(sim, calls))
    report = sim.report()
    use = next(limit["utilisation"] for limit in report["limits"] if limit["name"] == "rpm")
    refused = report["by_status"].get("429", 0)
    print(f"\n{name}: {calls} calls in {seconds:.1f} s")
    print(f"  how they ended        {dict(ends)}")
    print(f"  arrived at the vendor {report['calls']} (attempts on our ledger {ends['attempts']})")
    print(f"  rate-limit answers    {refused}, violated windows {report['violations']}")
    print(f"  use of the limit      {use:.2%} of {REQUESTS_A_MINUTE} a minute")
    print(f"  billed                {report['cost_usd']} USD")
    print(f"  on our ledger         {ledger.known} USD, and at least {ledger.lost_at_least} USD")
    print(f"                        for {ledger.lost} answers that got lost and may be billed")
    return {"use": use, "refused": refused, "ends": ends, "report": report}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS)
    calls = parser.parse_args().calls
    with Simulator() as sim:
        clean = show("strict limits", sim, calls)
    with Simulator(*FAULTS) as sim:
        faulty = show("strict limits and 5 % faults", sim, calls)
    ended = sum(count for end, count in faulty["ends"].items() if end != "attempts")
    met = clean["refused"] == 0 and clean["use"] >= 0.99 and ended == calls
    print("\ntargets met" if met else "\ntargets MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
