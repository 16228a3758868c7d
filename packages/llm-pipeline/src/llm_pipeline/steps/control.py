"""Steps that run other steps: one way or the other, for each item, or until one succeeds."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from llm_core import Clock, InvalidValue, OutputError, StepContext
from llm_pipeline.result import PipelineResult
from llm_pipeline.runner import run_steps
from llm_pipeline.step import HOLDS_STEPS, INTERNAL, Flow, FlowStep, Outcome
from llm_pipeline.step_list import runnable, steps_of

__all__ = ["Branch", "FirstOf", "ForEach", "failure_of"]


def failure_of(run: PipelineResult[Any], step: str, **details: Any) -> OutputError:
    """Return the failure that stopped `run` as the failure of `step`, which ran it."""
    info = run.error
    message = info.message if info is not None else "failed without a recorded error"
    error = OutputError(f"{step}: {message}", details={**details, "steps": run.steps})
    if info is not None:
        error.error_type = info.type
    return error


def outcome_of(run: PipelineResult[Any], **trail: Any) -> Outcome:
    """Return the value of a finished run with its steps on the trail."""
    truncated = run.truncated
    return Outcome(
        run.content,
        trail={**trail, "steps": run.steps, "truncated": truncated},
        lossy=run.lossy,
        tolerated=run.degraded is None,
        truncated=truncated,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch(FlowStep[Any, Any]):
    """Runs one list of steps or another, depending on the content."""

    when: Any = field(kw_only=False, metadata={"steps": True, "named": True})
    """A function of the content whose truth decides, or steps (such as a validation) whose success does."""
    then: Any = field(default=(), metadata=HOLDS_STEPS)
    """The steps for yes; none leave the content as it is."""
    otherwise: Any = field(default=(), metadata=HOLDS_STEPS)
    """The steps for no; none leave the content as it is."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    def _validate(self) -> None:
        condition = steps_of(self.when, "Branch.when")
        if not condition:
            raise InvalidValue.of("Branch.when", self.when, "a function or at least one step")
        ways = steps_of(self.then, "Branch.then"), steps_of(self.otherwise, "Branch.otherwise")
        decides_by_value = callable(self.when) and not hasattr(self.when, "run")
        compiled = (decides_by_value, runnable(condition), *(runnable(way) for way in ways))
        object.__setattr__(self, "compiled", compiled)
        object.__setattr__(self, "when", self.when if decides_by_value else condition)
        object.__setattr__(self, "then", ways[0])
        object.__setattr__(self, "otherwise", ways[1])

    def flow(self, content: Any, context: StepContext, clock: Clock) -> Flow:
        """Decide, and return what the chosen steps make of the content."""
        decides_by_value, condition, then, otherwise = self.compiled
        decision = yield from run_steps(condition, content, context, clock)
        if decides_by_value and not decision.success:
            raise failure_of(decision, f"{self.name}.when")
        yes = bool(decision.content) if decides_by_value else decision.success
        run = yield from run_steps(then if yes else otherwise, content, context, clock)
        way = "then" if yes else "otherwise"
        if not run.success:
            raise failure_of(run, self.name, branch=way)
        return outcome_of(run, branch=way)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForEach(FlowStep[Any, list[Any]]):
    """Runs steps on every item of a list, or on every value of a dict, in order."""

    steps: Any = field(kw_only=False, metadata=HOLDS_STEPS)
    on_item_error: Literal["fail", "drop", "keep"] = "fail"
    """What an item that fails does: fail the step, drop out (lossy), or stay as it was (lossy)."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "steps"

    def _validate(self) -> None:
        object.__setattr__(self, "steps", steps_of(self.steps, "ForEach.steps"))
        object.__setattr__(self, "compiled", runnable(self.steps))

    def flow(self, content: Any, context: StepContext, clock: Clock) -> Flow:
        """Return the new list or dict; failed items are on the trail with their index or key."""
        if isinstance(content, dict):
            pairs = list(content.items())
        elif isinstance(content, (list, tuple)):
            pairs = list(enumerate(content))
        else:
            raise OutputError(
                f"{self.name}: got a {type(content).__name__}, expected a list or dict"
            )
        made, failed = yield from self._each(pairs, context, clock)
        lossy = bool(failed) or any(run.lossy for _, run in made)
        values = {key: run.content for key, run in made}
        return Outcome(
            values if isinstance(content, dict) else list(values.values()),
            trail={"items": len(pairs), "failed": failed},
            lossy=lossy,
            tolerated=not failed and all(run.degraded is None for _, run in made),
        )

    def _each(
        self, pairs: list[tuple[Any, Any]], context: StepContext, clock: Clock
    ) -> Generator[Any, Any, tuple[list[tuple[Any, PipelineResult[Any]]], list[dict[str, Any]]]]:
        made: list[tuple[Any, PipelineResult[Any]]] = []
        failed: list[dict[str, Any]] = []
        for key, item in pairs:
            run = yield from run_steps(self.compiled, item, context, clock)
            if not run.success:
                if self.on_item_error == "fail":
                    raise failure_of(run, f"{self.name}[{key!r}]", at=key)
                failed.append({"at": key, "error": run.error})
                if self.on_item_error == "drop":
                    continue
                run = PipelineResult(success=True, content=item)
            made.append((key, run))
        return made, failed


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOf(FlowStep[Any, Any]):
    """Tries alternatives in order on the same content; the first that succeeds wins."""

    alternatives: Any = field(kw_only=False, metadata={"steps": "each"})
    """Steps, or lists of steps, each an alternative."""
    prefer_lossless: bool = True
    """Go on past an alternative that succeeds with loss; its value is taken if no other does better."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "alternatives"

    def _validate(self) -> None:
        given = self.alternatives
        if not isinstance(given, (list, tuple)) or not given:
            raise InvalidValue.of("FirstOf.alternatives", given, "a list of steps, not empty")
        ways = tuple([steps_of(w, f"FirstOf.alternatives[{i}]") for i, w in enumerate(given)])
        object.__setattr__(self, "alternatives", ways)
        object.__setattr__(self, "compiled", tuple([runnable(way) for way in ways]))

    def flow(self, content: Any, context: StepContext, clock: Clock) -> Flow:
        """Return the winner's value; which it was, and why the others failed, is on the trail."""
        reasons: list[dict[str, Any]] = []
        second_best: tuple[int, PipelineResult[Any]] | None = None
        for position, way in enumerate(self.compiled):
            run = yield from run_steps(way, content, context, clock)
            if not run.success:
                reasons.append({"alternative": position, "error": run.error})
            elif run.lossy and self.prefer_lossless and position + 1 < len(self.compiled):
                reasons.append({"alternative": position, "error": "lossy"})
                second_best = second_best or (position, run)
            elif run.lossy and second_best is not None:
                break
            else:
                return outcome_of(run, alternative=position, failed=reasons)
        if second_best is not None:
            position, run = second_best
            return outcome_of(run, alternative=position, failed=reasons)
        raise failure_of(run, self.name, failed=reasons)
