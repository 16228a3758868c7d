"""What a sync call brings to a standstill: the event loop of its thread, with every call that runs there.

Such a call must not wait for what the calls that stand still hold, as they hold it until it is over.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from llm_core import Gate, GateTimeout
from llm_core.later import asyncio
from llm_service.chained_gate import ChainedGate
from llm_service.in_flight import InFlight

__all__ = ["Standstill", "standstill"]

# More than the minute after which a rate limit lets the next one go.
_LONGEST_WAIT_SECONDS = 90.0
_ADVICE = (
    "it was made by a sync method inside a running event loop, which stands still meanwhile with the calls "
    "that hold the slots; await the async method there"
)


class Standstill:
    """The loops that stand still until a sync call is over."""

    __slots__ = ("_calls", "_loops")

    def __init__(self, loops: frozenset[asyncio.AbstractEventLoop], calls: InFlight) -> None:
        self._loops = loops
        self._calls = calls

    @classmethod
    def here(cls, calls: InFlight) -> Standstill | None:
        """Describe what a sync call in this thread stops, `calls` being those of its service; None for nothing."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        outer = standstill.get()
        return cls((outer._loops if outer else frozenset()) | {loop}, calls)

    @property
    def stops_calls(self) -> bool:
        """Whether any call of the service is among what stands still."""
        return any(task.get_loop() in self._loops for task in self._calls.tasks())

    def patience(self, gate: Gate) -> float | None:
        """Return how many seconds to wait at `gate` at most, None for as long as the call has.

        Raises GateTimeout if all slots are held by calls that stand still.
        """
        if not self.stops_calls:
            return None
        going_on = [task for task in self._calls.tasks() if task.get_loop() not in self._loops]
        # One of them is the call itself.
        if len(going_on) <= 1 and _is_full(gate):
            raise GateTimeout(f"the call would wait for ever: {_ADVICE}")
        return _LONGEST_WAIT_SECONDS


standstill: ContextVar[Standstill | None] = ContextVar("llm_service_standstill", default=None)
"""What waits until the call of this context is over; None for a call that stops nothing."""


def _is_full(gate: Any) -> bool:
    if isinstance(gate, ChainedGate):
        return any(map(_is_full, gate.gates))
    if not hasattr(gate, "snapshot"):
        return False
    slots = [limit for limit in gate.snapshot().limits if limit.window_seconds is None]
    return any(limit.metric == "requests" and limit.remaining <= 0 for limit in slots)
