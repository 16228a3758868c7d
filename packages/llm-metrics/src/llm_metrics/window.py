"""Sliding windows: counts and durations of the last minute, approximate in constant space or exact.

Times are monotonic nanoseconds; nothing here locks, which is the recorder's part.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from operator import add, sub
from typing import Final, Protocol

from llm_metrics.snapshot import Labels

__all__ = [
    "Counts",
    "Durations",
    "ExactCounts",
    "ExactDurations",
    "LogDurations",
    "RingCounts",
    "quantile",
]

SENT, RECEIVED, FAILED, WAITED, INPUT, OUTPUT = range(6)
"""The counters: four kinds of mark, and the tokens that came with them."""

SLOTS: Final = 240
"""Buckets per window: of 60 seconds, each is a quarter of one."""

_SLICES: Final = 6
# Relative error of a value read from a logarithmic bucket; 1 % leaves as much for the rank.
_ERROR: Final = 0.01
_LOG_GAMMA: Final = math.log((1 + _ERROR) / (1 - _ERROR))
_SHORTEST: Final = 1e-6
_LONGEST: Final = 1e6


Mark = tuple[int, int, Labels, int, int, float | None, float | None]
"""Kind, when, whose, input tokens, output tokens, and two durations that the kind gives a meaning."""

Row = tuple[int, ...]
"""One number for each counter."""
_NOTHING: Final[Row] = (0, 0, 0, 0, 0, 0)


class Counts(Protocol):
    """Sums of the window, one for each counter."""

    def take(self, marks: Iterable[Mark]) -> None:
        """Count marks; one from before the window is ignored."""

    def sums(self, now_ns: int) -> list[float]:
        """Return every counter's sum over the window that ends at `now_ns`."""

    def traffic(self, now_ns: int) -> tuple[float, float]:
        """Return the sums of what was sent and of all tokens, which are asked for in every call."""


class Durations(Protocol):
    """How often each duration occurred in the window."""

    def add(self, at_ns: int, seconds: float) -> None:
        """Note one duration that was measured at `at_ns`."""

    def histogram(self, now_ns: int) -> Mapping[float, int]:
        """Return seconds → occurrences over the window that ends at `now_ns`."""


