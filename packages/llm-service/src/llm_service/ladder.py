"""What to do when the model that was asked cannot answer: the rungs below it, as data."""

from __future__ import annotations

from collections.abc import Callable, Collection

from llm_core import ErrorInfo, ErrorType, InvalidValue, Value, immutable

__all__ = ["Fallback"]


@immutable
class Fallback(Value):
    """Another model to ask, and for which failures."""

    model: str
    """A model name or ``provider/model``."""
    on: Collection[ErrorType] | Callable[[ErrorInfo], bool] | None = None
    """The kinds of failure it is for, or a predicate; None means all that the error table lets fall back."""

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise InvalidValue.of("Fallback.model", self.model, "a model's name")
        if self.on is not None and not callable(self.on):
            object.__setattr__(self, "on", frozenset(ErrorType(kind) for kind in self.on))

    def applies_to(self, error: ErrorInfo) -> bool:
        """Whether this rung is meant for `error`."""
        if self.on is None:
            return error.type.traits.may_fall_back
        if callable(self.on):
            return self.on(error)
        return error.type in self.on
