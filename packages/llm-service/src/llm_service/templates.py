"""Prompts with variables: checked by name before anything is sent."""

from __future__ import annotations

import string
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llm_core import InvalidValue, Message

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

__all__ = ["render"]


def render(template: str | Runnable[Any, Any], variables: Mapping[str, Any]) -> tuple[Message, ...]:
    """Fill in `template` and return the messages to send.

    A text takes its variables as `str.format` does and becomes one user message.
    LangChain's prompt templates, and runnables that end in a prompt, messages or text, are taken as they are.

    Raises InvalidValue naming the variables that are missing, that the template does not know, or whose value does not fit.
    Of other runnables than prompts only what their input schema demands is known, so nothing is ever too much.
    """
    if not isinstance(variables, Mapping):
        raise InvalidValue.of("variables", variables, "a mapping of names to values")
    if isinstance(template, str):
        return (Message.user(_render_text(template, variables)),)
    # Whoever holds an object of LangChain's has imported it; nobody else pays for it here.
    if "langchain_core" in sys.modules:
        from langchain_core.runnables import Runnable

        if isinstance(template, Runnable):
            return _render_runnable(template, variables)
    raise InvalidValue.of("template", template, "text, or a LangChain prompt or runnable")


def _render_text(template: str, variables: Mapping[str, Any]) -> str:
    try:
        names = dict.fromkeys(_variables_of(template))
    except ValueError as error:
        raise InvalidValue.of("template", template, f"text for str.format ({error})") from None
    _check_names(variables, required=names, known=names)
    try:
        return template.format(**variables)
    except Exception as error:  # a value's own `__str__` or `__format__` may raise anything
        name = _unfit(template, variables)
        message = f"template: a variable does not fit: {name!r}: {type(error).__name__}: {error}"
        raise InvalidValue(message, details={"field": name}) from error


def _unfit(template: str, variables: Mapping[str, Any]) -> str:
    """Return the name of the variable that a text cannot be filled in with."""
    fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    for _, name, specification, conversion in fields:
        kind = f"!{conversion}" if conversion else ""
        try:
            f"{{{name}{kind}:{specification}}}".format(**variables)
        except Exception:  # noqa: BLE001 - as above
            return str(name).replace("[", ".").partition(".")[0]
    return fields[0][1] or ""


def _variables_of(template: str) -> Iterable[str]:
    """Yield the names in a `str.format` text, those in format specifications included."""
    for _, name, specification, _ in string.Formatter().parse(template):
        if name is None:
            continue
        root, *attributes = name.replace("[", ".").split(".")
        if not root.isidentifier():
            raise ValueError(
                f"{{{name}}} has no name; a brace that is meant as such is written twice"
            )
        # The door to everything a value can reach, its class and module included.
        if any(attribute.startswith("_") for attribute in attributes):
            raise ValueError(f"{{{name}}} reaches for a private attribute")
        yield root
        yield from _variables_of(specification or "")


def _check_names(
    variables: Mapping[str, Any], *, required: Iterable[str], known: Iterable[str] | None
) -> None:
    """Raise InvalidValue for missing and, if all the `known` names are known, for surplus variables."""
    wanted = list(required)
    missing = [name for name in wanted if name not in variables]
    surplus = [] if known is None else sorted(set(variables) - set(known), key=str)
    faults = []
    if missing:
        faults.append(f"missing {', '.join(map(repr, missing))}")
    if surplus:
        faults.append(f"surplus {', '.join(map(repr, surplus))}")
    if faults:
        expected = ", ".join(wanted) or "no variables"
        raise InvalidValue(
            f"template variables: {'; '.join(faults)}; expected {expected}",
            details={"field": "variables", "missing": missing, "surplus": surplus},
        )


def _render_runnable(
    template: Runnable[Any, Any], variables: Mapping[str, Any]
) -> tuple[Message, ...]:
    from langchain_core.exceptions import LangChainException

    from llm_service.langchain_messages import messages_from_langchain

    _refuse_models(template)
    required, known = _declared_by(template)
    _check_names(variables, required=required, known=known)
    try:
        made = template.invoke(dict(variables))
    except (LangChainException, LookupError, ValueError, TypeError, AttributeError) as error:
        message = f"template: could not be filled in: {type(error).__name__}: {error}"
        raise InvalidValue(message) from error
    return messages_from_langchain(_messages_in(made))


def _declared_by(template: Runnable[Any, Any]) -> tuple[list[str], set[str] | None]:
    """Return the variables that are required, and all that are known, or None where that cannot be told."""
    from langchain_core.prompts import BasePromptTemplate
    from langchain_core.runnables import RunnableLambda, RunnableSequence
    from langchain_core.runnables.base import RunnableBindingBase

    first = template
    while isinstance(first, RunnableSequence | RunnableBindingBase):
        first = first.first if isinstance(first, RunnableSequence) else first.bound
        if isinstance(first, BasePromptTemplate):
            break
    if isinstance(first, BasePromptTemplate):
        required = [name for name in first.input_variables if name not in first.partial_variables]
        return required, {*required, *first.optional_variables, *first.partial_variables}
    # What LangChain guesses from a function's source may be wrong.
    if isinstance(first, RunnableLambda):
        return [], None
    schema = template.get_input_jsonschema()
    return list(schema.get("required", ())), None


def _refuse_models(template: Runnable[Any, Any]) -> None:
    from langchain_core.language_models import BaseLanguageModel
    from langchain_core.runnables import RunnableSequence
    from langchain_core.runnables.base import RunnableBindingBase

    if isinstance(template, RunnableSequence):
        for step in template.steps:
            _refuse_models(step)
    elif isinstance(template, RunnableBindingBase):
        _refuse_models(template.bound)
    elif isinstance(template, BaseLanguageModel):
        name = type(template).__name__
        raise InvalidValue(
            f"template: holds the model {name}, which would be asked past all limits; "
            "expected only the steps before it"
        )


def _messages_in(made: Any) -> list[Any]:
    from langchain_core.messages import BaseMessage, HumanMessage
    from langchain_core.prompt_values import PromptValue

    if isinstance(made, PromptValue):
        return made.to_messages()
    if isinstance(made, str):
        return [HumanMessage(made)]
    if isinstance(made, BaseMessage):
        return [made]
    if isinstance(made, list) and made and all(isinstance(item, BaseMessage) for item in made):
        return made
    raise InvalidValue.of("template", made, "a runnable that gives a prompt, messages or text")