class RingCounts:
    """The running sums of the window, and what of them fell into each of `SLOTS` buckets before the newest.

    Memory does not depend on the rate. The bucket that the window's start falls into counts by
    the part of it that lies inside, as if its events were spread evenly; the error is at most what
    happened in that one bucket (a 240th of the window), and below 1 % of the sum for steady traffic.
    """

    __slots__ = ("_before", "_begins_ns", "_ends_ns", "_past", "_resolution_ns", "_sums")

    def __init__(self, window_ns: int) -> None:
        self._resolution_ns = window_ns // SLOTS
        self._begins_ns = -self._resolution_ns
        """The newest bucket lasts from here ..."""
        self._ends_ns = 0
        """... to here, exclusive."""
        self._past: deque[Row] = deque([_NOTHING] * SLOTS)
        """The buckets before the newest; the oldest is partly outside of the window."""
        self._sums = [*_NOTHING]
        """Of the past and the newest bucket."""
        self._before = _NOTHING
        """The sums without the newest bucket."""

    def take(self, marks: Iterable[Mark]) -> None:
        """Add each to the bucket of its time, which nearly always is the newest."""
        sums = self._sums
        for kind, at_ns, _, input_tokens, output_tokens, _, _ in marks:
            if at_ns >= self._ends_ns:
                self._advance(at_ns)
            elif at_ns < self._begins_ns:
                self._take_late(at_ns, kind, input_tokens, output_tokens)
                continue
            sums[kind] += 1
            if input_tokens or output_tokens:
                sums[INPUT] += input_tokens
                sums[OUTPUT] += output_tokens

    def sums(self, now_ns: int) -> list[float]:
        """Return the running sums less the outer part of the oldest bucket."""
        if now_ns >= self._ends_ns:
            self._advance(now_ns)
        outside = self._outside(now_ns)
        return [total - outside * old for total, old in zip(self._sums, self._past[0], strict=True)]

    def traffic(self, now_ns: int) -> tuple[float, float]:
        """Do the same for two of the sums."""
        if now_ns >= self._ends_ns:
            self._advance(now_ns)
        sent, _, _, _, read, written = self._sums
        oldest = self._past[0]
        if oldest is _NOTHING:
            return sent, read + written
        outside = self._outside(now_ns)
        old_tokens = oldest[INPUT] + oldest[OUTPUT]
        return sent - outside * oldest[SENT], read + written - outside * old_tokens

    def _outside(self, now_ns: int) -> float:
        """Return which part of the oldest bucket the window that ends at `now_ns` has left."""
        # Not below 0 if another thread's mark came after `now_ns` was read.
        return max(now_ns - self._begins_ns, 0) / self._resolution_ns

    def _take_late(self, at_ns: int, kind: int, input_tokens: int, output_tokens: int) -> None:
        behind = -((at_ns - self._begins_ns) // self._resolution_ns)
        if behind > SLOTS:
            return
        late = [*_NOTHING]
        late[kind], late[INPUT], late[OUTPUT] = 1, input_tokens, output_tokens
        self._past[-behind] = tuple(map(add, self._past[-behind], late))
        self._before = tuple(map(add, self._before, late))
        self._sums[:] = map(add, self._sums, late)

    def _advance(self, at_ns: int) -> None:
        """Make the bucket of `at_ns` the newest."""
        passed = (at_ns - self._begins_ns) // self._resolution_ns
        past, sums = self._past, self._sums
        newest: Row = tuple(map(sub, sums, self._before))
        for _ in range(min(passed, SLOTS + 1)):
            past.append(newest)
            newest = _NOTHING
            left = past.popleft()
            if left is not _NOTHING:
                sums[:] = map(sub, sums, left)
        self._before = tuple(sums)
        self._begins_ns += passed * self._resolution_ns
        self._ends_ns = self._begins_ns + self._resolution_ns


class ExactCounts:
    """Every mark of the window in a deque: exact, and as large as the rate."""

    __slots__ = ("_marks", "_window_ns")

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._marks: deque[Mark] = deque()

    def take(self, marks: Iterable[Mark]) -> None:
        """Keep the marks, and drop those that the window has left."""
        self._marks.extend(marks)
        if self._marks:
            self._drop_old(self._marks[-1][1])

    def sums(self, now_ns: int) -> list[float]:
        """Add up what lies after the window's start."""
        self._drop_old(now_ns)
        sums: list[float] = [*_NOTHING]
        for kind, _, _, input_tokens, output_tokens, _, _ in self._marks:
            sums[kind] += 1
            sums[INPUT] += input_tokens
            sums[OUTPUT] += output_tokens
        return sums

    def traffic(self, now_ns: int) -> tuple[float, float]:
        """Add up two of the counters."""
        sums = self.sums(now_ns)
        return sums[SENT], sums[INPUT] + sums[OUTPUT]

    def _drop_old(self, now_ns: int) -> None:
        start_ns = now_ns - self._window_ns
        while self._marks and self._marks[0][1] <= start_ns:
            self._marks.popleft()


class LogDurations:
    """Histograms with logarithmic buckets, one for each sixth of the window.

    A value is off by at most 1 % between a microsecond and 11 days; shorter ones count as zero,
    longer ones as 11 days. A histogram holds at most 1,382 buckets whatever the rate.
    The window's start is exact to a sixth: what is read covers the last 100 to 117 % of it.
    The bucketing is DDSketch's (Masson et al., VLDB 2019).
    """

    __slots__ = ("_slice_ns", "_slices")

    def __init__(self, window_ns: int) -> None:
        self._slice_ns = window_ns // _SLICES
        self._slices: list[tuple[int, dict[int, int]]] = [(-1, {})] * (_SLICES + 1)

    def add(self, at_ns: int, seconds: float) -> None:
        """Count the bucket that `seconds` falls into."""
        number = at_ns // self._slice_ns
        stamp, buckets = self._slices[number % (_SLICES + 1)]
        if stamp != number:
            if stamp > number:
                return
            buckets = {}
            self._slices[number % (_SLICES + 1)] = (number, buckets)
        index = _bucket_of(seconds)
        buckets[index] = buckets.get(index, 0) + 1

    def histogram(self, now_ns: int) -> Mapping[float, int]:
        """Merge the slices that the window touches."""
        newest = now_ns // self._slice_ns
        merged: Counter[int] = Counter()
        for stamp, buckets in self._slices:
            if newest - _SLICES <= stamp <= newest and stamp >= 0:
                merged.update(buckets)
        return {_value_of(index): count for index, count in merged.items()}


class ExactDurations:
    """Every duration of the window in a deque."""

    __slots__ = ("_events", "_window_ns")

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._events: deque[tuple[int, float]] = deque()

    def add(self, at_ns: int, seconds: float) -> None:
        """Keep the duration, and drop those that the window has left."""
        self._events.append((at_ns, seconds))
        self._drop_old(at_ns)

    def histogram(self, now_ns: int) -> Mapping[float, int]:
        """Count equal durations."""
        self._drop_old(now_ns)
        return Counter(seconds for _, seconds in self._events)

    def _drop_old(self, now_ns: int) -> None:
        start_ns = now_ns - self._window_ns
        while self._events and self._events[0][0] <= start_ns:
            self._events.popleft()


def quantile(histogram: Mapping[float, int], shares: Iterable[float]) -> list[float]:
    """Return, for each share of 0 to 1, the value at that rank (nearest rank) of a non-empty one."""
    values = sorted(histogram)
    ranks, total = [], 0
    for value in values:
        total += histogram[value]
        ranks.append(total)
    wanted = (max(math.ceil(share * total), 1) for share in shares)
    return [values[bisect_right(ranks, rank - 1)] for rank in wanted]


_LOWEST = math.ceil(math.log(_SHORTEST) / _LOG_GAMMA)


def _bucket_of(seconds: float) -> int:
    """Return the bucket's number; the one below the lowest stands for zero."""
    if not seconds >= _SHORTEST:  # NaN as well: it must not raise in whoever sorts marks in
        return _LOWEST - 1
    return math.ceil(math.log(min(seconds, _LONGEST)) / _LOG_GAMMA)


def _value_of(index: int) -> float:
    """Return the value that is within the error of everything in the bucket."""
    if index < _LOWEST:
        return 0.0
    return math.exp(index * _LOG_GAMMA) * (1 - _ERROR)
