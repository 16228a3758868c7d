"""`Pipeline`: a list of steps from raw text to the value that was wanted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from llm_core import Clock, StepContext, SystemClock
from llm_pipeline.result import PipelineResult
from llm_pipeline.runner import OnStep, RunAwaitable, awaitable_steps, drive_sync, run_steps
from llm_pipeline.step import RunContext, Step, StepLike
from llm_pipeline.step_list import StepList, runnable, steps_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Pipeline"]

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
U = TypeVar("U")

_NOTHING_KNOWN = RunContext()
_SYSTEM_CLOCK = SystemClock()


class Pipeline(StepList, Generic[A, T]):
    """Steps that turn content of type A into a value of type T, every one recorded; running it never throws.

    A step is an object with `name` and `run(content, context)`, or a function of the content; both may be
    asynchronous. A pipeline is immutable, may be shared by threads and tasks, and may itself be a step.
    """

    def __init__(
        self: Pipeline[Any, Any],
        steps: StepLike | StepList | Iterable[StepLike | StepList] = (),
        *,
        clock: Clock = _SYSTEM_CLOCK,
    ) -> None:
        super().__init__(steps_of(steps))
        self._runnable = runnable(self.steps)
        self._clock = clock

    @classmethod
    def of(cls, step: Step[A, B]) -> Pipeline[A, B]:
        """Begin a pipeline whose types are inferred: ``Pipeline.of(ConvertToDict()).then(ModelValidation(City))``."""
        return cast("Pipeline[A, B]", cls([step]))

    @overload
    def then(self, step: Step[T, U]) -> Pipeline[A, U]: ...
    @overload
    def then(self, step: Callable[[T], Awaitable[U]]) -> Pipeline[A, U]: ...
    @overload
    def then(self, step: Callable[[T], U]) -> Pipeline[A, U]: ...
    def then(self, step: Any) -> Pipeline[A, Any]:
        """Return this pipeline with one more step."""
        return Pipeline([*self.steps, step], clock=self._clock)

    @staticmethod
    def wrap(pipeline: Any) -> Pipeline[Any, Any]:
        """Return whatever stands for a pipeline as one: a Pipeline, a step, a function, steps in a list, or None.

        Names and mappings in a list are read as configuration. Raises ConfigurationError for anything else.
        """
        if isinstance(pipeline, Pipeline):
            return pipeline
        if pipeline is None:
            return Pipeline()
        declared = isinstance(pipeline, (str, Mapping)) or (
            isinstance(pipeline, (list, tuple))
            and any(isinstance(step, (str, Mapping)) for step in pipeline)
        )
        if declared:
            steps = [pipeline] if isinstance(pipeline, (str, Mapping)) else pipeline
            return Pipeline.from_config(steps)
        return Pipeline(pipeline)

    async def run(
        self,
        content: A,
        *,
        context: StepContext | None = None,
        on_step: OnStep | None = None,
    ) -> PipelineResult[T]:
        """Run the steps on `content`; raises nothing but what cancels the task.

        `on_step` is told of each step as soon as it is done.
        """
        known = context or _NOTHING_KNOWN
        return await awaitable_steps(
            self._runnable, content, known, self._clock, on_step, awaits=True
        )

    def run_sync(
        self,
        content: A,
        *,
        context: StepContext | None = None,
        on_step: OnStep | None = None,
        run_awaitable: RunAwaitable | None = None,
    ) -> PipelineResult[T]:
        """Run the same steps in sync code.

        `run_awaitable` is a portal that asynchronous steps go through, such as
        ``lambda awaitable: portal.call(wait_for, awaitable)`` with an anyio portal.
        Without one each awaitable runs on an event loop of its own; on a thread whose loop is running that is
        impossible, and the step fails with a message that says so.
        """
        known = context or _NOTHING_KNOWN
        flow = run_steps(self._runnable, content, known, self._clock, on_step)
        return drive_sync(flow, run_awaitable)

    @classmethod
    def from_config(
        cls,
        config: str | Path | Sequence[Any],
        *,
        steps: Mapping[str, Any] | Iterable[type[Any]] = (),
        names: Mapping[str, Any] | None = None,
        clock: Clock = _SYSTEM_CLOCK,
    ) -> Pipeline[Any, Any]:
        """Build a pipeline from its declarative form: a list, YAML text, or the path of a YAML or JSON file.

        `steps` are classes of your own to be known by name, besides those here and those installed under the entry
        point group ``llm_pipeline.steps``. `names` are the functions and models that the configuration refers to
        by name (nothing is ever imported because a configuration names it).
        Raises ConfigurationError with the position, and the closest name for what is unknown.
        """
        from llm_pipeline.config import read_steps

        return cls(read_steps(config, classes=steps, names=names or {}), clock=clock)

    def to_config(self) -> list[Any]:
        """Return the declarative form; functions and models are written by their names."""
        from llm_pipeline.config import write_step

        return [write_step(step) for step in self.steps]

    @staticmethod
    def config_schema(
        steps: Mapping[str, Any] | Iterable[type[Any]] = (),
    ) -> dict[str, Any]:
        """Return the JSON Schema of the declarative form, for editors; `steps` adds classes of your own."""
        from llm_pipeline.config_schema import config_schema

        return config_schema(steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"Pipeline([{', '.join(repr(step.name) for step in self.steps)}])"
