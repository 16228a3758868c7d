"""Draw the pictures of the documentation.

    python docs/pictures/draw.py

The pictures are kept beside this file; a test draws them again and compares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from canvas import BLUE, GREEN, GREY, INK, PALE, RED, SAND, SKY, Canvas
from timeline import LIMIT, WINDOW_SECONDS, Call, observe

HERE = Path(__file__).parent

FLOORS = (
    ("floor 2", SKY, [("llm-service", "chooses, ties together, command line")]),
    (
        "floor 1",
        GREEN,
        [
            ("llm-gates", "when a call may go"),
            ("llm-providers", "the vendors' APIs"),
            ("llm-pipeline", "from text to value"),
            ("llm-metrics", "counts and prices"),
            ("llm-audio", "sound in and out"),
            ("llm-sim", "a provider to run"),
            ("llm-telemetry-otel", "OpenTelemetry"),
            ("llm-telemetry-prometheus", "Prometheus"),
        ],
    ),
    ("floor 0", SAND, [("llm-core", "the words that all share; standard library only")]),
)


def draw_floors() -> Canvas:
    """Draw which package stands on which."""
    canvas = Canvas(760, 312, "The packages and their floors")
    y = 16.0
    for floor, colour, packages in FLOORS:
        rows = [packages[start : start + 4] for start in range(0, len(packages), 4)]
        canvas.words(14, y + 32, floor, fill=GREY)
        for row in rows:
            width = (670 - 8 * (len(row) - 1)) / len(row)
            for place, (name, purpose) in enumerate(row):
                x = 76 + place * (width + 8)
                canvas.box(x, y, width, 52, fill=colour)
                size = 11 if len(name) > 20 else 14
                canvas.words(x + width / 2, y + 23, name, anchor="middle", bold=True, size=size)
                canvas.words(x + width / 2, y + 41, purpose, anchor="middle", size=11)
            y += 60
        y += 10
    canvas.words(
        411,
        y + 8,
        "A package imports only from the floors below it; neighbours meet in interfaces of llm-core.",
        anchor="middle",
        size=12,
        fill=GREY,
    )
    return canvas


STAGES = (
    ("prepare", "which model, how many tokens to reserve", PALE),
    ("recall", "an answer from the cache, if that is allowed", PALE),
    ("admit", "one permit for all limits together", SKY),
    ("call", "the provider is asked, once", SKY),
    ("settle", "the limits learn what was really used", SKY),
    ("refine", "steps from raw text to the value wanted", PALE),
    ("record", "telemetry, cost, cache, the frozen result", PALE),
)


def draw_request() -> Canvas:
    """Draw the stages that a request passes."""
    canvas = Canvas(760, 440, "The life of a request")
    canvas.words(300, 28, "GenerationRequest", anchor="middle", bold=True)
    canvas.path([(300, 36), (300, 54)], arrow=True)
    for place, (name, what, colour) in enumerate(STAGES):
        y = 58 + 48 * place
        canvas.box(130, y, 340, 36, fill=colour)
        canvas.words(142, y + 23, name, bold=True)
        canvas.words(212, y + 23, what, size=12)
        canvas.path([(300, y + 36), (300, y + 44)], arrow=True)
    canvas.words(300, 418, "GenerationResult", anchor="middle", bold=True)
    # The pause and the next attempt, to the right; the deadline over everything, to the left.
    canvas.path([(470, 272), (510, 272), (510, 172), (474, 172)], arrow=True)
    canvas.words(520, 202, "failed, and may pass: a pause,", size=12)
    canvas.words(520, 219, "then the next attempt;", size=12)
    canvas.words(520, 236, "given up: the next model", size=12)
    canvas.path([(116, 58), (100, 58), (100, 382), (116, 382)], line=GREY)
    canvas.words(88, 216, "one", anchor="end", size=12, fill=GREY)
    canvas.words(88, 233, "deadline", anchor="end", size=12, fill=GREY)
    canvas.words(520, 122, "found: nobody is asked", size=12)
    canvas.path([(470, 118), (512, 118)], line=GREY)
    canvas.words(520, 314, "failed: the last good value,", size=12)
    canvas.words(520, 331, "or the fallback value", size=12)
    canvas.path([(470, 320), (512, 320)], line=GREY)
    return canvas


def draw_gate() -> Canvas:
    """Draw a token gate's window: what a real gate did on a clock moved by hand."""
    calls, used = asyncio.run(observe())
    canvas = Canvas(760, 560, "A gate of 10,000 tokens a minute, admitting and settling")
    left, scale = 96.0, 5.2

    def at(seconds: float) -> float:
        return left + seconds * scale

    bottom = 66 + 38 * len(calls)
    for mark in range(0, 121, 20):
        canvas.path([(at(mark), 44), (at(mark), 490)], line=PALE, width=1)
        canvas.words(at(mark), 510, f"{mark} s", anchor="middle", size=12, fill=GREY)
    _legend(canvas)
    for place, call in enumerate(calls):
        _draw_call(canvas, call, 56 + 38 * place, at)
    top, low = bottom + 26, 490.0
    height = (low - top) / LIMIT
    line = [(at(0), low)]
    for seconds, tokens in used:
        line += [(at(seconds), line[-1][1]), (at(seconds), low - tokens * height)]
    canvas.path([*line, (line[-1][0], low)], fill=SKY, line=BLUE)
    canvas.path([(at(0), top), (at(126), top)], line=RED, dashed=True)
    canvas.words(at(126), top - 6, f"limit {LIMIT:,}", anchor="end", size=12, fill=RED)
    canvas.words(left - 8, low, "0", anchor="end", size=12, fill=GREY)
    canvas.words(left - 8, (top + low) / 2, "tokens", anchor="end", size=12, fill=GREY)
    canvas.words(left - 8, (top + low) / 2 + 16, "counted", anchor="end", size=12, fill=GREY)
    canvas.words(
        at(63),
        540,
        f"Each call counts for {WINDOW_SECONDS:g} s from the moment it left the gate.",
        anchor="middle",
        size=12,
        fill=GREY,
    )
    return canvas


def _legend(canvas: Canvas) -> None:
    places = ((96, "none", "waits"), (196, BLUE, "under way: the reservation counts"))
    for x, colour, meaning in (*places, (456, SKY, "answered: what it used counts")):
        canvas.box(x, 16, 22, 14, fill=colour, dashed=colour == "none", line=INK)
        canvas.words(x + 30, 28, meaning, size=12)


def _draw_call(canvas: Canvas, call: Call, y: float, at: Callable[[float], float]) -> None:
    end = min(call.admitted + WINDOW_SECONDS, 126)
    if call.admitted > call.arrives:
        canvas.box(
            at(call.arrives), y, at(call.admitted) - at(call.arrives), 26, fill="none", dashed=True
        )
    canvas.box(at(call.admitted), y, at(call.settled) - at(call.admitted), 26, fill=BLUE)
    canvas.box(at(call.settled), y, at(end) - at(call.settled), 26, fill=SKY)
    canvas.words(88, y + 18, f"call {call.name}", anchor="end")
    canvas.words(
        at(call.settled) + 6, y + 18, f"{call.reserved:,} reserved, {call.actual:,} used", size=12
    )


PICTURES: Mapping[str, Callable[[], Canvas]] = {
    "floors.svg": draw_floors,
    "request.svg": draw_request,
    "gate.svg": draw_gate,
}


def main() -> None:
    """Write every picture."""
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
