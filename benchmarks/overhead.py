"""What a call through the whole service costs on top of the bare provider, beside peers.

    hatch run bench overhead                # with peers, each in an environment of its own; two minutes
    hatch run bench overhead --no-peers     # ours and the bare SDK

Every contender makes the same chat call, one at a time, to the same server process with canned replies;
what is compared is the CPU time of the client process.
Ours: rpm, tpm and concurrency gates, breaker, retries, metrics, usage, cost, one pipeline step.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

from benchmarks.harness import (
    OURS,
    SDK,
    Contender,
    Headline,
    Measured,
    Page,
    against,
    caller_versions,
    callers,
    canned_server,
    compared,
    publish,
    read_options,
    started,
    take_turns,
    where_peers_are_better,
)
from benchmarks.harness.plots import Panel, bars

OVERHEAD_RATIO = 0.09
"""The service may add this much of the bare SDK call."""
SERVICE = "our service, full path"
PROVIDER = "our provider"
FULL_PATHS = {
    "langchain-openai": "langchain-openai, limiter",
    "litellm": "litellm Router, rpm and tpm",
    "pydantic-ai": "pydantic-ai agent",
}
"""The fullest path that a peer has."""
METHOD = """\
Each contender is a process of its own and makes one call after the other; all contenders take turns.
Figures are CPU time of the client's process, the median of the rounds.
Our full path has request, token and concurrency limits, circuit breaker, retries, metrics, usage, cost and a pipeline
step in every call. The peers have what they offer: langchain-openai its InMemoryRateLimiter, litellm its Router with
usage-based routing (requests and tokens a minute counted in this process, two retries), pydantic-ai an agent's run.
None of these holds back a call here, since the limits are never reached.
A structured call asks for a pydantic model of three fields and validates the answer: ours by `generate_structured`
over the full path, instructor by its tool mode, pydantic-ai by an output tool, the others by `response_format`."""


def plain(running: dict[str, Contender], times: int) -> dict[str, Callable[[], float]]:
    works = {
        f"bare {SDK}": running[SDK].cpu("plain call", times),
        PROVIDER: running[OURS].cpu("plain call", times),
        SERVICE: running[OURS].cpu("full path", times),
    }
    for name, words in FULL_PATHS.items():
        if name in running:
            works[words] = running[name].cpu("full path", times)
    return works


def structured(running: dict[str, Contender], times: int) -> dict[str, Callable[[], float]]:
    names = {OURS: SERVICE, SDK: f"bare {SDK}"}
    return {
        names.get(name, name): contender.cpu("structured call", times)
        for name, contender in running.items()
    }


def added(measured: list[Measured]) -> Measured:
    """Return what our service adds to our provider, as a share of the bare SDK's call."""
    sdk, provider, service = measured[:3]
    return replace(service.less(provider).over(sdk), name="added by the service")


def main() -> int:
    options = read_options(__doc__, rounds=9, times={"type": int, "default": 200, "metavar": "N"})
    times = options.given.times
    with canned_server() as url, started(callers(url, peers=options.peers)) as running:
        calls = take_turns(plain(running, times), rounds=options.rounds, ours=[PROVIDER, SERVICE])
        shaped = take_turns(
            structured(running, max(times // 2, 1)), rounds=options.rounds, ours=[SERVICE]
        )
    share = added(calls)
    low, high = share.quartiles
    note = (
        f"The service adds {share.median:.3f} of a bare SDK call to our provider's "
        f"(middle half {low:.3f} – {high:.3f}; target: at most {OVERHEAD_RATIO})."
    )
    if not options.dry_run:
        bars(
            "overhead",
            [
                Panel("A plain call, CPU µs of the client", calls, yardstick=SERVICE),
                Panel("A structured call, CPU µs of the client", shaped, yardstick=SERVICE),
            ],
        )
    page = Page(
        name="overhead",
        title="A call through the whole service",
        summary=[
            Headline(
                what="a call with limits, retries, metrics and cost, client's CPU",
                ours=f"{calls[2].median:,.0f} µs",
                others=against(calls, SERVICE),
            ),
            Headline(
                what="the same with structured output",
                ours=f"{shaped[0].median:,.0f} µs",
                others=against(shaped, SERVICE),
            ),
        ],
        tables=[
            compared("A plain call", calls, f"bare {SDK}", unit="CPU µs", note=note),
            compared("A structured call", shaped, f"bare {SDK}", unit="CPU µs"),
        ],
        better=[
            *where_peers_are_better(calls, SERVICE, at="a plain call"),
            *where_peers_are_better(shaped, SERVICE, at="a structured call"),
        ],
        method=METHOD,
        versions=caller_versions() if options.peers else "",
        picture_says="CPU time of a plain and a structured call, ours and peers",
        missed=[note] if share.median > OVERHEAD_RATIO else [],
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
