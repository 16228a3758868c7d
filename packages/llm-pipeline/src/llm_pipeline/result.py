"""Everything known after a pipeline has run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

from llm_core import (
    Degradation,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    PipelineStepResult,
    Record,
    immutable,
)

__all__ = ["PipelineResult"]

T = TypeVar("T")
U = TypeVar("U")


@immutable
class PipelineResult(Record, Generic[T]):
    """The value, or what became of it: never an exception."""

    success: bool
    """Every step succeeded, or failed in a way that its `on_error` allows."""
    content: T | None = None
    """The value; after a failure the last good value (`last_good`)."""
    raw_content: Any = None
    """What went in, untouched."""
    last_good: Any = None
    """What the last successful step gave; `raw_content` if none did."""
    error: ErrorInfo | None = None
    """Why it failed, or, in a degraded success, the first failure that was made up for."""
    degraded: Degradation | None = None
    """Why the content is not the full wish: a fallback, a skipped step, a lossy repair, the last good value."""
    steps: tuple[PipelineStepResult, ...] = ()
    """Every step that ran, in order; contents are held by reference, not copied."""
    duration_seconds: float = 0.0

    @property
    def lossy(self) -> bool:
        """Whether a step had to guess or drop something."""
        return any(step.lossy for step in self.steps)

    @property
    def truncated(self) -> bool:
        """Whether the text ended before its value did."""
        return any(step.trail.get("truncated") for step in self.steps)

    def map(self, function: Callable[[T], U]) -> PipelineResult[U]:
        """Return this result with `function` applied to the content of a success.

        A failure is returned as it is. An exception out of `function` becomes a failure of type ``output_invalid``
        that keeps the content as the last good value.
        """
        if not self.success:
            return cast("PipelineResult[U]", self)
        try:
            content = function(cast("T", self.content))
        except Exception as error:  # noqa: BLE001 - foreign code; results never throw
            return cast("PipelineResult[U]", self._spoilt_by(function, error))
        made = replace(cast("Any", self), content=content, last_good=content)
        return cast("PipelineResult[U]", made)

    def and_then(self, function: Callable[[T], PipelineResult[U]]) -> PipelineResult[U]:
        """Return what `function` makes of the content of a success, with the steps so far in front of its own.

        A failure is returned as it is; an exception out of `function` is handled as in `map`.
        """
        if not self.success:
            return cast("PipelineResult[U]", self)
        try:
            following = function(cast("T", self.content))
            _require_result(following, function)
        except Exception as error:  # noqa: BLE001 - foreign code; results never throw
            return cast("PipelineResult[U]", self._spoilt_by(function, error))
        return replace(
            following,
            raw_content=self.raw_content,
            error=following.error or self.error,
            degraded=following.degraded or self.degraded,
            steps=self.steps + following.steps,
            duration_seconds=self.duration_seconds + following.duration_seconds,
        )

    def or_else(
        self, function: Callable[[PipelineResult[T]], PipelineResult[T]]
    ) -> PipelineResult[T]:
        """Return this success, or what `function` makes of this failure; its exception is handled as in `map`."""
        if self.success:
            return self
        try:
            other = function(self)
            _require_result(other, function)
        except Exception as error:  # noqa: BLE001 - foreign code; results never throw
            return self._spoilt_by(function, error)
        return other

    def unwrap(self) -> T:
        """Return the content of a success; raise ProviderError carrying `error` for a failure."""
        if self.success:
            return cast("T", self.content)
        error = self.error or ErrorInfo.of(ErrorType.INTERNAL, "failed without a recorded error")
        raise error.to_exception()

    def unwrap_or(self, default: U) -> T | U:
        """Return the content of a success, or `default`."""
        return cast("T", self.content) if self.success else default

    def _spoilt_by(self, function: Callable[..., Any], error: Exception) -> PipelineResult[T]:
        from llm_pipeline.runner import describe

        name = getattr(function, "__name__", repr(function))
        info = describe(name, error)
        step = PipelineStepResult(step=name, success=False, before=self.content, error=info)
        degraded = Degradation(
            reason=DegradedReason.LAST_GOOD_VALUE,
            detail=f"{name} failed; the content is what the steps before it had made",
            error=info,
        )
        steps = (*self.steps, step)
        return replace(self, success=False, error=info, degraded=degraded, steps=steps)


def _require_result(given: object, function: Callable[..., Any]) -> None:
    if not isinstance(given, PipelineResult):
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f"{name} returned a {type(given).__name__}, expected a PipelineResult")
