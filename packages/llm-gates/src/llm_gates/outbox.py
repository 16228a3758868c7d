"""What a process has to tell Redis of its calls, besides that new ones want to go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Outbox"]

_MOST = 2_000
"""How many corrections go in one script call, so that it never keeps the server busy for long."""
_MOST_KEPT = 50_000
"""How many are kept for a server that does not answer; the oldest are given up first."""


class Outbox:
    """Corrections in their order, and the leases that are held; everything happens under the courier's lock.

    Corrections that were sent and not answered may have been made: they are sent again alone, with the number that
    they had, by which the script knows them.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self.leases: dict[str, list[int]] = {}
        """The leases that this process holds, with the places of their limits."""
        self._notify = notify
        self._waiting: list[list[Any]] = []
        self._sent: list[list[Any]] = []
        self._number = 0

    def __len__(self) -> int:
        """Return how many corrections are to be carried."""
        return len(self._waiting) + len(self._sent)

    def change(self, kind: str, place: int, *facts: Any) -> None:
        """Carry a correction of a limit with the next call."""
        if len(self._waiting) >= _MOST_KEPT:
            del self._waiting[: _MOST_KEPT // 2]
        self._waiting.append([kind, place, *facts])
        self._notify()

    def release(self, lease: str) -> None:
        """Give concurrency slots back with the next call."""
        for place in self.leases.pop(lease, ()):
            self.change("release", place, lease)

    def take(self) -> tuple[int, list[list[Any]]]:
        """Return the number of a batch of corrections, and the batch."""
        if not self._sent and self._waiting:
            self._sent, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            self._number += 1
        return self._number, list(self._sent)

    def renewals(self) -> list[list[Any]]:
        """Return the corrections by which the leases live on."""
        return [
            ["renew", place, lease] for lease, places in self.leases.items() for place in places
        ]

    def answered(self) -> None:
        """Forget what was sent: it was heard."""
        self._sent = []
