"""`explain`: one call's timeline, drawn as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from llm_core import GenerationResult, InvalidValue, InvocationAttempt

__all__ = ["explain"]

_QUEUE, _CALL, _BACKOFF, _REFINE, _REST = "▒", "█", "░", "▓", "·"
_OWN: Final = "our own"
_TIME_WIDTH: Final = 12
_FEWEST_COLUMNS: Final = 40
# A gate that is open takes some microseconds; a line for that would tell nobody anything.
_WORTH_A_LINE_NS: Final = 100_000

_Piece = tuple[str, str, int, int]


def explain(result: GenerationResult[Any], *, columns: int = 80) -> str:
    """Return the timeline of one call: a line for each wait, call, pause and refinement.

    ::

        translate 5f0c...  gpt-5-mini by openai
        ok in 1,240.0 ms  0.0002850 USD
        queue 1 (rpm)        ▒▒▒▒▒▒·············     412.0 ms
        call 1 rate_limited  ······██···········     103.0 ms
        back-off 1           ········░░░░░░░····     430.0 ms
        call 2 ok            ···············████     290.0 ms

    Drawn to scale; what lasted at all gets one character at least. No line is wider than `columns`
    (40 or more), except for the first two when names are long; long labels are cut.
    """
    if columns < _FEWEST_COLUMNS:
        raise InvalidValue.of("explain.columns", columns, f"{_FEWEST_COLUMNS} or more")
    times = result.timestamps
    pieces = [*_attempt_pieces(result.attempts), *_refine_pieces(result)]
    labels = max([len(label) for _, label, *_ in pieces] + [len(_OWN)])
    labels = min(labels, columns // 2 - _TIME_WIDTH // 2)
    width = columns - labels - _TIME_WIDTH - 2
    start = times.requested
    ends = [end for *_, end in pieces] + [times.completed or start]
    total_ns = max(max(ends) - start, 1)
    lines = [*_headlines(result)]
    for sign, label, begins, ends_at in pieces:
        bar = _bar(sign, (begins - start) / total_ns, (ends_at - start) / total_ns, width)
        lines.append(_line(label, labels, bar, ends_at - begins))
    own = result.overhead_seconds
    if own is not None:
        lines.append(_line(_OWN, labels, " " * width, own * 1e9))
    lines.append(f"{_QUEUE} queue  {_CALL} call  {_BACKOFF} back-off  {_REFINE} refine")
    return "\n".join(lines)


def _line(label: str, width: int, bar: str, nanoseconds: float) -> str:
    shown = label if len(label) <= width else label[: width - 1] + "…"
    return f"{shown:<{width}} {bar} {_milliseconds(nanoseconds):>{_TIME_WIDTH}}"


def _headlines(result: GenerationResult[Any]) -> tuple[str, str]:
    """Return who was asked what, and what came of it."""
    total = result.timestamps.total_seconds
    outcome = "ok" if result.success else "failed"
    if result.error is not None:
        outcome += f" ({result.error.type.value})"
    outcome += ", unfinished" if total is None else f" in {_milliseconds(total * 1e9)}"
    if result.cost.amount is not None:
        outcome += f"  {result.cost.amount} {result.cost.currency}"
    who = f"{result.model or 'no model'} by {result.provider or 'nobody'}"
    return f"{result.operation_name or 'call'} {result.request_id}  {who}", outcome


def _attempt_pieces(attempts: tuple[InvocationAttempt, ...]) -> Iterator[_Piece]:
    for attempt in attempts:
        times, number = attempt.timestamps, attempt.number
        left = times.ended if times.admitted is None else times.admitted
        if times.enqueued is not None and left is not None:
            limit = f" ({attempt.waited_for})" if attempt.waited_for else ""
            if limit or left - times.enqueued >= _WORTH_A_LINE_NS:
                yield (_QUEUE, f"queue {number}{limit}", times.enqueued, left)
        if times.started is not None and times.ended is not None:
            outcome = attempt.error.type.value if attempt.error else "ok"
            purpose = "" if attempt.purpose == "answer" else f" {attempt.purpose}"
            yield (_CALL, f"call {number}{purpose} {outcome}", times.started, times.ended)
        if times.ended is not None and times.backoff_until is not None:
            yield (_BACKOFF, f"back-off {number}", times.ended, times.backoff_until)


def _refine_pieces(result: GenerationResult[Any]) -> Iterator[_Piece]:
    timed = [step for step in result.steps if step.started is not None and step.ended is not None]
    for step in timed:
        outcome = "" if step.success else " failed"
        assert step.started is not None
        assert step.ended is not None
        yield (_REFINE, f"refine {step.step}{outcome}", step.started, step.ended)
    times = result.timestamps
    if not timed and times.refine_started is not None and times.refined is not None:
        yield (_REFINE, "refine", times.refine_started, times.refined)


def _bar(sign: str, begins: float, ends: float, width: int) -> str:
    first = min(int(begins * width), width - 1)
    last = max(round(ends * width), first + 1)
    return _REST * first + sign * (last - first) + _REST * (width - last)


def _milliseconds(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:,.1f} ms"
