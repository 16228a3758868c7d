"""What the provider's headers tell about a limit, and what others use of it.

A header is the state of the limit at the moment in which the provider counted the call that it belongs to. What we
ourselves had sent by then is known; the rest was used by somebody else, and stays free for them in our own books: what
of it expires is replaced by what they send next. Every further header corrects it, and between two headers some more
stays free, because others do not go on evenly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from llm_core import RateLimitFacts, RateLimitWindow
from llm_gates.bucket import TokenBucket
from llm_gates.fixed_window import FixedWindow
from llm_gates.limits import NEVER, UNLIMITED, Limit, Metric
from llm_gates.sent import Note, Sent
from llm_gates.sliding_log import SlidingLog

__all__ = ["Feedback", "LaneFeedback"]

_DEVIATIONS = 2.0
"""How many standard deviations of the others' random use stay free; 2 cover 97.7 % of the cases."""
_MOST_MARKS = 4_096
"""How many of our calls the books on a token bucket remember."""
_LATEST_NS = 3_600_000_000_000
"""How late a reply may be whose headers are compared with what we had sent; two windows if these are shorter."""
_LOOKS = 1_024
"""How many headers of a window are looked at although they agree with our books, while nobody else uses the limit.

That is one every 59 ms of a minute; what they could tell is what others did meanwhile while our own calls were under way.
"""
_FACT_OF = {
    Metric.REQUESTS: attrgetter("requests"),
    Metric.TOKENS: attrgetter("tokens"),
    Metric.INPUT_TOKENS: attrgetter("input_tokens"),
    Metric.OUTPUT_TOKENS: attrgetter("output_tokens"),
}
"""Which part of the headers speaks of what a limit counts."""


class ForeignUse:
    """The books on one limit: what we sent, and what others must have sent."""

    def __init__(self, limit: Limit, sent_between: Callable[[int, int], int]) -> None:
        self.limit = limit
        self._sent_between = sent_between
        self.wanted = limit.capacity
        """The limit that the user has set."""
        assert limit.window_ns is not None
        self._window = limit.window_ns
        self._slides = not isinstance(limit, FixedWindow)
        self.foreign = 0
        """What others had used of the window when the provider last told."""
        self.alone = True
        """Whether that was nothing."""
        self._size = 1.0
        """How much a call of others weighs, about."""
        self._seen_at = 0
        self._age = 0.0
        """How old headers are when they come, on average."""
        self._fresh_until = NEVER
        self._kept: list[Any] | None = None
        """``[time, amount, entry in the limit]`` of what is kept free for others."""

    def note(self, now: int, cost: int) -> None:
        """Keep more free after a pause, in which others may have gone on, until the first reply tells."""
        if now > self._fresh_until:
            self._keep_free(now)

    def correct(self, left: int, change: int) -> None:
        """Do nothing: what counts is in the sums."""

    def _note_fresh(self, now: int) -> None:
        """Note until when the latest header says enough."""
        self._fresh_until = now + round(2 * self._age) + self._window // 100

    def observe(self, now: int, seen_at: int, blur: int, window: RateLimitWindow) -> None:
        """Compare our books with what the provider had counted when a call that left at `seen_at` came to it.

        Calls that left within `blur` of each other may have come in another order, so that what was ours, and with
        it what others used, is only known between two bounds.
        """
        told, remaining = window.limit, window.remaining
        if told is None or remaining is None or seen_at < self._seen_at:
            return
        # If we were given less than the whole limit, others may use the difference without harm.
        capacity = self.limit.capacity
        used = (told if told < capacity else capacity) - remaining
        began = seen_at - self._window if self._slides else self._began(now, seen_at, window)
        foreign = self.foreign
        most_ours = self._sent_between(began - blur, seen_at + blur)
        if used - most_ours > foreign:
            foreign = used - most_ours
        if foreign:
            least_ours = max(self._sent_between(began + blur, seen_at - blur), 0)
            foreign = min(foreign, max(used - least_ours, 0))
            if foreign > self.foreign:
                self._size += 0.05 * (foreign - self.foreign - self._size)
            self.foreign = foreign
            self.alone = not foreign
        self._seen_at = seen_at
        self._age += 0.1 * (now - seen_at - self._age)
        if foreign or (self._kept is not None and self._kept[1]):
            self._keep_free(now)
        else:  # nobody else is there, as for most
            self._note_fresh(now)

    def _began(self, now: int, seen_at: int, window: RateLimitWindow) -> int:
        """Return the moment before the fixed window that `seen_at` was in."""
        assert isinstance(self.limit, FixedWindow)
        if window.reset_seconds is not None:
            self.limit.turn_at(now, window.reset_seconds)
        return self.limit.began_at(now) - 1

    def _expected(self, now: int) -> int:
        """Return what others use, and what chance may add to it until the next header comes.

        What comes and what expires are two independent counts of `foreign` per window each, so that in a time t
        their difference has the variance 2 x foreign x size x t / window.
        """
        age = min(now - self._seen_at + self._age, self._window)
        variance = 2 * self.foreign * max(self._size, 1.0) * age / self._window
        chance = math.ceil(_DEVIATIONS * math.sqrt(variance))
        return min(self.foreign + chance, int(self.limit.capacity) - 1)

    def _keep_free(self, now: int) -> None:
        """Keep free what others are expected to use."""
        amount = self._expected(now) if self.foreign else 0
        self._note_fresh(now)
        kept = self._kept
        if kept is not None and now - kept[0] < self._window // 4:
            self.limit.settle(kept[2], kept[1], amount, now)
            kept[1] = amount
            return
        if kept is not None:
            self.limit.settle(kept[2], kept[1], 0, now)
        self._kept = [now, amount, self.limit.charge_foreign(now, amount)] if amount else None


