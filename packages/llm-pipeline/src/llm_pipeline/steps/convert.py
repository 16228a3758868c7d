"""`ConvertToDict`: a dict or list out of whatever the model wrote, with the trail of how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llm_core import ErrorType, FinishReason, InvalidValue, OutputError, StepContext
from llm_pipeline.conversation import ask_again
from llm_pipeline.conversion import Conversion, NoValue, convert
from llm_pipeline.partial import Partial
from llm_pipeline.schema_check import SchemaCheck
from llm_pipeline.step import INTERNAL, Outcome, Step

__all__ = ["ConvertToDict"]

_CUT = (FinishReason.LENGTH, FinishReason.INCOMPLETE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertToDict(Step[Any, Any]):
    """Finds the dict or list in a model's text, from strict JSON down to repair, and says how it got there.

    A dict or list that comes in (a provider's structured output) passes untouched.
    """

    lossy: Literal["allow", "flag", "fail"] = "flag"
    """What to do when the value may differ from what the text says.

    ``flag`` degrades the result, ``allow`` only records it in the step's result, ``fail`` fails the step.
    """
    want: Literal["any", "dict", "list"] = "any"
    """Accept only one of the two; it also decides between several values."""
    schema: Mapping[str, Any] | None = field(default=None)
    """A JSON Schema that decides between several values; it does not validate (`JsonSchemaValidation` does)."""
    reask: int = 0
    """How often to send the text back to the model when there is no value in it (or a lossy one with ``fail``)."""
    check: Any = field(init=False, default=None, repr=False, compare=False, metadata=INTERNAL)

    def _validate(self) -> None:
        if self.reask < 0:
            raise InvalidValue.of("ConvertToDict.reask", self.reask, "zero or more")
        if self.schema is not None:
            object.__setattr__(self, "check", SchemaCheck(self.schema, "ConvertToDict.schema"))

    def run(self, content: Any, context: StepContext) -> Any:
        """Return the dict or list; raises NoValue with the rungs tried, or OutputError for a loss that is not allowed."""
        if isinstance(content, (dict, list)):
            self._require_wanted(content)
            return Outcome(content, trail={"rung": "none"}, skipped=True)
        if not isinstance(content, str):
            raise OutputError(
                f"{self.name}: got a {type(content).__name__}, expected text, a dict or a list"
            )
        try:
            return self._converted(content, context)
        except OutputError as error:
            if self.reask and context.generate is not None:
                return self._reasked(content, context, error)
            raise

    def _converted(self, text: str, context: StepContext, *, first: bool = True) -> Outcome:
        response = context.response if first else None
        request = context.request
        conversion = convert(
            text,
            cut=response is not None and response.finish_reason in _CUT,
            prefill=(request.assistant or "") if request is not None and first else "",
            fits=self._fits(),
        )
        self._require_wanted(conversion.value)
        if conversion.lossy and self.lossy == "fail":
            raise self._loss(conversion)
        return Outcome(
            conversion.value,
            trail=conversion.trail(),
            lossy=conversion.lossy,
            tolerated=self.lossy == "allow",
            truncated=conversion.truncated,
        )

    def _fits(self) -> Callable[[Any], bool] | None:
        check, want = self.check, {"dict": dict, "list": list}.get(self.want)
        if want is None:
            return check.fits if check is not None else None
        return lambda value: isinstance(value, want) and (check is None or check.fits(value))

    def _require_wanted(self, value: Any) -> None:
        wanted = {"dict": dict, "list": list}.get(self.want)
        if wanted is not None and not isinstance(value, wanted):
            raise OutputError(f"{self.name}: got a {type(value).__name__}, expected a {self.want}")

    def _loss(self, conversion: Conversion) -> OutputError:
        guesses = [edit["edit"] for edit in conversion.edits if edit["guess"]]
        message = f"{self.name}: the text could be read with loss only: {', '.join(guesses)}"
        error = NoValue(message, details=conversion.trail())
        if conversion.truncated:
            error.error_type = ErrorType.TRUNCATED
        return error

    async def _reasked(self, text: str, context: StepContext, error: OutputError) -> Outcome:
        """Send the text and what is wrong with it back to the model, up to `reask` times."""
        wish = "Answer again with the complete JSON only: no explanation, no code fence."
        for number in range(1, self.reask + 1):
            answer = await ask_again(context, text, f"{error}\n{wish}", purpose="reask")
            text = answer.text
            try:
                outcome = self._converted(text, context, first=False)
            except OutputError as again:
                error = again
                continue
            return replace(outcome, trail={**outcome.trail, "reasked": number, "rung": "reask"})
        error.details["reasked"] = self.reask
        raise error

    def partial(self) -> Partial:
        """Return a reader of text that is still streaming in; its `value` is the dict or list so far."""
        return Partial()
