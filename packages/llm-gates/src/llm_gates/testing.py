"""Aids for tests of code that uses gates: a provider that counts like the vendors do and tells whom it refuses.

Time is whatever the caller passes, so that hours pass in none with `llm_core.testing.ManualClock`.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

__all__ = ["Referee"]


class Referee:
    """A provider's limit, judged call by call as it arrives.

    `kind` is how it counts: ``sliding`` (no more than `limit` in any window), ``bucket`` (a token bucket of that
    size) or ``fixed`` (from turn to turn). What it refuses does not count.
    """

    def __init__(
        self,
        limit: int,
        *,
        per_seconds: float = 60.0,
        kind: Literal["sliding", "bucket", "fixed"] = "sliding",
        mercy_seconds: float = 0.0,
    ) -> None:
        self.limit = limit
        self.accepted = 0
        self.refused = 0
        self._window = per_seconds - mercy_seconds
        self._kind = kind
        self._arrivals: deque[tuple[float, int]] = deque()
        self._used = 0.0
        self._at = 0.0

    def arrive(self, seconds: float, weight: int = 1) -> bool:
        """Judge a call that arrives at `seconds`, which never goes back; return whether it is accepted."""
        self._pass_time(seconds)
        if self._used + weight > self.limit + 1e-9:
            self.refused += 1
            return False
        self._used += weight
        if self._kind == "sliding":
            self._arrivals.append((seconds, weight))
        self.accepted += 1
        return True

    @property
    def remaining(self) -> int:
        """What is left of the limit, as a header would tell it."""
        return max(int(self.limit - self._used), 0)

    def _pass_time(self, seconds: float) -> None:
        if self._kind == "sliding":
            while self._arrivals and self._arrivals[0][0] <= seconds - self._window:
                self._used -= self._arrivals.popleft()[1]
        elif self._kind == "bucket":
            leaked = (seconds - self._at) * self.limit / self._window
            self._used = max(self._used - leaked, 0.0)
        elif seconds // self._window != self._at // self._window:
            self._used = 0.0
        self._at = seconds
