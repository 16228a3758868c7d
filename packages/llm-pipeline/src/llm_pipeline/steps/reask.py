"""`Reask`: tell the model what is wrong with its answer, and let it try again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from llm_core import Clock, GenerationRequest, InvalidValue, StepContext
from llm_pipeline.conversation import ask_again
from llm_pipeline.runner import run_steps
from llm_pipeline.step import INTERNAL, Flow, FlowStep, RunContext
from llm_pipeline.step_list import runnable, steps_of
from llm_pipeline.steps.control import failure_of, outcome_of

__all__ = ["Reask"]

_TEMPLATE = "Your answer cannot be used: {error}\nAnswer again, complete and corrected, in the form that was asked for."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reask(FlowStep[str, Any]):
    """Runs steps; when they fail, sends the failure back to the model and runs them on its new answer.

    The calls go through the context's `generate`, so they pass the same gates and deadline and stand on the same
    ledger, under the purpose ``reask``. Without a model at hand the first failure stands.
    """

    steps: Any = field(kw_only=False, metadata={"steps": True})
    attempts: int = 1
    """How often to ask again, 1 or more."""
    template: str = _TEMPLATE
    """What is sent back; ``{error}`` stands for the failure."""
    compiled: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "steps"

    def _validate(self) -> None:
        if self.attempts < 1:
            raise InvalidValue.of("Reask.attempts", self.attempts, "1 or more")
        if "{error}" not in self.template:
            raise InvalidValue.of("Reask.template", self.template, "a text that holds {error}")
        object.__setattr__(self, "steps", steps_of(self.steps, "Reask.steps"))
        object.__setattr__(self, "compiled", runnable(self.steps))

    def flow(self, content: str, context: StepContext, clock: Clock) -> Flow:
        """Return what the steps make of the first answer that they accept; every complaint is on the trail."""
        complaints: list[str] = []
        run = yield from run_steps(self.compiled, content, context, clock)
        while not run.success and len(complaints) < self.attempts and context.generate is not None:
            complaint = run.error.message if run.error is not None else "it was not accepted"
            complaints.append(complaint)
            message = self.template.replace("{error}", complaint)
            answer = yield ask_again(context, str(content), message, purpose="reask")
            content = answer.text
            # The new answer is whole, whatever cut the first one off, and has no prefill to put back.
            fresh = RunContext(request=_unfilled(context.request), generate=context.generate)
            run = yield from run_steps(self.compiled, content, fresh, clock)
        if not run.success:
            raise failure_of(run, self.name, reasked=len(complaints), complaints=complaints)
        return outcome_of(run, reasked=len(complaints), complaints=complaints)


def _unfilled(request: GenerationRequest | None) -> GenerationRequest | None:
    """Return the request without its prefill."""
    return None if request is None else request.replace(assistant=None)
