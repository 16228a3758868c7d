"""What llm-gates costs and keeps, beside other limiters.

    hatch run bench gates               # two minutes
    hatch run bench gates --no-redis    # without the four processes on Redis
    hatch run bench gates --no-peers    # ours and the yardstick

Costs are ratios to aiolimiter's uncontended acquire in the same round, so that they carry over to other machines.
token-throttle needs Python 3.12 and is compared with aiolimiter there. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from benchmarks.flood import flooded
from benchmarks.gates.promises import (
    cost_of_waiting,
    promises,
    redis_answers,
    waiters,
)
from benchmarks.harness import (
    Contender,
    Finding,
    Headline,
    Measured,
    Page,
    against,
    compared,
    findings_table,
    missed_targets,
    publish,
    ratios,
    read_options,
    spread,
    started,
    take_turns,
    where_peers_are_better,
)
from benchmarks.harness.limiters import (
    OURS,
    PYTHON_312,
    YARDSTICK,
    limiter_versions,
    limiters,
)
from benchmarks.harness.plots import Panel, bars

REFERENCE_MICROSECONDS = 0.80
"""What the yardstick's acquire took on the machine for which the targets are given."""
TARGETS = {
    "acquire": ("uncontended acquire, one limit", 0.5),
    "acquire and settle": ("acquire + settle, RPM and TPM together", 2.5),
    "contended": ("8 threads contending, one limit", 1.0),
}
"""Microseconds on the machine of the reference."""
ALSO = {
    "admit": "the same as `async with gate.admit()`",
    "admit and settle": "the same as `async with gates.admit(tokens=…)`",
}
CONTENDED = "contended"
OUR_WORKS = ("admit", "acquire and settle", "admit and settle", CONTENDED)
"""What is measured of ours besides its acquire, each in a process of its own: the interpreter makes code fast for the
kinds of objects that it sees there, and a process of a peer sees one kind."""
YARDSTICK_312 = f"{YARDSTICK}, Python 3.12"
CALLS = 5_000
THREAD_CALLS = 500
METHOD = """\
Costs: every limiter is in a process of its own, ours in one for each work, and all take turns; a round is 5,000 calls,
one after the other, of a new limiter whose limit is never reached (500 of token-throttle; 500 of each of eight threads
where they contend).
Figures are CPU time, with threads elapsed time, as threads also wait; the median of the rounds.
limits answers no instead of waiting, and langchain-core looks again a hundred times a second, both without an order.
Memory is by `tracemalloc`, the waiting tasks included. A violation is a call that makes more than the limit in any
window of 1 s, with 5 ms of mercy for scheduling. A use of 100 % is all calls that the limit allows, cold start included.
The shared quota and the late weights run in virtual time with the simulations of the tests."""


def works(running: dict[str, Contender]) -> dict[str, Callable[[], float]]:
    """Return what is measured in turns: every limiter's acquire, then the rest of ours and the peers'."""
    found = {
        name: contender.cpu(name if name in OUR_WORKS else "acquire", CALLS, fresh=True)
        for name, contender in running.items()
        if name not in ("token-throttle", CONTENDED)
    }
    found[CONTENDED] = lambda: running[CONTENDED].measure(CONTENDED, THREAD_CALLS, fresh=True)[
        "wall"
    ]
    if throttle := running.get("token-throttle"):
        found["token-throttle"] = throttle.cpu("acquire", CALLS // 10, fresh=True)
        found["token-throttle, settled"] = throttle.cpu(
            "acquire and settle", CALLS // 10, fresh=True
        )
    if pyrate := running.get("pyrate-limiter"):
        found["pyrate-limiter, 8 threads"] = lambda: pyrate.measure(
            "contended", THREAD_CALLS, fresh=True
        )["wall"]
    return found


def floods(running: dict[str, Contender]) -> list[Finding]:
    """Return the promise about the limit itself, with what the yardstick makes of it."""
    found = []
    for limit in (50, 500):
        ours = flooded(OURS, running[OURS], limit, 3.5)
        theirs = flooded(YARDSTICK, running[YARDSTICK], limit, 3.5)
        found.append(
            Finding(
                what=f"flood and cold start, {limit} a second: violations, use",
                found=f"{ours.violations}, {ours.use:.1%} ({YARDSTICK} {theirs.violations})",
                target="0, ≥ 99.5 %",
                met=ours.violations == 0 and ours.use >= 0.995,
            )
        )
    return found


def costs(by_name: dict[str, Measured]) -> list[Finding]:
    """Return what ours costs, in multiples of the yardstick."""
    found = []
    for work, (what, microseconds) in TARGETS.items():
        ratio = by_name[OURS if work == "acquire" else work].over(by_name[YARDSTICK])
        most = microseconds / REFERENCE_MICROSECONDS
        met = ratio.median <= most
        found.append(Finding(what=what, found=spread(ratio, 2), target=f"≤ {most:g}", met=met))
    for work, what in ALSO.items():
        found.append(Finding(what=what, found=spread(by_name[work].over(by_name[YARDSTICK]), 2)))
    return found


def main() -> int:
    """Measure, print, write."""
    options = read_options(__doc__, rounds=40, no_redis={"action": "store_true"})
    url = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
    use_redis = not options.given.no_redis and redis_answers(url)
    waiting = asyncio.run(waiters(10_000))
    makers = limiters(peers=options.peers)
    makers |= {work: makers[OURS] for work in OUR_WORKS}
    if options.peers:
        makers[YARDSTICK_312] = lambda: Contender("limiters", YARDSTICK, environment=PYTHON_312)
    with started(makers) as running:
        measured = take_turns(works(running), rounds=options.rounds, ours=[OURS])
        flooding = floods(running)
    by_name = {one.name: one for one in measured}
    machine = by_name[YARDSTICK].median / REFERENCE_MICROSECONDS
    kept = [
        *flooding,
        *cost_of_waiting(*waiting, machine),
        *asyncio.run(promises(url if use_redis else None)),
    ]
    spent = costs(by_name)
    others = {"token-throttle", YARDSTICK_312, *OUR_WORKS}
    acquire = [by_name[name] for name in running if name in by_name and name not in others]
    note = f"Ratios to {YARDSTICK}'s uncontended acquire."
    tables = [
        compared("Uncontended acquire", acquire, YARDSTICK, unit="CPU µs", digits=2),
        findings_table("What ours costs", spent, note, found="ours"),
        findings_table("What ours keeps", kept, found="ours"),
    ]
    newer = [one for one in measured if one.name.startswith(("token-throttle", YARDSTICK_312))]
    if YARDSTICK_312 in by_name and "token-throttle" in by_name:
        newer.sort(key=lambda one: one.name)
        note = "It counts what is in flight, so that an acquire is closed by a refund, which is measured with it."
        title = "token-throttle, on Python 3.12"
        tables.insert(1, compared(title, newer, YARDSTICK_312, unit="CPU µs", digits=1, note=note))
    if not options.dry_run:
        shown = ratios(acquire, YARDSTICK)
        bars("gates", [Panel(f"Uncontended acquire, multiples of {YARDSTICK}'s", shown, 2)])
    page = Page(
        name="gates",
        title="llm-gates: cost and promise",
        summary=[
            Headline(
                what="a limiter's uncontended acquire",
                ours=f"{by_name[OURS].median:.2f} µs",
                others=against(acquire, OURS),
            )
        ],
        tables=tables,
        better=where_peers_are_better(acquire, OURS, at="an uncontended acquire"),
        method=METHOD,
        versions=limiter_versions() if options.peers else "",
        picture_says="Uncontended acquire of all limiters",
        missed=missed_targets([*spent, *kept]),
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
