"""What we have sent: when our calls left, and what they weigh."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

__all__ = ["Listener", "Note", "Sent", "Weights"]

Note = tuple[int, int]
"""What a call is remembered by: its number, counted from the first call ever, and the time it left."""

_TRIM_EVERY = 4_096


class Listener(Protocol):
    """Who has to know of a call at once, and not only of sums later."""

    def note(self, now: int, cost: int) -> None:
        """Learn that a call leaves now."""

    def correct(self, left: int, change: int) -> None:
        """Learn that a call that left at `left` weighs `change` more than was noted then."""


class Weights:
    """What our calls weigh on one limit; sums are brought up to date when somebody asks for one."""

    __slots__ = ("_stamps", "_sums", "each", "place", "right")

    def __init__(self, stamps: list[int], place: int) -> None:
        self._stamps = stamps
        # What had been sent before each call, and at the end what with all of them.
        self._sums = [0]
        self.place = place
        """The place of the limit among the weights of a call."""
        self.each: list[int] = []
        """What the call of the same place among the stamps weighs."""
        self.right = 0
        """How many calls from the first one on are in the sums as they weigh now."""

    def between(self, since: int, until: int) -> int:
        """Return what we sent after `since` and not after `until`; below 0 if that is before."""
        if self.right < len(self.each):
            self._sum_up()
        return (
            self._sums[bisect_right(self._stamps, until)]
            - (self._sums[bisect_right(self._stamps, since)])
        )

    def _sum_up(self) -> None:
        right, sums = self.right, self._sums
        sums[right:] = accumulate(self.each[right:], initial=sums[right])
        self.right = len(self.each)

    def forget(self, count: int) -> None:
        """Forget the oldest calls."""
        self._sum_up()
        del self.each[:count], self._sums[:count]
        self.right -= count


class Sent:
    """The calls that left in the last while.

    To note one is cheap, because it happens with every call; the work is done when somebody asks.
    """

    def __init__(self) -> None:
        # For how long a call is remembered at least.
        self._keep_ns = 0
        self._stamps: list[int] = []
        self._forgotten = 0
        # When those left that were taken back later; of requests there is nothing else to correct.
        self._unsent: list[int] = []
        self._weights: tuple[Weights, ...] = ()
        self._listeners: Sequence[tuple[int, Listener]] = ()
        self._trim_at = _TRIM_EVERY
        # The number of the call from which on there is more to do than to write it down.
        self._plain_until = _TRIM_EVERY
        self.mean_ns = 0
        """How long calls take, on average."""

    def _weigh(self, place: int) -> Weights:
        """Remember what the calls that will come weigh at this place of their weights."""
        weights = Weights(self._stamps, place)
        self._weights += (weights,)
        return weights

    def requests_between(self, since: int, until: int) -> int:
        """Return how many calls left after `since` and not after `until`; below 0 if that is before."""
        left = bisect_right(self._stamps, until) - bisect_right(self._stamps, since)
        return left - bisect_right(self._unsent, until) + bisect_right(self._unsent, since)

    def note(self, now: int, costs: Sequence[Any]) -> Note:
        """Note a call that leaves now."""
        stamps = self._stamps
        number = self._forgotten + len(stamps)
        stamps.append(now)
        for weights in self._weights:
            weights.each.append(costs[weights.place])
        if number >= self._plain_until:
            self._note_more(now, costs)
        return number, now

    def _note_more(self, now: int, costs: Sequence[Any]) -> None:
        for place, listener in self._listeners:
            listener.note(now, costs[place])
        if len(self._stamps) >= self._trim_at:
            self._forget_before(now - self._keep_ns)
            self._trim_at = len(self._stamps) + _TRIM_EVERY
            self._listen(self._listeners)

    def _listen(self, listeners: Sequence[tuple[int, Listener]]) -> None:
        """Tell those of each call from now on; the number is the place of what concerns them among its weights."""
        self._listeners = listeners
        self._plain_until = -1 if listeners else self._forgotten + self._trim_at

    def ended(self, now: int, note: Note) -> None:
        """Learn how long calls take, which is how old a header is whose call nobody names."""
        self.mean_ns += (now - note[1] - self.mean_ns) // 10

    def correct(self, note: Note, before: Sequence[Any], after: Sequence[Any]) -> None:
        """Note what a call really weighs."""
        number, left = note
        at = number - self._forgotten
        if at >= 0:
            for weights in self._weights:
                weights.each[at] = after[weights.place]
                if at < weights.right:
                    weights.right = at
        for place, listener in self._listeners:
            if change := after[place] - before[place]:
                listener.correct(left, change)

    def forget(self, note: Note, costs: Sequence[Any]) -> None:
        """Forget a call that was never sent."""
        self.correct(note, costs, [0] * len(costs))
        insort(self._unsent, note[1])

    def _forget_before(self, time: int) -> None:
        old = bisect_right(self._stamps, time)
        if not old:
            return
        for weights in self._weights:
            weights.forget(old)
        del self._stamps[:old], self._unsent[: bisect_right(self._unsent, time)]
        self._forgotten += old
