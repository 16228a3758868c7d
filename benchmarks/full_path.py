"""Twenty thousand calls through the whole service against a simulator that enforces the same limits strictly.

    hatch run bench full_path                 # four minutes
    hatch run bench full_path --calls 3000    # a taste of it; writes no page

The simulator runs in a process of its own and judges every window of 60 seconds; a second run has faults of the
server's and of the wire. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import asyncio
import bisect
import collections
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from benchmarks.harness import (
    Finding,
    Headline,
    Page,
    findings_table,
    missed_targets,
    publish,
    read_options,
)
from benchmarks.harness.plots import FAINT, LIMIT, drawing
from benchmarks.harness.plots import OURS as BLUE

from llm_core import GenerationResult
from llm_core.testing import FixedPriceBook
from llm_gates import ConcurrencyGate, GateSet, RpmGate, TpmGate
from llm_providers import OpenAIProvider
from llm_service import BaseLLMService, RetryPolicy

CALLS = 20_000
# A little less than half of the calls, so that they fill two windows and the first moment of a third: what comes
# later in a window is paced by the CPU and not by the limit.
REQUESTS_A_MINUTE = 9_980
TOKENS_A_MINUTE = 9_000_000
IN_FLIGHT = 32
ATTEMPTS = 5
# What leaves the gate waits its turn on the event loop: with 32 calls of the SDK before it, some 50 ms.
GUARD_SECONDS = 0.3
FAULTS = ("500:0.02", "503:0.02", "reset:0.01")
LEAST_USE = 0.99
PRICES = FixedPriceBook(input_per_million=Decimal("0.25"), output_per_million=Decimal("2"))
METHOD = f"""\
`generate_many` of one service sends {CALLS:,} prompts over the openai SDK to `llm-sim serve`, a process of its own,
as fast as the gates allow. Both keep {REQUESTS_A_MINUTE:,} requests and {TOKENS_A_MINUTE:,} tokens a minute
and {IN_FLIGHT} calls at a time. The simulator counts every window of 60 seconds, refuses what is too much with a 429,
and answers at once. The gates' guard is {GUARD_SECONDS:g} s.
The second run has faults by chance: 2 % of the answers are a 500, 2 % a 503, and 1 % a connection that is reset before
the answer, which may be billed. A call may have {ATTEMPTS} attempts.
Use is the shortest time in which the limit lets so many requests pass, by the time from the first to the last.
Lost is a prompt without a result, doubled one with two. An attempt that arrived at the simulator and is on no result's
ledger would be a call that nobody answers for. Each run is one run: the figures are counts, not times."""


@contextmanager
def simulator(*faults: str) -> Iterator[str]:
    """Run `llm-sim serve` in a process of its own until the block is left; gives its URL."""
    limits = ["--rpm", str(REQUESTS_A_MINUTE), "--tpm", str(TOKENS_A_MINUTE)]
    limits += ["--concurrency", str(IN_FLIGHT), "--algorithm", "sliding"]
    asked = [word for fault in faults for word in ("--fault", fault)]
    command = [sys.executable, "-m", "llm_sim", "serve", "--port", "0", *limits, *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stdout)
            yield next(found[0] for found in lines if found)
        finally:
            process.terminate()


@dataclass(slots=True)
class Run:
    """What the results of one run say, and the simulator's report of it."""

    calls: int
    answers: collections.Counter[int] = field(default_factory=collections.Counter)
    """How many results each prompt got, by its number."""
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    sent: list[float] = field(default_factory=list)
    """When each attempt was handed to the transport, in seconds of a monotonic clock."""
    known_usd: Decimal = Decimal(0)
    """For answers that arrived."""
    unknown: int = 0
    """Answers that got lost and may be billed."""
    unknown_usd: Decimal = Decimal(0)
    """What they cost at least."""
    seconds: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)

    def add(self, number: int, result: GenerationResult[Any]) -> None:
        self.answers[number] += 1
        if not result.success:
            kind = str(result.error and result.error.type)
            self.failed[f"{kind} after {len(result.attempts)} attempts"] += 1
        for attempt in result.attempts:
            if attempt.timestamps.started is not None:
                self.sent.append(attempt.timestamps.started / 1e9)
            if attempt.cost is None or attempt.usage is None:
                continue
            amount = attempt.cost.amount or Decimal(0)
            if attempt.usage.estimated:
                self.unknown += 1
                self.unknown_usd += amount
            else:
                self.known_usd += amount

    @property
    def lost(self) -> int:
        return self.calls - len(self.answers)

    @property
    def doubled(self) -> int:
        return self.answers.total() - len(self.answers)

    @property
    def refused(self) -> int:
        """Rate-limit answers."""
        return int(self.report["by_status"].get("429", 0))

    @property
    def use(self) -> float:
        limits = self.report["limits"]
        return float(next(one["utilisation"] for one in limits if one["name"] == "rpm"))


