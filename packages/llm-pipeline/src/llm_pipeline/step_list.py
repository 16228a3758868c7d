"""Lists of steps, as a pipeline and the steps that hold steps take them."""

from __future__ import annotations

from typing import Any

from llm_core import ConfigurationError, PipelineStep
from llm_pipeline.runner import RunnableStep
from llm_pipeline.steps.transform import Transform

__all__ = ["StepList", "runnable", "steps_of"]


class StepList:
    """Steps in order."""

    def __init__(self, steps: tuple[PipelineStep, ...]) -> None:
        self.steps = steps
        """The step objects; plain functions stand here as `Transform`."""


def steps_of(steps: Any, where: str = "steps") -> tuple[PipelineStep, ...]:
    """Return a step, a function, a pipeline, or a list of these as step objects, in order.

    Raises ConfigurationError for anything else, calling the list `where`.
    """
    if isinstance(steps, StepList) or callable(steps) or _is_step(steps):
        steps = [steps]
    try:
        given = list(steps)
    except TypeError:
        raise ConfigurationError(f"{where}: got {steps!r}, expected a list of steps") from None
    found: list[PipelineStep] = []
    for position, step in enumerate(given):
        if isinstance(step, StepList):
            found.extend(step.steps)
        elif isinstance(step, type) and hasattr(step, "run"):
            raise ConfigurationError(
                f"{where}[{position}]: got the class {step.__name__}, expected a step; did you mean {step.__name__}()?"
            )
        elif _is_step(step) and not isinstance(step, type):
            found.append(step)
        elif callable(step):
            found.append(Transform.of(step))
        else:
            raise ConfigurationError(
                f"{where}[{position}]: got {step!r}, expected a step or a function"
            )
    return tuple(found)


def _is_step(value: Any) -> bool:
    # What `isinstance(value, PipelineStep)` asks, without the 15 us that a Protocol takes to ask it.
    return hasattr(value, "run") and hasattr(value, "name")


def runnable(steps: tuple[PipelineStep, ...]) -> tuple[RunnableStep, ...]:
    """Look up once what running the steps needs."""
    return tuple([RunnableStep.of(step) for step in steps])
