"""What five steps add to their functions, and whether the time for long texts grows no faster than they do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Measured, take_turns

from llm_pipeline import Pipeline, convert

BY_HAND = "functions by hand"
CALLS = 200

_TEXT = json.dumps({"city": "Bern", "zip": "3000", "tags": ["capital", "old town"]})


def _city(data: dict[str, Any]) -> str:
    return str(data["city"])


_FUNCTIONS: list[Callable[[Any], Any]] = [str.strip, json.loads, _city, str.upper, len]


def by_hand(text: str) -> Any:
    """Call five functions one after the other."""
    content: Any = text
    for function in _FUNCTIONS:
        content = function(content)
    return content


def microseconds(call: Callable[[], Any], *, calls: int) -> float:
    """Return the time of one call in a round of `calls`."""
    started = time.process_time_ns()
    for _ in range(calls):
        call()
    return (time.process_time_ns() - started) / calls / 1e3


def overhead(rounds: int) -> list[Measured]:
    """Return microseconds a run by hand, in a sync pipeline and in an async one, for five steps."""
    pipeline = Pipeline(_FUNCTIONS)

    async def many() -> float:
        started = time.process_time_ns()
        for _ in range(CALLS):
            await pipeline.run(_TEXT)
        return (time.process_time_ns() - started) / CALLS / 1e3

    return take_turns(
        {
            BY_HAND: lambda: microseconds(lambda: by_hand(_TEXT), calls=CALLS),
            "Pipeline.run_sync": lambda: microseconds(
                lambda: pipeline.run_sync(_TEXT), calls=CALLS
            ),
            "Pipeline.run": lambda: asyncio.run(many()),
        },
        rounds=rounds,
        ours=["Pipeline.run_sync", "Pipeline.run"],
    )


def linear_ratio() -> float:
    """Return the worst of several texts' time for 100 times the length, divided by the time for one.

    The least CPU time of rounds that alternate between short and long counts.
    """
    worst = 0.0
    pieces = ("{", "[1, ", '{"a": "x", ', "{'a': 'x', ", '"', "It is {so}. ", '{"a": 1} ', "{/*")
    for piece in pieces:
        times: dict[int, float] = {2_000: 9e9, 200_000: 9e9}
        for _ in range(5):
            for length, least in times.items():
                text = (piece * (length // len(piece) + 1))[:length]
                started = time.process_time()
                Pipeline([Convert()]).run_sync(text)
                times[length] = min(least, time.process_time() - started)
        worst = max(worst, times[200_000] / times[2_000])
    return worst


class Convert:
    """The ladder as a step."""

    name = "convert"

    def run(self, content: str, context: object) -> Any:
        return convert(content, cut=True).value
