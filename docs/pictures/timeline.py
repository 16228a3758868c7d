"""What a token gate does with six calls, observed on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from llm_core.testing import ManualClock
from llm_gates import TpmGate

LIMIT = 10_000
WINDOW_SECONDS = 60.0
SECONDS = 126


@dataclass(slots=True)
class Call:
    """One call; the times are seconds from the beginning, those of the gate filled in by `observe`."""

    name: str
    arrives: float
    reserved: int
    actual: int
    lasts: float
    admitted: float = 0.0
    settled: float = 0.0


def _calls() -> list[Call]:
    return [
        Call("A", 0, 3_000, 1_500, lasts=8),
        Call("B", 2, 3_000, 2_000, lasts=9),
        Call("C", 4, 3_000, 2_500, lasts=10),
        Call("D", 6, 3_000, 2_800, lasts=12),
        Call("E", 20, 4_000, 3_500, lasts=14),
        Call("F", 24, 1_000, 900, lasts=6),
    ]


async def observe() -> tuple[list[Call], list[tuple[float, int]]]:
    """Return the calls as the gate let them go, and the tokens it counted: (seconds, tokens) at each change."""
    clock = ManualClock()
    gate = TpmGate(LIMIT, per_seconds=WINDOW_SECONDS, guard_seconds=0, clock=clock)
    begin = clock.monotonic_ns()

    def now() -> float:
        return (clock.monotonic_ns() - begin) / 1e9

    async def make(call: Call) -> None:
        await clock.sleep(call.arrives)
        async with gate.admit(tokens=call.reserved) as permit:
            call.admitted = now()
            await clock.sleep(call.lasts)
            permit.settle(tokens=call.actual)
            call.settled = now()

    calls = _calls()
    tasks = [asyncio.create_task(make(call)) for call in calls]
    used: list[tuple[float, int]] = []
    while now() < SECONDS:
        await clock.run_for(0.5 if used else 0)
        counted = int(gate.snapshot().limits[0].used)
        if not used or used[-1][1] != counted:
            used.append((now(), counted))
    await asyncio.gather(*tasks)
    return calls, [*used, (SECONDS, used[-1][1])]