class BucketUse:
    """The books on a token bucket: its level at the time of every call, to be compared with the provider's."""

    alone = False
    """Its level tells of no single use, so that every header is looked at."""

    def __init__(self, limit: TokenBucket) -> None:
        self.limit = limit
        self.wanted = limit.capacity
        """The limit that the user has set."""
        self._marks: deque[list[Any]] = deque(maxlen=_MOST_MARKS)
        """``[time, debt with that call, idleness, weight of the call]``."""
        self._seen_at: int | None = None
        self._rate = 0.0
        """What others use in a nanosecond."""

    def note(self, now: int, cost: int) -> None:
        """Note a call of ours that leaves now and is in the debt already."""
        self._marks.append([now, *self.limit.level(now), cost])

    def correct(self, left: int, change: int) -> None:
        """Note that a call of ours that left at `left` weighs `change` more than was noted then."""
        assert self.limit.window_ns is not None
        found = False
        for mark in self._marks:
            if mark[0] >= left:
                mark[1] = max(mark[1] + change * self.limit.window_ns, 0)
                if not found:
                    found = True
                    mark[3] += change

    def observe(self, now: int, seen_at: int, blur: int, window: RateLimitWindow) -> None:
        """Set the level to what the provider had at `seen_at`, and what has happened since."""
        if window.limit is None or window.remaining is None:
            return
        spare = max(window.limit - self.limit.capacity, 0)
        debt = max(window.limit - window.remaining - spare, 0)
        before = [mark for mark in self._marks if mark[0] <= seen_at]
        if not before:
            return
        stamped, level, idle, _ = before[-1]
        then, idle = self.limit.leaked(level, idle, seen_at - stamped)
        # A header tells whole units, rounded down.
        change = debt - math.ceil(then)
        if change < 0:
            # What left close to it may have come after it, and is then no reason to believe in more room.
            near = sum(mark[3] for mark in self._marks if abs(mark[0] - seen_at) <= blur)
            change = min(change + near, 0)
        self._keep_free(now, seen_at, change)
        if change == 0:
            return
        self.limit.settle((seen_at, idle), max(-change, 0), max(change, 0), now)
        for mark in self._marks:
            if mark[0] >= stamped:
                mark[1] = max(mark[1] + change * self.limit.window_ns, 0)

    def _keep_free(self, now: int, seen_at: int, change: int) -> None:
        """Keep free what others are expected to use, and chance may add, while a header is on its way."""
        if self._seen_at is not None and seen_at > self._seen_at:
            span = seen_at - self._seen_at
            assert self.limit.window_ns is not None
            weight = -math.expm1(-span / self.limit.window_ns)
            self._rate = max(self._rate + weight * (change / span - self._rate), 0.0)
        self._seen_at = max(seen_at, self._seen_at or 0)
        expected = self._rate * (now - seen_at)
        self.limit.margin = math.ceil(expected + _DEVIATIONS * math.sqrt(expected))


Book = ForeignUse | BucketUse
News = tuple[Book, RateLimitWindow]


