"""Run steps one after the other and keep what each did.

There is one body for sync and async runs: a generator that yields what must be awaited and is sent the result.
`step.drive` awaits it; `drive_sync` hands it to a portal, by default an event loop of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llm_core import (
    UNSET,
    Clock,
    ConfigurationError,
    Degradation,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    LLMError,
    PipelineStepResult,
    StepContext,
    unchecked,
)
from llm_pipeline.step import FlowStep, Outcome, own_copy

__all__ = [
    "OnStep",
    "Progress",
    "RunAwaitable",
    "RunnableStep",
    "describe",
    "drive_sync",
    "run_steps",
]

R = TypeVar("R")

RunAwaitable = Callable[[Awaitable[Any]], Any]
"""A portal: runs an awaitable to its end on some event loop and returns its result or raises its exception."""

OnStep = Callable[[PipelineStepResult], None]
"""An observer, told of each step as soon as it is done; what it raises is ignored."""

_SERIOUSNESS = (
    DegradedReason.LOSSY,
    DegradedReason.PARTIAL,
    DegradedReason.LAST_GOOD_VALUE,
    DegradedReason.FALLBACK_VALUE,
)
# Faults of the content rather than of the code, when a step raises one of them.
_FAULTS_OF_CONTENT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class RunnableStep:
    """A step with everything about it looked up once."""

    name: str
    call: Callable[..., Any]
    flows: bool
    """`call` takes a clock as well and returns a Flow to be run through."""
    on_error: str
    fallback: Any

    @classmethod
    def of(cls, step: Any) -> RunnableStep:
        """Look up what is needed of an object with `name` and `run`."""
        flows = isinstance(step, FlowStep)
        return cls(
            step.name,
            step.flow if flows else step.run,
            flows,
            getattr(step, "on_error", "stop"),
            getattr(step, "fallback", UNSET),
        )


@dataclass(slots=True)
class Progress:
    """How far a run has come; it is its result once the last step is done."""

    content: Any
    steps: list[PipelineStepResult] = field(default_factory=list)
    failed: bool = False
    error: ErrorInfo | None = None
    degraded: Degradation | None = None

    @property
    def lossy(self) -> bool:
        """Whether a step had to guess or drop something."""
        return any(step.lossy for step in self.steps)

    def degrade(self, reason: DegradedReason, detail: str, error: ErrorInfo | None = None) -> None:
        """Note a lesser answer, unless a more serious reason is noted already."""
        now = self.degraded
        if now is None or _SERIOUSNESS.index(reason) > _SERIOUSNESS.index(now.reason):
            self.degraded = Degradation(reason=reason, detail=detail, error=error)


def run_steps(
    steps: Sequence[RunnableStep],
    content: Any,
    context: StepContext,
    clock: Clock,
    on_step: OnStep | None = None,
) -> Generator[Awaitable[Any], Any, Progress]:
    """Run `steps` on `content` until one stops the run; raises nothing but what cancels or interrupts."""
    progress = Progress(content)
    now = clock.monotonic_ns
    record = progress.steps.append
    for step in steps:
        before = progress.content
        started = now()
        try:
            if step.flows:
                outcome = yield from step.call(before, context, clock)
            else:
                outcome = step.call(before, context)
                if hasattr(outcome, "__await__"):
                    outcome = yield outcome
        except Exception as error:  # noqa: BLE001 - steps are foreign code; a pipeline never throws
            goes_on = _fail(progress, step, describe(step.name, error), (started, now()))
            _tell(on_step, progress)
            if goes_on:
                continue
            break
        ended = now()
        if type(outcome) is Outcome:
            _accept(progress, step, outcome, (started, ended))
        else:
            progress.content = outcome
            record(
                unchecked(PipelineStepResult)(
                    step=step.name,
                    success=True,
                    before=before,
                    after=outcome,
                    duration_seconds=(ended - started) / 1e9,
                    started=started,
                    ended=ended,
                )
            )
        if on_step is not None:
            _tell(on_step, progress)
    return progress


def _tell(on_step: OnStep | None, progress: Progress) -> None:
    if on_step is not None:
        # An observer must not break what it observes.
        with contextlib.suppress(Exception):
            on_step(progress.steps[-1])


def _accept(
    progress: Progress, step: RunnableStep, outcome: Outcome, span: tuple[int, int]
) -> None:
    progress.steps.append(
        PipelineStepResult(
            step=step.name,
            success=True,
            before=progress.content,
            after=outcome.value,
            duration_seconds=(span[1] - span[0]) / 1e9,
            started=span[0],
            ended=span[1],
            skipped=outcome.skipped,
            lossy=outcome.lossy,
            trail=outcome.trail,
        )
    )
    progress.content = outcome.value
    if outcome.tolerated:
        return
    if outcome.truncated:
        progress.degrade(
            DegradedReason.PARTIAL, f"{step.name}: the text ended before its value did"
        )
    elif outcome.lossy:
        detail = f"{step.name}: the value may differ from what the text said"
        progress.degrade(DegradedReason.LOSSY, detail)


def _fail(progress: Progress, step: RunnableStep, error: ErrorInfo, span: tuple[int, int]) -> bool:
    """Record a failure; True if the pipeline goes on."""
    before, after = progress.content, None
    if step.on_error == "skip":
        after = before
        detail = f"{step.name} failed and was skipped"
        progress.degrade(DegradedReason.LAST_GOOD_VALUE, detail, error)
    elif step.on_error == "fallback":
        after = own_copy(step.fallback)
        detail = f"{step.name} failed and its fallback was taken"
        progress.degrade(DegradedReason.FALLBACK_VALUE, detail, error)
    else:
        progress.failed = True
        detail = f"{step.name} failed; the content is what the steps before it had made"
        progress.degraded = Degradation(
            reason=DegradedReason.LAST_GOOD_VALUE, detail=detail, error=error
        )
    if progress.failed or progress.error is None:
        progress.error = error
    progress.steps.append(
        PipelineStepResult(
            step=step.name,
            success=False,
            before=before,
            after=after,
            error=error,
            duration_seconds=(span[1] - span[0]) / 1e9,
            started=span[0],
            ended=span[1],
            skipped=step.on_error == "skip",
            trail=error.details,
        )
    )
    if not progress.failed:
        progress.content = after
    return not progress.failed


def describe(step: str, error: Exception) -> ErrorInfo:
    """Return the failure of `step` as data; a fault of the content is ``output_invalid``, other faults ``internal``."""
    if isinstance(error, LLMError):
        return ErrorInfo.from_exception(error)
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - even the message of a foreign exception may fail
        text = "its message cannot be shown"
    blamed = isinstance(error, _FAULTS_OF_CONTENT)
    return ErrorInfo.of(
        ErrorType.OUTPUT_INVALID if blamed else ErrorType.INTERNAL,
        f"{step} failed on the content: {kind}: {text}",
        exception=kind,
    )


def drive_sync(flow: Generator[Awaitable[Any], Any, R], run_awaitable: RunAwaitable | None) -> R:
    """Run a flow in sync code; `run_awaitable` is the portal for what it yields, None an event loop of its own."""
    portal = run_awaitable or _on_own_loop
    try:
        waiting = next(flow)
        while True:
            try:
                value = portal(waiting)
            except BaseException as error:  # noqa: BLE001 - the flow decides; interrupts pass through it
                waiting = flow.throw(error)
            else:
                waiting = flow.send(value)
    except StopIteration as done:
        result: R = done.value
        return result


def _on_own_loop(awaitable: Awaitable[Any]) -> Any:
    # Here, because pipelines without asynchronous steps should not pay for its import.
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_wait_for(awaitable))
    if isinstance(awaitable, Coroutine):
        awaitable.close()
    raise ConfigurationError(
        "an asynchronous step cannot run in run_sync on a thread whose event loop is running; "
        "await Pipeline.run instead, or pass run_awaitable, a portal to another thread's loop"
    )


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
