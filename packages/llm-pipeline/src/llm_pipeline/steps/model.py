"""`ModelValidation`: a typed value out of plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from llm_core import ConfigurationError, MissingDependencyError, OutputError, StepContext
from llm_pipeline.partial import Partial
from llm_pipeline.step import INTERNAL, Step

__all__ = ["ModelValidation"]

T = TypeVar("T", covariant=True)

_MOST_ERRORS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelValidation(Step[Any, T]):
    """Turns a dict or list, or JSON text, into a pydantic model, dataclass, TypedDict or any other type.

    Needs pydantic (extra ``models``). A value that is an instance already passes untouched.
    """

    if TYPE_CHECKING:
        model: type[T] | Callable[..., T] = field(kw_only=False)
    else:
        model: Any = field(kw_only=False, metadata={"named": True})
    """The type. Configuration names it, and `Pipeline.from_config(names=...)` provides it."""
    strict: bool = False
    """Refuse to convert between types, such as the text ``"3"`` into the number 3."""
    adapter: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    positional: ClassVar[str] = "model"

    def run(self, content: Any, context: StepContext) -> Any:
        """Return the typed value; the failure's details list up to ten errors with their paths."""
        from_text = isinstance(content, str) and self.model is not str
        adapter = self._adapter()
        from pydantic import ValidationError

        try:
            if from_text:
                return adapter.validate_json(content, strict=self.strict or None)
            return adapter.validate_python(content, strict=self.strict or None)
        except ValidationError as error:
            raise self._invalid(error) from None

    def _invalid(self, error: Any) -> OutputError:
        found = [
            {"path": _path(each["loc"]), "message": str(each["msg"])[:200]}
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return OutputError(
            f"{self.name}: {first['path']}: {first['message']}{more}",
            details={"errors": found[:_MOST_ERRORS]},
        )

    def _adapter(self) -> Any:
        if self.adapter is None:
            try:
                from pydantic import TypeAdapter
                from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
            except ImportError as error:
                raise MissingDependencyError(
                    "ModelValidation needs pydantic: install the extra llm-pipeline[models]"
                ) from error
            try:
                adapter = TypeAdapter[Any](cast("Any", self.model))
            except (PydanticUndefinedAnnotation, PydanticUserError) as error:
                message = f"{self.name}: {self.model!r} is no type for pydantic: {error}"
                raise ConfigurationError(message) from error
            object.__setattr__(self, "adapter", adapter)
        return self.adapter

    def partial(self) -> Partial:
        """Return a reader of text that is still streaming in.

        Its `value` holds the fields that have arrived and are valid so far, as a plain dict; once the whole value
        is there and valid, it is the typed value.
        """
        return Partial(self._valid_so_far)

    def _valid_so_far(self, data: Any) -> Any:
        adapter = self._adapter()
        from pydantic import ValidationError

        try:
            return adapter.validate_python(data, strict=self.strict or None)
        except ValidationError as error:
            if not isinstance(data, dict):
                return data
            wrong = {
                each["loc"][0]
                for each in error.errors(include_url=False, include_input=False)
                if each["loc"] and each["type"] != "missing"
            }
            return {key: value for key, value in data.items() if key not in wrong}


def _path(loc: tuple[Any, ...]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
