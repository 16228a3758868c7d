"""Sliding windows: counts and durations of the last minute, approximate in constant space or exact.

Times are monotonic nanoseconds; nothing here locks, which is the recorder's part.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

__all__ = [
    "Counts",
    "Durations",
    "ExactCounts",
    "ExactDurations",
    "LogDurations",
    "RingCounts",
    "quantile",
]

COUNTERS: Final = 5
"""Three kinds of event (numbered 0 to 2 by the recorder), input tokens, output tokens."""

_INPUT, _OUTPUT = 3, 4

SLOTS: Final = 240
"""Buckets per window: of 60 seconds, each is a quarter of one."""

_SLICES: Final = 6
# Relative error of a value read from a logarithmic bucket; 1 % leaves as much for the rank.
_ERROR: Final = 0.01
_LOG_GAMMA: Final = math.log((1 + _ERROR) / (1 - _ERROR))
_SHORTEST: Final = 1e-6
_LONGEST: Final = 1e6


Event = tuple[int, int, int, int]
"""When, of which kind, input tokens, output tokens."""


class Counts(Protocol):
    """Sums of the window, one for each counter."""

    def take(self, events: deque[Event]) -> None:
        """Take all events out of a queue and count them; one before the window is ignored."""

    def sums(self, now_ns: int) -> list[float]:
        """Return every counter's sum over the window that ends at `now_ns`."""


class Durations(Protocol):
    """How often each duration occurred in the window."""

    def add(self, at_ns: int, seconds: float) -> None:
        """Note one duration that was measured at `at_ns`."""

    def histogram(self, now_ns: int) -> Mapping[float, int]:
        """Return seconds → occurrences over the window that ends at `now_ns`."""


class RingCounts:
    """A ring of `SLOTS` buckets and their running sums.

    Memory does not depend on the rate. The bucket that the window's start falls into counts by
    the part of it that lies inside, as if its events were spread evenly; the error is at most what
    happened in that one bucket (a 240th of the window), and below 1 % of the sum for steady traffic.
    """

    __slots__ = ("_newest", "_resolution_ns", "_rows", "_sums")

    def __init__(self, window_ns: int) -> None:
        self._resolution_ns = window_ns // SLOTS
        # One more than the window holds: the oldest is partly outside.
        self._rows = [[0] * COUNTERS for _ in range(SLOTS + 1)]
        self._sums = [0] * COUNTERS
        self._newest = -1

    def take(self, events: deque[Event]) -> None:
        """Add the events of a queue, each to the bucket of its time."""
        sums = self._sums
        for _ in range(len(events)):
            at_ns, kind, input_tokens, output_tokens = events.popleft()
            slot = at_ns // self._resolution_ns
            if slot > self._newest:
                self._advance(slot)
            elif slot < self._newest - SLOTS:
                continue
            row = self._rows[slot % (SLOTS + 1)]
            row[kind] += 1
            sums[kind] += 1
            if input_tokens or output_tokens:
                row[_INPUT] += input_tokens
                sums[_INPUT] += input_tokens
                row[_OUTPUT] += output_tokens
                sums[_OUTPUT] += output_tokens

    def sums(self, now_ns: int) -> list[float]:
        """Return the running sums less the outer part of the oldest bucket."""
        slot, inside_ns = divmod(now_ns, self._resolution_ns)
        if slot > self._newest:
            self._advance(slot)
        elif slot < self._newest:  # another thread's event came after `now_ns` was read
            slot, inside_ns = self._newest, 0
        oldest = self._rows[(slot + 1) % (SLOTS + 1)]
        if not any(oldest):
            return [*self._sums]
        outside = inside_ns / self._resolution_ns
        return [total - outside * old for total, old in zip(self._sums, oldest, strict=True)]

    def _advance(self, slot: int) -> None:
        for passed in range(max(self._newest + 1, slot - SLOTS), slot + 1):
            row = self._rows[passed % (SLOTS + 1)]
            if any(row):
                for counter in range(COUNTERS):
                    self._sums[counter] -= row[counter]
                row[:] = [0] * COUNTERS
        self._newest = slot


class ExactCounts:
    """Every event of the window in a deque: exact, and as large as the rate."""

    __slots__ = ("_events", "_window_ns")

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._events: deque[Event] = deque()

    def take(self, events: deque[Event]) -> None:
        """Keep the events of a queue, and drop those that the window has left."""
        for _ in range(len(events)):
            self._events.append(events.popleft())
        if self._events:
            _drop_old(self._events, self._events[-1][0] - self._window_ns)

    def sums(self, now_ns: int) -> list[float]:
        """Add up what lies after the window's start."""
        _drop_old(self._events, now_ns - self._window_ns)
        sums = [0.0] * COUNTERS
        for _, kind, input_tokens, output_tokens in self._events:
            sums[kind] += 1
            sums[_INPUT] += input_tokens
            sums[_OUTPUT] += output_tokens
        return sums


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
        _drop_old(self._events, at_ns - self._window_ns)

    def histogram(self, now_ns: int) -> Mapping[float, int]:
        """Count equal durations."""
        _drop_old(self._events, now_ns - self._window_ns)
        return Counter(seconds for _, seconds in self._events)


def quantile(histogram: Mapping[float, int], shares: Iterable[float]) -> list[float]:
    """Return, for each share of 0 to 1, the value at that rank (nearest rank) of a non-empty one."""
    values = sorted(histogram)
    ranks, total = [], 0
    for value in values:
        total += histogram[value]
        ranks.append(total)
    wanted = (max(math.ceil(share * total), 1) for share in shares)
    return [values[bisect_right(ranks, rank - 1)] for rank in wanted]


def _drop_old(events: deque[Event] | deque[tuple[int, float]], start_ns: int) -> None:
    while events and events[0][0] <= start_ns:
        events.popleft()


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
