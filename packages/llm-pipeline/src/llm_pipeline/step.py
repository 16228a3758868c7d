"""What a step is, and what it may say besides its value."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

from llm_core import (
    EMPTY,
    UNSET,
    CheckedRecord,
    Clock,
    Generate,
    GenerationRequest,
    InvalidValue,
    PipelineStep,
    ProviderResponse,
    StepContext,
    SystemClock,
    Value,
    immutable,
    thaw,
    to_json,
)

__all__ = [
    "HOLDS_STEPS",
    "INTERNAL",
    "Flow",
    "FlowStep",
    "Outcome",
    "RunContext",
    "Step",
    "StepLike",
    "drive",
    "own_copy",
]

A = TypeVar("A", contravariant=True)
B = TypeVar("B", covariant=True)
R = TypeVar("R")


INTERNAL: Final = {"json": False}
"""Metadata of a field that a step works out from its parameters: not checked, not written to configuration."""

HOLDS_STEPS: Final = {"steps": True}
"""Metadata of a parameter whose value is a list of steps, in configuration too."""


@immutable
class RunContext(Value):
    """What steps may know besides the content; a service fills it in, and so may you."""

    request: GenerationRequest | None = None
    response: ProviderResponse | None = None
    """The reply that the content came from: its finish reason tells a cut answer from a whole one."""
    generate: Generate | None = None
    """A way to ask the model again; None where no model is at hand."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step's value together with what it has to say about it.

    A step that has nothing to say returns the bare value instead.
    """

    value: Any
    trail: Mapping[str, Any] = EMPTY
    """How the value was found, as JSON."""
    lossy: bool = False
    """The value may differ from what the text said; the result's `degraded` says so unless `tolerated`."""
    tolerated: bool = False
    """The loss was allowed by configuration: it is on record, but does not degrade the result."""
    truncated: bool = False
    """The text ended before the value did."""
    skipped: bool = False
    """The step had nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(CheckedRecord, Generic[A, B]):
    """The base of all steps here, and a comfortable one for yours: a frozen dataclass with a `run`.

    Its fields are its parameters: they are checked when it is built, written by `to_config` and read by
    `Pipeline.from_config`.
    """

    name: str = ""
    """The step's name in results; empty takes the name of the class."""
    on_error: Literal["stop", "skip", "fallback"] = "stop"
    """What a failure does: stop the pipeline, go on with the content as it was, or go on with `fallback`."""
    fallback: Any = UNSET
    """The value to go on with if `on_error` is ``fallback``."""

    positional: ClassVar[str] = ""
    """The parameter that configuration may give without its name: ``- ExtractValue: $.city``."""

    def __post_init__(self) -> None:
        CheckedRecord.__post_init__(self)
        if not self.name:
            object.__setattr__(self, "name", self._own_name())
        given = self.fallback is not UNSET
        if given and self.on_error == "stop":
            object.__setattr__(self, "on_error", "fallback")
        elif self.on_error == "fallback" and not given:
            raise InvalidValue(
                f"{type(self).__name__}.fallback: missing, as on_error is 'fallback'"
            )
        elif self.on_error == "skip" and given:
            raise InvalidValue(f"{type(self).__name__}.fallback: given, but on_error is 'skip'")

    def run(self, content: A, context: StepContext) -> B | Outcome | Awaitable[B | Outcome]:
        """Return the new content, or an Outcome with it, or an awaitable of either; raise OutputError if there is none."""
        raise TypeError(f"{type(self).__name__} has no run method")

    def _own_name(self) -> str:
        """Return the name of a step that was given none."""
        return type(self).__name__

    def to_config(self) -> Any:
        """Return the declarative form: the class name, with the parameters that differ from their defaults."""
        parameters: dict[str, Any] = {}
        own_first = sorted(dataclasses.fields(self), key=lambda each: each.name in _COMMON)
        for each in own_first:
            if not each.init:
                continue
            value = getattr(self, each.name)
            if each.name == "name" and value == self._own_name():
                continue
            if each.name == "on_error" and self.fallback is not UNSET:
                continue
            if value is UNSET or (
                each.default is not dataclasses.MISSING and value == each.default
            ):
                continue
            parameters[each.name] = _as_config(value)
        name = type(self).__name__
        return {name: parameters} if parameters else name


def own_copy(value: Any) -> Any:
    """Return dicts and lists as copies that their receiver may change, anything else as it is.

    A step is shared by runs, so a default that it gives out must not carry one run's changes into the next.
    """
    if type(value) is dict:
        return {key: own_copy(item) for key, item in value.items()}
    if type(value) is list:
        return [own_copy(item) for item in value]
    return value


_COMMON = ("name", "on_error", "fallback")

Flow = Generator[Awaitable[Any], Any, Any]
"""A body that yields what must be awaited and is sent the results: driven alike by sync and async runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStep(Step[A, B]):
    """A step that runs other steps: its body is a generator, so that sync and async runs share it."""

    def flow(self, content: A, context: StepContext, clock: Clock) -> Flow:
        """Run and return the new content, or an Outcome with it; yields whatever must be awaited."""
        raise TypeError(f"{type(self).__name__} has no flow method")

    def run(self, content: A, context: StepContext) -> Awaitable[Any]:
        """Run outside of a pipeline, in async code."""
        return drive(self.flow(content, context, SystemClock()))


async def drive(flow: Generator[Awaitable[Any], Any, R]) -> R:
    """Run a flow in async code, awaiting what it yields."""
    try:
        waiting = next(flow)
        while True:
            try:
                value = await waiting
            except BaseException as error:  # noqa: BLE001 - the flow decides; cancellation passes through it
                waiting = flow.throw(error)
            else:
                waiting = flow.send(value)
    except StopIteration as done:
        result: R = done.value
        return result


StepLike = PipelineStep | Callable[..., Any]
"""Anything a pipeline takes as a step: an object with `name` and `run`, or a function of the content."""


def _as_config(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_config(item) for item in value]
    if isinstance(value, Mapping):
        return thaw(value)
    to_config = getattr(value, "to_config", None)
    if callable(to_config) and not isinstance(value, type):
        return to_config()
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return to_json(value)
