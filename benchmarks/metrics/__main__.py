"""What measuring costs: marks, memory, telemetry backends on the calling thread, prices.

    hatch run bench metrics                # a minute
    hatch run bench metrics --dry-run      # the same, without writing

What is compared takes turns; times are processor time of the calling thread (of all threads for marks, whose sum is
the elapsed time under one lock of the interpreter). Exit code 1 if a target is missed.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from itertools import chain

from benchmarks.harness import (
    Headline,
    Page,
    findings_table,
    missed_targets,
    publish,
    read_options,
)
from benchmarks.harness.plots import Panel, bars
from benchmarks.metrics.backends import BARE_SPANS, SPANS, backend_findings, backends
from benchmarks.metrics.marks import MARKS, THREADS, mark_findings, marks, memory_of_marks
from benchmarks.metrics.prices import price_findings

CALLS = 2_000
"""Whose events make a round."""
METHOD = f"""\
All take turns; figures are the median of the rounds, in brackets their middle half. Times are processor time of the calling
thread, for marks that of {THREADS} threads that mark at once, whose sum is the elapsed time under one lock of the interpreter.
A call is one streamed call with one attempt: five events, all on the calling thread; spans are exported in batches, to
nowhere. The spans by hand have the same attributes, set at the same moments.
Memory is the resident memory of a fresh process over {MARKS:,} marks."""


def main() -> int:
    """Measure everything, print it, and write the page."""
    options = read_options(__doc__, rounds=9, has_peers=False)
    marked = marks(options.rounds)
    memory = memory_of_marks()
    called = backends(options.rounds, CALLS)
    findings = {
        "A mark": mark_findings(marked),
        "Memory": [memory],
        "A call's events": backend_findings(called),
        "Prices": price_findings(options.rounds),
    }
    if not options.dry_run:
        bars("metrics", [Panel("The events of one call, CPU µs on its thread", called, 1)])
    by_name = {one.name: one for one in called}
    by_hand = by_name[BARE_SPANS].over(by_name[SPANS]).median
    deque = marked[2].over(marked[1]).median
    better = [
        f"A plain deque takes {deque:.2f} of `mark_received`, "
        "but grows with the rate and knows no percentiles."
    ]
    if by_hand < 1:
        better.append(f"The same spans made by hand with the SDK take {by_hand:.2f} of ours.")
    page = Page(
        name="metrics",
        title="What measuring costs",
        summary=[
            Headline(
                what="a call's spans with OpenTelemetry, on the calling thread",
                ours=f"{by_name[SPANS].median:.0f} µs",
                others=f"by hand with the SDK {by_name[BARE_SPANS].median:.0f} µs",
            )
        ],
        tables=[findings_table(title, found) for title, found in findings.items()],
        better=better,
        method=METHOD,
        versions=f"opentelemetry-sdk {version('opentelemetry-sdk')}, prometheus-client {version('prometheus-client')}, "
        f"genai-prices {version('genai-prices')}",
        picture_says="What the events of one call cost with each telemetry backend",
        missed=missed_targets(chain.from_iterable(findings.values())),
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
