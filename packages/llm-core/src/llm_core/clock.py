"""The system's clock behind the `Clock` interface."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from llm_core.later import asyncio

__all__ = ["SystemClock"]


class SystemClock:
    """Real time.

    `time.monotonic_ns` for durations, UTC wall time for dates, `asyncio.sleep` for waiting.
    """

    __slots__ = ()

    # A static method, so that reading the clock costs no Python frame.
    monotonic_ns = staticmethod(time.monotonic_ns)

    def now(self) -> datetime:
        """Return the wall-clock time, timezone-aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Suspend the current task for `seconds`; zero or less yields once to the event loop."""
        await asyncio.sleep(max(seconds, 0.0))
