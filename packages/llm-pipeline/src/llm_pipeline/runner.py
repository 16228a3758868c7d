"""Run steps one after the other and keep what each did.

There is one body for sync and async runs: a generator that yields what must be awaited and is sent the result.
`drive_sync` hands that to a portal, by default an event loop of its own; `step.drive` awaits it, for a flow that a
step runs. An async run of a pipeline awaits within the body itself.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
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
from llm_pipeline.result import PipelineResult
from llm_pipeline.step import FlowStep, Outcome, drive, own_copy

__all__ = [
    "OnStep",
    "RunAwaitable",
    "RunnableStep",
    "awaitable_steps",
    "describe",
    "drive_sync",
    "run_steps",
]

R = TypeVar("R")

# Looked up once, as every step needs it.
_step_result = unchecked(PipelineStepResult)

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

    @property
    def stops(self) -> bool:
        """Whether its failure is the pipeline's."""
        return self.on_error not in ("skip", "fallback")

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


def run_steps(
    steps: Sequence[RunnableStep],
    content: Any,
    context: StepContext,
    clock: Clock,
    on_step: OnStep | None = None,
    *,
    awaits: bool = False,
) -> Generator[Any, Any, PipelineResult[Any]]:
    """Run `steps` on `content` until one stops the run; raises nothing but what cancels or interrupts.

    What must be awaited is yielded, or awaited here if this is awaited itself (`awaits`).
    """
    now = clock.monotonic_ns
    given, began = content, now()
    done: list[PipelineStepResult] = []
    failed, error, degraded = False, None, None
    for step in steps:
        started = now()
        try:
            if step.flows:
                flow = step.call(content, context, clock)
                outcome = yield from (drive(flow).__await__() if awaits else flow)
            else:
                outcome = step.call(content, context)
                if hasattr(outcome, "__await__"):
                    outcome = (yield from outcome.__await__()) if awaits else (yield outcome)
        except Exception as exception:  # noqa: BLE001 - steps are foreign code; a pipeline never throws
            info = describe(step.name, exception)
            result, lesser = _failure(step, content, info, started, now())
            failed = step.stops
            error = info if failed else error or info
            degraded = lesser if failed else _worse(degraded, lesser)
        else:
            ended = now()
            if type(outcome) is Outcome:
                result, loss = _success(step, content, outcome, started, ended)
                degraded = _worse(degraded, loss)
            else:
                result = _step_result(
                    step=step.name,
                    success=True,
                    before=content,
                    after=outcome,
                    duration_seconds=(ended - started) / 1e9,
                    started=started,
                    ended=ended,
                )
        done.append(result)
        if on_step is not None:
            # An observer must not break what it observes.
            with contextlib.suppress(Exception):
                on_step(result)
        if failed:
            break
        content = result.after
    # In the order of the fields, as naming them costs a fifth more instructions.
    made: PipelineResult[Any] = PipelineResult._unchecked(
        not failed, content, given, content, error, degraded, tuple(done), (now() - began) / 1e9
    )
    return made


awaitable_steps = types.coroutine(run_steps)
"""`run_steps` for `await`, with `awaits`: it saves an async run the way through `drive`."""


def _success(
    step: RunnableStep, before: Any, outcome: Outcome, started: int, ended: int
) -> tuple[PipelineStepResult, Degradation | None]:
    """Return what a step did that had something to say, and the lesser answer if it is one."""
    result = PipelineStepResult(
        step=step.name,
        success=True,
        before=before,
        after=outcome.value,
        duration_seconds=(ended - started) / 1e9,
        started=started,
        ended=ended,
        skipped=outcome.skipped,
        lossy=outcome.lossy,
        trail=outcome.trail,
    )
    if outcome.tolerated or not (outcome.truncated or outcome.lossy):
        return result, None
    if outcome.truncated:
        reason, said = DegradedReason.PARTIAL, "the text ended before its value did"
    else:
        reason, said = DegradedReason.LOSSY, "the value may differ from what the text said"
    return result, Degradation(reason=reason, detail=f"{step.name}: {said}")


def _failure(
    step: RunnableStep, before: Any, error: ErrorInfo, started: int, ended: int
) -> tuple[PipelineStepResult, Degradation]:
    """Return what a step did that failed, and the lesser answer that the pipeline goes on or ends with."""
    after, reason = None, DegradedReason.LAST_GOOD_VALUE
    if step.on_error == "skip":
        after, said = before, " and was skipped"
    elif step.on_error == "fallback":
        after, reason = own_copy(step.fallback), DegradedReason.FALLBACK_VALUE
        said = " and its fallback was taken"
    else:
        said = "; the content is what the steps before it had made"
    result = PipelineStepResult(
        step=step.name,
        success=False,
        before=before,
        after=after,
        error=error,
        duration_seconds=(ended - started) / 1e9,
        started=started,
        ended=ended,
        skipped=step.on_error == "skip",
        trail=error.details,
    )
    return result, Degradation(reason=reason, detail=f"{step.name} failed{said}", error=error)


def _worse(known: Degradation | None, new: Degradation | None) -> Degradation | None:
    """Return the more serious of two lesser answers, of equals the one that is known."""
    if known is None or new is None:
        return known or new
    more = _SERIOUSNESS.index(new.reason) > _SERIOUSNESS.index(known.reason)
    return new if more else known


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
