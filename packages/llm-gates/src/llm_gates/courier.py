"""The one thread of a process that speaks to Redis, and when it does."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from llm_core import GateTimeout, LLMError
from llm_gates.door import Door
from llm_gates.limits import Limit
from llm_gates.listener import Listener
from llm_gates.outbox import Outbox
from llm_gates.redis_script import Answer, RedisScript
from llm_gates.refusals import HOLD, timed_out, too_heavy
from llm_gates.shared_limits import shared_limit
from llm_gates.sharing import RedisUnavailable, Sharing
from llm_gates.wishes import DONE, GONE, PENDING, TRAVELLING, Wish, WishLine

__all__ = ["Courier"]

_logger = logging.getLogger(__name__)

_MOST = 256
"""How many admissions one script call is asked for, so that it never keeps the server busy for long."""
_LINGER_SECONDS = 0.005
"""How long corrections wait for an admission to travel with."""
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""After which times a lost server is tried again; the last one for ever."""
_IDLE_SECONDS = 10.0
"""After how much time without anything to do the thread ends and its connection is closed."""


class Courier:
    """Carries wishes, corrections and renewals; started by the first of them.

    Everything but `close` is for those who are inside the door. `decided` is called with every wish once it is decided,
    under the lock and mostly in the courier's thread: it has entries, or an error, or (where a local share stands in
    for a lost server) neither.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        sharing: Sharing,
        *,
        decided: Callable[[Wish], None],
    ) -> None:
        self.door = Door()
        self.line = WishLine()
        self.outbox = Outbox(self._stir)
        self.limits = [
            shared_limit(limit, place=place, outbox=self.outbox)
            for place, limit in enumerate(limits, 1)
        ]
        self.lost = False
        """Whether the server did not answer the last time."""
        self.held_until = 0.0
        self._bell = threading.Event()
        self._script = RedisScript(sharing.make_client, prefix=sharing.prefix)
        self._decided = decided
        self._lease_seconds = sharing.lease_seconds
        self._horizon_seconds = sharing.horizon_seconds
        self._local = sharing.stand_in is not None
        self._process = uuid.uuid4().hex[:12]
        longest = max((limit.life_us for limit in self.limits), default=0) / 1e6
        self._settings = [
            self._process,
            round(sharing.horizon_seconds * 1e6),
            round(sharing.lease_seconds * 1e6),
            round(1_000 * (2 * longest + sharing.lease_seconds + 60)),
            _MOST,
        ]
        # Leaving later than this is told to the server, which then counts the call as later.
        guards = [limit.guard_ns // 1_000 for limit in self.limits if limit.kind == "log"]
        self._tolerance_us = max(min(guards, default=0) // 2, 1_000)
        self._slots = [limit.place for limit in self.limits if limit.kind == "slots"]
        self._order = itertools.count()
        self._ask_at = 0.0
        self._carry_at = 0.0
        self._renew_at = 0.0
        self._wanted_at = 0.0
        self._nobody_before = 0.0
        self._blamed = ""
        self._failures = 0
        self._hold_untold = False
        self._thread: threading.Thread | None = None
        self._listener = Listener(
            self._script, self._process, self.door, wanted=self._wants_mail, heard=self._ask_now
        )
        self._closed = False
        self._ends_with_child = False

    def send(self, wish: Wish) -> None:
        """Take a wish to the server; RedisUnavailable if it is known not to answer."""
        self._wanted_at = time.monotonic()
        if self._closed:
            # The thread that would decide it has ended.
            raise RedisUnavailable("the gate was closed")
        if self._hopeless and not self._local:
            raise RedisUnavailable("Redis does not answer")
        self._check_patience(wish)
        if self.line.add(wish):
            # Who waits already knows when to ask; whoever comes behind them asks with them.
            if self.line.first is wish and not self._failures:
                self._ask_at = 0.0
            self._stir()

    def _check_patience(self, wish: Wish) -> None:
        """Raise GateTimeout if it is known that nobody leaves so soon."""
        now = self._wanted_at
        until, name = self._nobody_before, self._blamed
        if not self.line.waiting or self.line.goes_first(wish):
            until = 0.0
        if self.held_until > max(now, until):
            until, name = self.held_until, HOLD
        if until > now:
            wish.waited_for = name
            if wish.deadline is not None and wish.deadline < until:
                raise self._timed_out(wish, name, until - now)

    @property
    def round_trips(self) -> int:
        """How many script calls there were."""
        return self._script.round_trips

    @property
    def stands_in(self) -> bool:
        """Whether newcomers are to be admitted locally for now."""
        if not (self._local and self._hopeless):
            return False
        self._wanted_at = time.monotonic()
        return True

    @property
    def _hopeless(self) -> bool:
        """Whether the thread is trying to find the server again, so that nobody need wait for that."""
        return self.lost and self._thread is not None

    @property
    def idle(self) -> bool:
        """Whether nobody waits and there is nothing to carry."""
        return not (self.line.waiting or self.outbox or self.outbox.leases)

    def withdraw(self, wish: Wish) -> None:
        """Forget a wish; if it is granted all the same, it is given back."""
        if wish.state == DONE:
            self._take_back(wish)
        else:
            self.line.leave(wish, GONE)

    def left(self, wish: Wish) -> None:
        """Note that an admitted call leaves now, if that is too late to be covered by the guard."""
        late_us = round((time.monotonic() - wish.reserved) * 1e6)
        if late_us > self._tolerance_us:
            for limit, entry in zip(self.limits, wish.entries, strict=True):
                if limit.kind == "log":
                    self.outbox.change("late", limit.place, entry, late_us)

    def hold(self, seconds: float) -> None:
        """Admit nobody in any process for `seconds`; who cannot wait that long fails at once."""
        self.held_until = max(self.held_until, time.monotonic() + seconds)
        self._hold_untold = True
        for wish in self.line.impatient(self.held_until):
            self._fail(wish, self._timed_out(wish, HOLD, self.held_until - time.monotonic()))
        self._stir()

    def fail_heavier(self, place: int) -> None:
        """Fail those who have become too heavy for a limit that was lowered."""
        limit = self.limits[place - 1]
        for wish in self.line.heavier_than(place - 1, limit.capacity):
            self._fail(wish, too_heavy(limit, wish.permit.costs[place - 1]))

    def close(self) -> None:
        """Carry what is left and stop; wishes that are not decided fail."""
        with self.door:
            self._closed = True
            self._bell.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def abandon(self) -> None:
        """Do nothing any more: in a forked child there is no thread, and what is held belongs to the parent."""
        self._closed = True

    def _stir(self) -> None:
        """Wake the thread, or start it."""
        if self._closed:
            return
        self._bell.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="llm-gates courier", daemon=True)
            self._thread.start()
            self._close_with_child()

    def _close_with_child(self) -> None:
        """Carry what is left when a child of `multiprocessing` ends, which does without `atexit`."""
        process = sys.modules.get("multiprocessing.process")
        if self._ends_with_child or process is None or process.parent_process() is None:
            return
        self._ends_with_child = True
        from multiprocessing.util import Finalize

        Finalize(self, _close, args=[weakref.ref(self)], exitpriority=10)

    def _run(self) -> None:
        while True:
            with self.door:
                self._bell.clear()
                if self._closed:
                    break
                now = time.monotonic()
                seconds = self._next_time(now) - now
                if seconds <= 0:
                    probe = self.lost and now >= self._ask_at
                    wishes, batch = self._gather(now)
                    self._fail_late()
            if seconds <= 0:
                if wishes or batch[1] or probe:
                    self._travel(wishes, batch)
            elif not self._bell.wait(min(seconds, _IDLE_SECONDS)) and seconds > _IDLE_SECONDS:
                with self.door:
                    if not self._bell.is_set():
                        self._rest()
                        return
        self._end()

    def _rest(self) -> None:
        """End the thread; the next wish or correction starts another."""
        self._script.disconnect()
        self._thread = None

    def _next_time(self, now: float) -> float:
        """Return when there is something to do next."""
        times = [now + 2 * _IDLE_SECONDS]
        if self.outbox.leases:
            times.append(max(self._renew_at, self._ask_at if self._failures else 0.0))
        if self.line.waiting:
            times.append(max(self._ask_at, self.held_until))
            if (deadline := self.line.next_deadline()) is not None:
                times.append(deadline)
        if self.outbox or self._hold_untold:
            self._carry_at = self._carry_at or now + _LINGER_SECONDS
            times.append(self._ask_at if self._failures else self._carry_at)
        if self.lost and now < self._wanted_at + _IDLE_SECONDS:
            times.append(self._ask_at)
        return min(times)

    def _gather(self, now: float) -> tuple[list[Wish], tuple[int, list[list[Any]]]]:
        """Take what the next call carries."""
        if self._failures and now < self._ask_at:
            return [], (0, [])
        wishes: list[Wish] = []
        # What goes back may be just what somebody here waits for.
        if (now >= self._ask_at or self.outbox) and now >= self.held_until:
            wishes = self.line.take(_MOST)
        self._carry_at = 0.0
        number, corrections = self.outbox.take()
        if self.outbox.leases and now >= self._renew_at - self._lease_seconds / 6:
            self._renew_at = now + self._lease_seconds / 3
            corrections += self.outbox.renewals()
        if self._hold_untold:
            corrections.append(["hold", 0, max(round((self.held_until - now) * 1e6), 0)])
            self._hold_untold = False
        return wishes, (number, corrections)

    def _travel(self, wishes: list[Wish], batch: tuple[int, list[list[Any]]]) -> None:
        for wish in wishes:
            wish.lease = f"{self._process}:{next(self._order)}" if self._slots else ""
        sent = time.monotonic()
        try:
            answer = self._script.call(self._settings, self.limits, batch, wishes)
        except Exception as error:  # noqa: BLE001 - whatever the client raises, no waiter may hang
            self._lose(wishes, error)
            return
        with self.door:
            self._found()
            self._deliver(wishes, answer, sent)

    def _found(self) -> None:
        if self.lost:
            _logger.warning("Redis answers again: the limits of %s are shared", self._script.prefix)
        self.lost = False
        self._failures = 0
        self.outbox.answered()

    def _lose(self, wishes: list[Wish], error: Exception) -> None:
        with self.door:
            if not self.lost:
                doing = "a local share of the limits" if self._local else "errors"
                text = "Redis does not answer (%s): %s until it does, for %s"
                _logger.warning(text, error, doing, self._script.prefix)
            self.lost = True
            pause = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
            self._failures += 1
            now = time.monotonic()
            self._ask_at = self._renew_at = now + pause
            self._hold_untold = self.held_until > now
            for wish in [*wishes, *self.line.pending()]:
                if self._local:
                    self._decide(wish)
                else:
                    self._fail(wish, RedisUnavailable(f"Redis does not answer: {error}"))
        # The next call goes to whoever answers to the name then.
        self._script.disconnect()

    def _deliver(self, wishes: list[Wish], answer: Answer, sent: float) -> None:
        now = time.monotonic()
        self.held_until = max(self.held_until, now + answer.held_us / 1e6)
        if answer.forgotten or not self.outbox.leases:
            # A server that has lost its memory is told at once what is held.
            self._renew_at = now + (0 if self.outbox.leases else self._lease_seconds / 3)
        lowered = []
        for limit, facts in zip(self.limits, answer.limits, strict=True):
            before = limit.capacity
            limit.learn(*facts)
            if limit.capacity < before:
                lowered.append(limit.place)
        last_due = now
        for wish, granted in zip(wishes, answer.granted, strict=False):
            last_due = now + granted[0] / 1e6
            self._grant(wish, granted, sent, now, answer.place)
        self.line.put_back(wishes[len(answer.granted) :])
        for place in lowered:
            self.fail_heavier(place)
        self._ask_at = 0.0
        if answer.next_us >= 0:
            self._wait_for(answer, now, last_due)

    def _grant(self, wish: Wish, granted: list[int], sent: float, now: float, place: int) -> None:
        delay_us, *wish.entries = granted
        wish.due = now + delay_us / 1e6
        wish.reserved = sent + delay_us / 1e6
        if wish.lease:
            self.outbox.leases[wish.lease] = self._slots
        if wish.state == GONE:
            self._take_back(wish)
        elif delay_us and wish.deadline is not None and wish.due > wish.deadline:
            self._take_back(wish)
            self._fail(wish, self._timed_out(wish, self._name(place), delay_us / 1e6))
        else:
            if delay_us:
                wish.waited_for = wish.waited_for or self._name(place)
            self._decide(wish)

    def _wait_for(self, answer: Answer, now: float, last_due: float) -> None:
        """Work out when to ask again, and fail those who cannot wait that long."""
        wait_seconds = answer.next_us / 1e6
        name = self._name(answer.place)
        for wish in self.line.pending():
            wish.waited_for = name
        if answer.place == 0 or (answer.place > 0 and self.limits[answer.place - 1].holds):
            # Somebody may make room at any time.
            self._ask_at = now + wait_seconds
            self._nobody_before = 0.0
        else:
            self._nobody_before, self._blamed = now + wait_seconds, name
            # Half a horizon before the next can go, so that its time is known when it comes.
            half = self._horizon_seconds / 2
            self._ask_at = max(now + wait_seconds - half, (now + last_due) / 2)
            for wish in self.line.impatient(now + wait_seconds):
                self._fail(wish, self._timed_out(wish, name, wait_seconds))
        if wait_seconds > 2 * self._horizon_seconds and self.line.waiting:
            self._listener.listen()

    def _name(self, place: int) -> str:
        return HOLD if place < 0 else self.limits[max(place - 1, 0)].name

    def _fail_late(self) -> None:
        for wish in self.line.impatient(time.monotonic()):
            self._fail(wish, self._timed_out(wish, wish.waited_for or self._name(0), 0.0))

    def _timed_out(self, wish: Wish, name: str, wait_seconds: float) -> GateTimeout:
        return timed_out(wish.permit.timeout, name, wait_seconds, self.line.waiting)

    def _take_back(self, wish: Wish) -> None:
        """Give back everything of an admission that was never used."""
        for limit, entry, cost in zip(self.limits, wish.entries, wish.permit.costs, strict=True):
            limit.settle(entry, cost, 0, 0)
        self.outbox.release(wish.lease)

    def _fail(self, wish: Wish, error: LLMError) -> None:
        wish.error = error
        self._decide(wish)

    def _decide(self, wish: Wish) -> None:
        if wish.state in (PENDING, TRAVELLING):
            self.line.leave(wish, DONE)
            self._decided(wish)

    def _wants_mail(self) -> bool:
        return self.line.waiting > 0 and not self._closed and not self.lost

    def _ask_now(self) -> None:
        self._ask_at = 0.0
        self._stir()

    def _end(self) -> None:
        """Carry what is left of a gate that was closed, and refuse who waits."""
        with self.door:
            batch = self.outbox.take()
        while batch[1] and not self.lost:
            self._travel([], batch)
            with self.door:
                batch = self.outbox.take()
        with self.door:
            self._rest()
            for wish in self.line.pending():
                self._fail(wish, RedisUnavailable("the gate was closed"))


def _close(reference: weakref.ref[Courier]) -> None:
    if (courier := reference()) is not None:
        courier.close()
