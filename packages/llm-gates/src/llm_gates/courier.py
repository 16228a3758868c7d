"""The one thread of a process that speaks to Redis, and what it carries."""

from __future__ import annotations

import heapq
import importlib
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llm_core import GateTimeout, LLMError, MissingDependencyError, WaitError
from llm_gates.shared_limits import SharedLimit

__all__ = ["Courier", "RedisUnavailable", "Wish"]

_logger = logging.getLogger(__name__)

_MOST = 256
"""How many admissions one script call is asked for, so that it never keeps the server busy for long."""
_LINGER_SECONDS = 0.005
"""How long corrections wait for an admission to travel with."""
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""After which times a lost server is tried again; the last one for ever."""

# The life of a wish.
PENDING = 0
TRAVELLING = 1
DONE = 2
GONE = 3


class RedisUnavailable(WaitError):
    """The server that keeps the common limits does not answer, and the gate was told to fail then."""


class Wish:
    """One call that wants to go; `done` is called once, in the courier's thread, when it is decided."""

    __slots__ = (
        "costs",
        "deadline",
        "done",
        "due",
        "entries",
        "error",
        "lease",
        "local",
        "rank",
        "reserved",
        "state",
        "timeout",
        "waited_for",
    )

    def __init__(
        self,
        costs: tuple[int, ...],
        *,
        rank: int,
        timeout: float | None,
        done: Callable[[], None],
    ) -> None:
        self.costs = costs
        self.rank = rank
        self.timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.done = done
        self.lease = ""
        self.state = PENDING
        self.due = 0.0
        """When it may go, by `time.monotonic`."""
        self.reserved = 0.0
        """The earliest time at which it may be that the server expects it to go."""
        self.entries: list[int] = []
        self.error: LLMError | None = None
        self.local = False
        """Whether it is to be admitted by the local stand-in."""
        self.waited_for: str | None = None


