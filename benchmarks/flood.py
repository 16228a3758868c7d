"""A gate under flood: how many calls go in every window, beside other limiters with the same limit.

    hatch run bench flood                # half a minute
    hatch run bench flood --no-peers

Twice as many callers as the limit wait all the time, from a cold start on.
Exit code 1 if more calls than the limit went in any window, or fewer than could have.
"""

from __future__ import annotations

import bisect
import sys
from dataclasses import dataclass

from benchmarks.harness import (
    Contender,
    ContenderError,
    Headline,
    Options,
    Page,
    Table,
    publish,
    read_options,
    started,
)
from benchmarks.harness.limiters import OURS, limiter_versions, limiters
from benchmarks.harness.plots import FAINT, LIMIT, PEERS, drawing
from benchmarks.harness.plots import OURS as BLUE

LIMIT_A_SECOND = 100
SECONDS = 4.5
MERCY_SECONDS = 0.005
"""How much earlier a call may count, for the time between its leave and its stamp."""
LEAST_USE = 0.995
DRAWN = (OURS, "aiolimiter")
METHOD = f"""\
The limit is {LIMIT_A_SECOND} calls a second, {2 * LIMIT_A_SECOND} callers wait at any time,
and each takes the time at which it was let go; for {SECONDS:g} seconds from a cold start,
each limiter in a process of its own, one after the other.
A violation is a call that makes more than the limit within one second, whichever second that is, with
{MERCY_SECONDS * 1000:g} ms of mercy for scheduling. Use is the share of the calls that the limit allows in that time: the first
{LIMIT_A_SECOND} at once, as many again each second. A token bucket allows a burst on top of its rate, which is more than 100 %.
limits has no limiter that waits, so that it is not here."""


@dataclass(frozen=True, slots=True)
class Flood:
    """When the calls of one limiter went, in seconds since it was flooded."""

    name: str
    limit: int
    seconds: float
    stamps: tuple[float, ...]

    @property
    def violations(self) -> int:
        """Calls that made more than the limit within a second."""
        later = self.stamps[self.limit :]
        return sum(
            last - first < 1 - MERCY_SECONDS
            for first, last in zip(self.stamps, later, strict=False)
        )

    @property
    def use(self) -> float:
        """The share that went of what the limit allows: as many windows as begin within the time may be full."""
        return len(self.stamps) / (self.limit * (int(self.seconds) + 1))

    @property
    def most(self) -> int:
        """The most calls in any second, without mercy."""
        return max(self.within(stamp) for stamp in self.stamps)

    def within(self, end: float) -> int:
        """Return how many calls went in the second that ends with, and includes, `end`."""
        after = bisect.bisect_right(self.stamps, end - 1)
        return bisect.bisect_right(self.stamps, end) - after


def flooded(name: str, contender: Contender, limit: int, seconds: float) -> Flood:
    """Flood a contender of harness/limiters.py; raises ContenderError."""
    stamps = contender.ask(answer="flood", given={"limit": limit, "seconds": seconds})
    return Flood(name, limit, seconds, tuple(stamp - stamps[0] for stamp in stamps))


def measure(options: Options) -> list[Flood]:
    floods = []
    with started(limiters(peers=options.peers)) as running:
        for name, contender in running.items():
            if name == "limits":
                continue
            try:
                floods.append(flooded(name, contender, LIMIT_A_SECOND, SECONDS))
            except ContenderError as error:
                print(f"left out: {error}", file=sys.stderr)
    return floods


def draw(floods: list[Flood]) -> None:
    """Draw calls of every 100 ms as bars and those of the last second as a line."""
    with drawing("flood", [1] * len(floods), height=2.7 * len(floods)) as (_, axes):
        for flood, ax in zip(floods, axes, strict=True):
            is_ours = flood.name == OURS
            tenths = [0] * (int(SECONDS * 10) + 1)
            for stamp in flood.stamps:
                tenths[int(stamp * 10)] += 1
            starts = [tenth / 10 for tenth in range(len(tenths))]
            ax.bar(starts, tenths, 0.1, align="edge", color=BLUE if is_ours else PEERS)
            # At every millisecond, for the line to be as steep as the count.
            moments = [moment / 1_000 for moment in range(int(SECONDS * 1_000))]
            counts = [flood.within(moment) for moment in moments]
            ax.plot(moments, counts, color="black", linewidth=1.2)
            ax.axhline(LIMIT_A_SECOND, color=LIMIT, linewidth=1, linestyle="--")
            ax.set_xlim(0, SECONDS)
            ax.set_ylim(0, 2.25 * LIMIT_A_SECOND)
            ax.set_yticks([0, LIMIT_A_SECOND, 2 * LIMIT_A_SECOND])
            ax.set_ylabel("calls")
            ax.set_title(f"{flood.name}: at most {flood.most} calls in a second")
        top = axes[0]
        place = (SECONDS * 0.99, LIMIT_A_SECOND * 1.04)
        top.text(*place, f"limit: {LIMIT_A_SECOND} a second", color=LIMIT, ha="right", va="bottom")
        words = "line: calls in the last second; bars: calls in each 100 ms"
        top.set_title(words, loc="right", fontsize=8, fontweight="normal", color=FAINT)
        axes[-1].set_xlabel("seconds since the flood began, from a cold start")


def main() -> int:
    options = read_options(__doc__, rounds=1)
    floods = measure(options)
    if not options.dry_run:
        draw([flood for flood in floods if flood.name in DRAWN])
    ours, *peers = floods
    missed = []
    if ours.violations:
        missed.append(f"{ours.violations} violations, none allowed")
    if ours.use < LEAST_USE:
        missed.append(f"use of {ours.use:.1%}, at least {LEAST_USE:.1%}")
    page = Page(
        name="flood",
        title="A gate under flood",
        summary=[
            Headline(
                what=f"most calls in any second, limit {LIMIT_A_SECOND}, cold start",
                ours=f"{ours.most}",
                others="; ".join(f"{flood.name} {flood.most}" for flood in peers),
            )
        ],
        tables=[
            Table(
                f"Limit {LIMIT_A_SECOND} a second, {SECONDS:g} seconds",
                ("", "calls", "most in a second", "violations", "use"),
                [
                    (
                        f"**{flood.name}**" if flood is ours else flood.name,
                        f"{len(flood.stamps)}",
                        f"{flood.most}",
                        f"{flood.violations}",
                        f"{flood.use:.1%}",
                    )
                    for flood in floods
                ],
            )
        ],
        better=[
            f"{flood.name} keeps the limit as well, and uses {flood.use:.1%} of it (ours {ours.use:.1%})."
            for flood in peers
            if not flood.violations and flood.use >= ours.use
        ],
        method=METHOD,
        versions=limiter_versions() if options.peers else "",
        picture_says="Calls in the last second and in each 100 ms under flood, llm-gates and aiolimiter",
        missed=missed,
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
