"""Contenders take turns, so that whatever else the machine does disturbs all alike."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.harness.contenders import ContenderError


@dataclass(frozen=True, slots=True)
class Measured:
    """What one contender took, round by round; the same round of two contenders is one turn apart."""

    name: str
    rounds: tuple[float, ...]
    is_ours: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The figures between which the middle half of the rounds lies; the ends for fewer than four rounds."""
        if len(self.rounds) < 4:
            return min(self.rounds), max(self.rounds)
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return low, high

    def over(self, other: Measured) -> Measured:
        """Return the ratios to another contender, each within one round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return Measured(self.name, tuple(mine / its for mine, its in pairs), self.is_ours)

    def times(self, factor: float) -> Measured:
        """Return the same in another unit."""
        return Measured(self.name, tuple(factor * figure for figure in self.rounds), self.is_ours)

    def rate(self) -> Measured:
        """Return how many a second microseconds are."""
        return Measured(self.name, tuple(1e6 / figure for figure in self.rounds), self.is_ours)

    def less(self, other: Measured) -> Measured:
        """Return what this took more than another contender, each within one round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return Measured(self.name, tuple(mine - its for mine, its in pairs), self.is_ours)


def take_turns(
    works: Mapping[str, Callable[[], float]], *, rounds: int, ours: Sequence[str] = ()
) -> list[Measured]:
    """Run every work once a round after a round that does not count; return their figures.

    A contender that fails in the round that does not count is named and left out.
    Each round begins with the next contender, so that none always follows the same one.
    """
    names = [name for name, work in works.items() if _works(work)]
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(works[name]())
    return [Measured(name, tuple(figures[name]), name in ours) for name in names]


def _works(work: Callable[[], float]) -> bool:
    try:
        work()
    except ContenderError as error:
        print(f"left out: {error}", file=sys.stderr)
        return False
    return True


def ratios(measured: Sequence[Measured], yardstick: str) -> list[Measured]:
    """Return every contender's ratios to the one that is named `yardstick`."""
    base = next(one for one in measured if one.name == yardstick)
    return [one.over(base) for one in measured]
