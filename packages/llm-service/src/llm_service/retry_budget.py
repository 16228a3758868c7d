"""How many retries a provider may get: so that an outage is not amplified by everybody trying again."""

from __future__ import annotations

import threading

from llm_core import InvalidValue
from llm_core.forks import begin_anew_in_children

__all__ = ["RetryBudget"]


class RetryBudget:
    """The token scheme of gRPC's retry throttling (proposal A6): failures drain it, successes fill it slowly.

    It starts full. A retryable failure takes one token, a success gives `ratio` of one back;
    while half of the tokens or less are left, nothing is retried.
    So a few failures are retried at once, and in an outage retries fall to about `ratio` of the successes.
    Safe to use from any thread.
    """

    __slots__ = ("__weakref__", "_capacity", "_lock", "_ratio", "_tokens")

    def __init__(self, capacity: float = 100.0, *, ratio: float = 0.1) -> None:
        if not 0 < capacity < float("inf"):
            raise InvalidValue.of("capacity", capacity, "a number above 0")
        if not 0 < ratio <= 1:
            raise InvalidValue.of("ratio", ratio, "a number above 0, at most 1")
        self._capacity = capacity
        self._ratio = ratio
        self._tokens = capacity
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Wait for no other thread; a forked child keeps what its parent has left."""
        self._lock = threading.Lock()

    @property
    def allows_retry(self) -> bool:
        """Whether a failed call may be tried again now."""
        return self._tokens > self._capacity / 2

    def note_success(self) -> None:
        """Give back a part of a token."""
        if self._tokens >= self._capacity:
            return
        with self._lock:
            self._tokens = min(self._tokens + self._ratio, self._capacity)

    def note_failure(self) -> None:
        """Take a token for a failure that would be retried."""
        with self._lock:
            self._tokens = max(self._tokens - 1.0, 0.0)