class Feedback(Sent):
    """The books on all limits of a queue; made by the first header."""

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        super().__init__()
        self._books: list[tuple[int, Book]] = []
        for place, limit in enumerate(limits):
            if isinstance(limit, TokenBucket):
                self._books.append((place, BucketUse(limit)))
            elif isinstance(limit, (SlidingLog, FixedWindow)) and limit.metric < Metric.COST:
                window_ns = limit.window_ns or 0
                self._keep_ns = max(self._keep_ns, window_ns + min(2 * window_ns, _LATEST_NS))
                counts = limit.metric == Metric.REQUESTS
                ours = self.requests_between if counts else self._weigh(place).between
                self._books.append((place, ForeignUse(limit, ours)))
        by_metric: dict[Metric, list[Book]] = {}
        for _, book in self._books:
            by_metric.setdefault(book.limit.metric, []).append(book)
        self._told = [
            (_FACT_OF[metric], books[0], books if len(books) > 1 else ())
            for metric, books in by_metric.items()
        ]
        """What reads a part of the headers, the book that it speaks of, and all it may speak of if that is not one."""
        windows = [book.limit.window_ns or 0 for _, book in self._books]
        self._pause_ns = min(windows, default=0) // _LOOKS
        self._next_look = 0
        self._listen_to_calls()

    def news(self, now: int, facts: RateLimitFacts, left: int | None) -> list[News]:
        """Return what the headers of a reply say that has to be compared with the books.

        Little of it where nobody else uses the limits: what agrees is looked at now and then only. `left` is when
        the call left, if that is known. Needs no lock: a number that changes meanwhile was right a moment ago.
        """
        early = (now - self.mean_ns if left is None else left) < self._next_look
        found: list[News] = []
        for fact_of, book, rivals in self._told:
            window = fact_of(facts)
            if window is None:
                continue
            if rivals:
                book = _meant(rivals, window)
            if book.wanted >= UNLIMITED:  # there for what was sent, and no limit yet
                continue
            limit, remaining = book.limit, window.remaining
            if early and remaining is not None and remaining >= limit.capacity - limit.used:
                continue
            found.append((book, window))
        return found

    def observe(self, now: int, news: list[News], left: int | None) -> Sequence[Limit]:
        """Compare the books with what a reply told; return the limits that are lower now."""
        seen_at, doubt = left, 0
        if seen_at is None:
            seen_at, doubt = now - self.mean_ns, self.mean_ns // 2
        alone = True
        lowered: list[Limit] = []
        for book, window in news:
            limit = book.limit
            if window.limit:
                # Never above what the user has set, and back to it when the provider allows it again.
                capacity = min(window.limit, book.wanted)
                if capacity != limit.capacity:
                    if capacity < limit.capacity:
                        lowered.append(limit)
                    limit.set_capacity(capacity)
            book.observe(now, seen_at, limit.guard_ns + doubt, window)
            alone = alone and book.alone
        if alone and seen_at >= self._next_look:
            self._next_look = seen_at + self._pause_ns
        self._listen_to_calls()
        return lowered

    def _listen_to_calls(self) -> None:
        """Let the books that speak of others know of each call at once."""
        self._listen([(place, book) for place, book in self._books if not book.alone])

    def anew(self, limits: tuple[Limit, ...]) -> Feedback:
        """Return new books on the twins of the limits, in a forked child; what the user has set stays known."""
        twin = Feedback(limits)
        for (_, old), (_, new) in zip(self._books, twin._books, strict=True):
            new.wanted = old.wanted
        return twin

    def want(self, limit: Limit, capacity: int) -> None:
        """Note that the user changed a limit."""
        for _, book in self._books:
            if book.limit is limit:
                book.wanted = capacity


def _meant(books: Sequence[Book], window: RateLimitWindow) -> Book:
    """Return the one that a header speaks of: of the limit of its size, else of the longest that is one."""
    exact = [book for book in books if book.limit.capacity == window.limit]
    limited = [book for book in books if book.wanted < UNLIMITED] or books
    return exact[0] if exact else max(limited, key=lambda book: book.limit.window_ns or 0)


class LaneFeedback:
    """The common books as one lane sees them, whose own limits stand before the common ones."""

    __slots__ = ("_books", "_first")

    def __init__(self, books: Feedback, first: int) -> None:
        self._books = books
        self._first = first

    def note(self, now: int, costs: Sequence[Any]) -> Note:
        """Note a call that leaves now."""
        return self._books.note(now, costs[self._first :])

    def ended(self, now: int, note: Note) -> None:
        """Learn how long calls take."""
        self._books.ended(now, note)

    def correct(self, note: Note, before: Sequence[Any], after: Sequence[Any]) -> None:
        """Note what a call really weighs."""
        self._books.correct(note, before[self._first :], after[self._first :])

    def forget(self, note: Note, costs: Sequence[Any]) -> None:
        """Forget a call that was never sent."""
        self._books.forget(note, costs[self._first :])

    def news(self, now: int, facts: RateLimitFacts, left: int | None) -> list[News]:
        """Return what of the headers of a reply has to be compared with the common books."""
        return self._books.news(now, facts, left)

    def observe(self, now: int, news: list[News], left: int | None) -> Sequence[Limit]:
        """Compare the common books with what a reply told; return the limits that are lower now."""
        return self._books.observe(now, news, left)

    def want(self, limit: Limit, capacity: int) -> None:
        """Note that the user changed a limit."""
        self._books.want(limit, capacity)
