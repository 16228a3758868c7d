"""`Transform`: any function as a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llm_core import UNSET, InvalidValue, StepContext
from llm_pipeline.step import Step

__all__ = ["Transform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform(Step[Any, Any]):
    """Calls a function, sync or async, with the content; what it returns is the new content."""

    function: Any = field(kw_only=False, metadata={"named": True})
    """A function of the content. Configuration names it, and `Pipeline.from_config(names=...)` provides it."""
    with_context: bool = False
    """Call it with the `StepContext` as second argument."""

    positional: ClassVar[str] = "function"

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Transform:
        """Build the step of a function, unchecked: a service does so in every call that brings one as its pipeline."""
        made = object.__new__(cls)
        object.__setattr__(made, "name", _name_of(function))
        object.__setattr__(made, "function", function)
        object.__setattr__(made, "on_error", "stop")
        object.__setattr__(made, "fallback", UNSET)
        object.__setattr__(made, "with_context", False)
        return made

    def _validate(self) -> None:
        if not callable(self.function):
            raise InvalidValue.of("Transform.function", self.function, "a function of the content")

    def _own_name(self) -> str:
        return _name_of(self.function)

    def run(self, content: Any, context: StepContext) -> Any:
        """Return what the function returns; whatever it raises fails the step."""
        if self.with_context:
            return self.function(content, context)
        return self.function(content)


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", "") or type(function).__name__