class Courier:
    """Carries wishes, corrections and renewals; started by the first of them."""

    def __init__(
        self,
        client: Callable[[], Any],
        limits: list[SharedLimit],
        *,
        prefix: str,
        lease_seconds: float,
        horizon_seconds: float,
        local: bool,
    ) -> None:
        self.limits = limits
        self.round_trips = 0
        self.lost = False
        """Whether the server did not answer the last time."""
        self.held_until = 0.0
        self._make_client = client
        self._client: Any = None
        self._script: Any = None
        self._prefix = "{" + prefix + "}"
        self._process = uuid.uuid4().hex[:12]
        self._lease_seconds = lease_seconds
        self._horizon_us = round(horizon_seconds * 1e6)
        self._local = local
        longest = max((limit.life for limit in limits), default=0) / 1e6
        self._keep_ms = round(1_000 * (2 * longest + lease_seconds + 60))
        # Leaving later than this is told to the server, which then counts the call as later.
        guards = [limit.life - limit.window for limit in limits if limit.kind == "log"]
        self._tolerance_us = max(min(guards, default=0) // 2, 1_000)
        self._slots = [place for place, limit in enumerate(limits) if limit.kind == "slots"]
        self._ready = threading.Condition(threading.Lock())
        self._wishes: list[tuple[int, int, Wish]] = []
        self._patience: list[tuple[float, int, Wish]] = []
        self._waiting = 0
        self._corrections: list[list[Any]] = []
        self._leases: set[str] = set()
        self._order = itertools.count()
        self._ask_at = 0.0
        self._renew_at = 0.0
        self._failures = 0
        self._thread: threading.Thread | None = None
        self._listener: threading.Thread | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wishes are not decided."""
        return self._waiting

    @property
    def held(self) -> int:
        """How many leases this process holds."""
        return len(self._leases)

    def send(self, wish: Wish) -> None:
        """Take a wish to the server; its `done` is called when it is decided."""
        with self._ready:
            if self._closed:
                # The thread that would decide it has ended.
                self._settle_closed(wish)
                return
            heapq.heappush(self._wishes, (wish.rank, next(self._order), wish))
            self._waiting += 1
            # Who waits already knows when to ask; a newcomer behind them asks with them.
            if self._waiting == 1:
                self._ask_at = 0.0
            hurry = False
            if wish.deadline is not None:
                heapq.heappush(self._patience, (wish.deadline, next(self._order), wish))
                hurry = self._patience[0][2] is wish
            if self._waiting == 1 or hurry:
                self._ready.notify()
            self._start()

    def _settle_closed(self, wish: Wish) -> None:
        wish.state = DONE
        wish.error = RedisUnavailable("the gate was closed")
        wish.done()

    def give_up(self, wish: Wish) -> bool:
        """Forget a wish; return False if it was admitted already, so that it must be given back."""
        with self._ready:
            if wish.state == PENDING:
                wish.state = GONE
                self._waiting -= 1
                self._ready.notify()
                return True
            if wish.state == TRAVELLING:
                wish.state = GONE
                return True
            return wish.error is not None or wish.local

    def correct(self, place: int, entry: int, before: int, after: int) -> None:
        """Correct the weight of an admission with the next call."""
        with self._ready:
            self._corrections.append(["settle", place + 1, entry, before, after])
            self._ready.notify()

    def left(self, wish: Wish, now: float) -> None:
        """Note when an admitted call really left, if that was too late to be covered by the guard."""
        late_us = round((now - wish.reserved) * 1e6)
        if late_us > self._tolerance_us:
            with self._ready:
                for place, limit in enumerate(self.limits):
                    if limit.kind == "log":
                        self._corrections.append(["late", place + 1, wish.entries[place], late_us])
                self._ready.notify()

    def release(self, lease: str) -> None:
        """Give concurrency slots back with the next call."""
        with self._ready:
            self._release(lease)
            self._ready.notify()

    def _release(self, lease: str) -> None:
        self._leases.discard(lease)
        self._corrections += [["release", place + 1, lease] for place in self._slots]

    def wake(self) -> None:
        """Ask the server now."""
        with self._ready:
            self._ask_at = 0.0
            self._ready.notify()

    def close(self) -> None:
        """Carry what is left and stop; wishes that are not decided fail."""
        with self._ready:
            self._closed = True
            self._ready.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="llm-gates courier", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._ready:
                if not self._closed:
                    self._rest()
                closing = self._closed
                self._fail_late()
                batch, corrections = self._gather()
            if batch or corrections:
                self._travel(batch, corrections)
            if closing:
                self._end()
                return

    def _rest(self) -> None:
        """Wait until there is something to carry; the lock is held."""
        lingered = False
        while not self._closed:
            now = time.monotonic()
            times = [self._renew_at] if self._leases else []
            if self._waiting:
                times.append(max(self._ask_at, self.held_until))
                times += self._next_deadline()
            if self._corrections:
                if lingered or self._failures:
                    times.append(self._ask_at if self._failures else now)
                else:
                    times.append(now + _LINGER_SECONDS)
            seconds = min(times) - now if times else None
            if seconds is not None and seconds <= 0:
                return
            lingered = bool(self._corrections)
            self._ready.wait(seconds)

    def _next_deadline(self) -> list[float]:
        """Return the first deadline of a pending wish, if there is one."""
        patience = self._patience
        while patience and patience[0][2].state != PENDING:
            heapq.heappop(patience)
        return [patience[0][0]] if patience else []

    def _fail_late(self) -> None:
        now = time.monotonic()
        while (first := self._next_deadline()) and first[0] <= now:
            wish = heapq.heappop(self._patience)[2]
            self._decide(wish, self._timed_out(wish, None))

    def _timed_out(self, wish: Wish, wait_seconds: float | None) -> GateTimeout:
        more = "no answer in time" if wait_seconds is None else f"at least {wait_seconds:.3f} s"
        return GateTimeout(
            f"timeout: got {wish.timeout!r}, but the shared limits need {more}",
            retry_after=wait_seconds,
            details={"timeout": wish.timeout, "queued": self._waiting},
        )

    def _gather(self) -> tuple[list[Wish], list[list[Any]]]:
        """Take what the next call carries; the lock is held."""
        now = time.monotonic()
        batch: list[Wish] = []
        # What goes back may be just what somebody here waits for.
        may_ask = now >= self._ask_at or (bool(self._corrections) and not self._failures)
        if may_ask and now >= self.held_until:
            while self._wishes and len(batch) < _MOST:
                wish = heapq.heappop(self._wishes)[2]
                if wish.state == PENDING:
                    wish.state = TRAVELLING
                    self._waiting -= 1
                    batch.append(wish)
        if self._failures and now < self._ask_at:
            return batch, []
        corrections, self._corrections = self._corrections, []
        if self._leases and now >= self._renew_at - self._lease_seconds / 6:
            self._renew_at = now + self._lease_seconds / 3
            corrections += [
                ["renew", place + 1, lease] for lease in self._leases for place in self._slots
            ]
        return batch, corrections

    def _travel(self, batch: list[Wish], corrections: list[list[Any]]) -> None:
        words: list[Any] = [
            self._process,
            self._horizon_us,
            round(self._lease_seconds * 1e6),
            self._keep_ms,
            _MOST,
            len(self.limits),
        ]
        for limit in self.limits:
            words += limit.words
        words.append(len(corrections))
        for correction in corrections:
            words += correction
        words.append(len(batch))
        for wish in batch:
            wish.lease = f"{self._process}:{next(self._order)}" if self._slots else ""
            words += [wish.lease, *wish.costs]
        sent = time.monotonic()
        try:
            answer = self._call(words)
        except LLMError as error:
            with self._ready:
                for wish in batch:
                    self._settle_state(wish, error)
            return
        except Exception as error:  # noqa: BLE001 - whatever the client raises, no waiter may hang
            self._lose(batch, corrections, error)
            return
        self._found()
        self._deliver(batch, [int(word) for word in answer], sent)

    def _call(self, words: list[Any]) -> list[Any]:
        if self._client is None:
            self._client = self._make_client()
            source = Path(__file__).with_name("admit.lua").read_text("utf-8")
            self._script = self._client.register_script(source)
        self.round_trips += 1
        answer: list[Any] = self._script(keys=[self._prefix], args=words)
        return answer

    def _found(self) -> None:
        if self.lost:
            _logger.warning("Redis answers again: the limits of %s are shared", self._prefix)
        self.lost = False
        self._failures = 0

    def _lose(self, batch: list[Wish], corrections: list[list[Any]], error: Exception) -> None:
        with self._ready:
            if not self.lost:
                doing = "a local share of the limits" if self._local else "errors"
                _logger.warning(
                    "Redis does not answer (%s): %s until it does, for %s",
                    error,
                    doing,
                    self._prefix,
                )
            self.lost = True
            pause = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
            self._failures += 1
            self._ask_at = time.monotonic() + pause
            # Renewals are made anew; everything else is carried when the server is back.
            kept = [correction for correction in corrections if correction[0] != "renew"]
            self._corrections = kept[-10_000:] + self._corrections
            self._renew_at = self._ask_at
            pending = [wish for _, _, wish in self._wishes if wish.state == PENDING]
            for wish in [*batch, *pending]:
                self._stand_in(wish, error)

    def _stand_in(self, wish: Wish, error: Exception) -> None:
        if self._local:
            wish.local = True
            self._settle_state(wish, None)
        else:
            self._settle_state(wish, RedisUnavailable(f"Redis does not answer: {error}"))

    def refuse_at_once(self) -> LLMError | None:
        """Return the error for newcomers while the server is lost and not to be tried yet."""
        if self.lost and not self._local and time.monotonic() < self._ask_at:
            return RedisUnavailable("Redis does not answer")
        return None

    @property
    def stands_in(self) -> bool:
        """Whether newcomers are to be admitted locally for now."""
        return self.lost and self._local and time.monotonic() < self._ask_at

    def _deliver(self, batch: list[Wish], answer: list[int], sent: float) -> None:
        admitted, next_us, place = answer[:3]
        now = time.monotonic()
        width = 1 + len(self.limits)
        with self._ready:
            self._renew_at = self._renew_at if self._leases else now + self._lease_seconds / 3
            last_due = now
            for number, wish in enumerate(batch[:admitted]):
                delay_us, *entries = answer[3 + number * width : 3 + (number + 1) * width]
                wish.due = last_due = now + delay_us / 1e6
                wish.reserved = sent + delay_us / 1e6
                wish.entries = entries
                if wish.lease:
                    self._leases.add(wish.lease)
                if wish.state == GONE:
                    self._take_back(wish)
                    continue
                if delay_us:
                    wish.waited_for = wish.waited_for or self.limits[max(place - 1, 0)].name
                self._settle_state(wish, None)
            if next_us >= 0:
                wait_seconds = next_us / 1e6
                horizon = self._horizon_us / 1e6
                # Half a horizon before the next can go, so that its time is known when it comes.
                self._ask_at = max(now + wait_seconds - horizon / 2, (now + last_due) / 2)
                if not place or self.limits[place - 1].kind == "slots":
                    self._ask_at = now + wait_seconds
                self._put_back(batch[admitted:], wait_seconds, place)
                if wait_seconds > 2 * horizon:
                    self._listen()
            else:
                self._ask_at = 0.0

    def _put_back(self, batch: list[Wish], wait_seconds: float, place: int) -> None:
        limit = self.limits[max(place - 1, 0)]
        known = place > 0 and limit.kind != "slots"
        now = time.monotonic()
        for wish in batch:
            if wish.state != GONE:
                wish.state = PENDING
                wish.waited_for = limit.name
                self._waiting += 1
                # Older than all that came later, and in their own order: the rank alone does not say it.
                heapq.heappush(self._wishes, (wish.rank, next(self._order), wish))
        while known and (first := self._next_deadline()) and first[0] < now + wait_seconds:
            late = heapq.heappop(self._patience)[2]
            self._decide(late, self._timed_out(late, wait_seconds))

    def _take_back(self, wish: Wish) -> None:
        for place, limit in enumerate(self.limits):
            if limit.kind != "slots":
                entry, cost = wish.entries[place], wish.costs[place]
                self._corrections.append(["settle", place + 1, entry, cost, 0])
        if wish.lease:
            self._release(wish.lease)

    def take_back(self, wish: Wish) -> None:
        """Give everything of an admission back that was never used."""
        with self._ready:
            self._take_back(wish)
            self._ready.notify()

    def _decide(self, wish: Wish, error: LLMError | None) -> None:
        """Decide a pending wish; the lock is held."""
        self._waiting -= 1
        wish.state = TRAVELLING
        self._settle_state(wish, error)

    def _settle_state(self, wish: Wish, error: LLMError | None) -> None:
        if wish.state == GONE:
            return
        if wish.state == PENDING:
            self._waiting -= 1
        wish.state = DONE
        wish.error = error
        wish.done()

    def _listen(self) -> None:
        """Hear when another process gives something back; the lock is held."""
        if self._listener is None:
            self._listener = threading.Thread(
                target=self._hear, name="llm-gates listener", daemon=True
            )
            self._listener.start()

    def _hear(self) -> None:
        mail = f"{self._prefix}:mail:{self._process}"
        try:
            client = self._make_client()
            while self._wants_mail():
                if client.blpop([mail], timeout=0.5) is not None:
                    self.wake()
            client.close()
        except Exception as error:  # noqa: BLE001 - the courier finds out by itself and decides
            _logger.debug("the listener of %s ended: %s", self._prefix, error)
            with self._ready:
                self._listener = None

    def _wants_mail(self) -> bool:
        with self._ready:
            wanted = self._waiting > 0 and not self._closed and not self.lost
            if not wanted:
                self._listener = None
            return wanted

    def _end(self) -> None:
        with self._ready:
            for _, _, wish in self._wishes:
                if wish.state == PENDING:
                    self._decide(wish, RedisUnavailable("the gate was closed"))
        if self._client is not None:
            self._client.close()


def redis_client(url: str) -> Callable[[], Any]:
    """Return a maker of clients that never wait longer than a second; MissingDependencyError without redis."""
    try:
        redis = importlib.import_module("redis")
    except ImportError as error:
        raise MissingDependencyError(
            "redis is not installed; install the extra llm-gates[redis]"
        ) from error
    return partial(redis.Redis.from_url, url, socket_timeout=1.0, socket_connect_timeout=1.0)