async def flood(url: str, calls: int) -> Run:
    """Send `calls` requests as fast as the gates allow."""
    gates = GateSet(
        RpmGate(REQUESTS_A_MINUTE, guard_seconds=GUARD_SECONDS),
        TpmGate(TOKENS_A_MINUTE, guard_seconds=GUARD_SECONDS),
        ConcurrencyGate(IN_FLIGHT),
    )
    service = BaseLLMService(
        model="gpt-5-mini",
        provider=OpenAIProvider(api_key="simulated", base_url=f"{url}/v1"),
        gate=gates,
        retry=RetryPolicy(max_attempts=ATTEMPTS, initial_seconds=0.1),
        price_book=PRICES,
        telemetry="none",
    )
    ran = Run(calls)
    started = time.monotonic()
    async with service:
        requests = (f"question {number}" for number in range(calls))
        async for number, result in service.generate_many(requests, in_flight=2 * IN_FLIGHT):
            ran.add(number, result)
    ran.seconds = time.monotonic() - started
    return ran


def measure(calls: int, *faults: str) -> Run:
    """Run the flood against a simulator with `faults`."""
    with simulator(*faults) as url:
        ran = asyncio.run(flood(url, calls))
        with urllib.request.urlopen(f"{url}/_sim/report", timeout=10) as reply:
            ran.report = json.load(reply)
    return ran


def findings(ran: Run, *, least_use: float) -> list[Finding]:
    """Return what one run came to."""
    violations = ran.report["violations"]
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(ran.failed.items()))
    strangers = ran.report["calls"] - len(ran.sent)
    billed = Decimal(ran.report["cost_usd"])
    found = [
        Finding(what="prompts", found=f"{ran.calls:,} in {ran.seconds:.1f} s"),
        Finding(what="rate-limit answers", found=f"{ran.refused}", target="0", met=not ran.refused),
        Finding(
            what="requests beyond a limit", found=f"{violations}", target="0", met=not violations
        ),
        Finding(
            what="use of the limit",
            found=f"{ran.use:.2%}",
            target=f"≥ {least_use:.0%}" if least_use else "",
            met=ran.use >= least_use,
        ),
        Finding(
            what="prompts lost, doubled",
            found=f"{ran.lost}, {ran.doubled}",
            target="0, 0",
            met=not ran.lost and not ran.doubled,
        ),
        Finding(what="results without success", found=words or "0", target="0", met=not ran.failed),
        Finding(what="attempts", found=f"{ran.report['calls']:,}"),
        Finding(
            what="… that are on no ledger", found=f"{strangers}", target="0", met=not strangers
        ),
        Finding(what="billed", found=f"{billed:.4f} USD"),
        Finding(what="… of answers that arrived, on our ledger", found=f"{ran.known_usd:.4f} USD"),
    ]
    if ran.unknown:
        words = f"{ran.unknown_usd:.4f} USD for {ran.unknown}"
        found.append(Finding(what="… at least, of answers that were lost", found=words))
    return found


def draw(runs: dict[str, Run]) -> None:
    """Draw the calls of the last minute over the time of each run."""
    with drawing("full_path", [1] * len(runs), height=2.4 * len(runs)) as (_, axes):
        for (name, ran), ax in zip(runs.items(), axes, strict=True):
            stamps = sorted(ran.sent)
            moments = [moment / 5 for moment in range(int(5 * (stamps[-1] - stamps[0])) + 2)]
            counts = [
                bisect.bisect_right(stamps, stamps[0] + moment)
                - bisect.bisect_right(stamps, stamps[0] + moment - 60)
                for moment in moments
            ]
            ax.plot(moments, counts, color=BLUE, linewidth=1.2)
            ax.axhline(REQUESTS_A_MINUTE, color=LIMIT, linewidth=1, linestyle="--")
            ax.set_xlim(0, moments[-1])
            ax.set_ylim(0, 1.2 * REQUESTS_A_MINUTE)
            ax.set_ylabel("calls")
            ax.set_title(f"{name}: {ran.refused} rate-limit answers")
        words = f"calls sent in the last 60 s; limit {REQUESTS_A_MINUTE:,}"
        axes[0].set_title(words, loc="right", fontsize=8, fontweight="normal", color=FAINT)
        axes[-1].set_xlabel("seconds since the first call, from a cold start")


def main() -> int:
    """Flood twice, print, write; return 1 if a target is missed."""
    options = read_options(
        __doc__,
        rounds=1,
        has_peers=False,
        calls={"type": int, "default": CALLS, "help": f"prompts ({CALLS:,}); others: no page"},
    )
    calls = options.given.calls
    options = replace(options, dry_run=options.dry_run or calls != CALLS)
    runs = {
        "Strict limits": measure(calls),
        "Strict limits and 5 % faults": measure(calls, *FAULTS),
    }
    if not options.dry_run:
        draw(runs)
    clean, faulty = runs.values()
    # With faults, what is sent again comes at the end, when the limit has room.
    found = {
        name: findings(ran, least_use=LEAST_USE if ran is clean and calls == CALLS else 0)
        for name, ran in runs.items()
    }
    page = Page(
        name="full_path",
        title="Twenty thousand calls under strict limits",
        summary=[
            Headline(
                what=f"{calls:,} calls under a strict limit: rate-limit answers, use of the limit",
                ours=f"{clean.refused}, {clean.use:.1%}",
                others="",
            ),
            Headline(
                what="the same with 5 % faults: rate-limit answers, calls lost or doubled",
                ours=f"{faulty.refused}, {faulty.lost + faulty.doubled}",
                others="",
            ),
        ],
        tables=[findings_table(name, lines) for name, lines in found.items()],
        better=None,
        method=METHOD,
        versions="",
        picture_says="Calls of the last minute in both runs, and the limit",
        missed=[
            f"{name}: {words}" for name, lines in found.items() for words in missed_targets(lines)
        ],
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
