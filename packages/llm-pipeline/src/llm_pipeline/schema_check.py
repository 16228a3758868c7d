"""JSON Schema behind one small class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from llm_core import ConfigurationError, InvalidValue, OutputError, thaw

__all__ = ["SchemaCheck"]

_MOST_VIOLATIONS = 10


class SchemaCheck:
    """Says whether, and where not, a value satisfies a JSON Schema."""

    __slots__ = ("_owner", "_validator")

    def __init__(
        self, schema: Mapping[str, Any], owner: str = "schema", *, check_formats: bool = False
    ) -> None:
        """Compile `schema`; raises InvalidValue naming `owner` if it is no JSON Schema."""
        # Here, because pipelines without a schema should not pay for its import.
        from jsonschema.exceptions import SchemaError

        self._owner = owner
        plain = thaw(schema)
        try:
            self._validator: Any = _validator(plain, check_formats)
        except SchemaError as error:
            raise _refusal(owner, plain, error) from None

    def fits(self, value: Any) -> bool:
        """Return whether the value satisfies the schema; raises as `violations` does."""
        return not self._errors(value, at_most=1)

    def violations(self, value: Any) -> list[dict[str, str]]:
        """Return up to ten violations as ``path`` (JSONPath) and ``message``, the most telling first.

        Raises ConfigurationError for a reference that leads out of the schema (nothing is ever fetched),
        OutputError for a value that is nested too deeply.
        """
        from jsonschema.exceptions import relevance

        errors = sorted(self._errors(value), key=relevance, reverse=True)
        return [
            {"path": error.json_path, "message": _short(error.message)}
            for error in errors[:_MOST_VIOLATIONS]
        ]

    def _errors(self, value: Any, at_most: int | None = None) -> list[Any]:
        from referencing.exceptions import Unresolvable

        try:
            return list(islice(self._validator.iter_errors(value), at_most))
        except RecursionError:
            raise OutputError(
                f"{self._owner}: the value is nested too deeply to be checked"
            ) from None
        except Unresolvable as error:
            raise ConfigurationError(
                f"{self._owner}: $ref {error.ref!r} is not in the schema, and nothing is fetched"
            ) from None


def _validator(plain: Any, check_formats: bool) -> Any:
    try:
        text = json.dumps(plain)
    except (TypeError, ValueError):  # something in it is no JSON, such as a Decimal
        return _compiled(plain, check_formats)
    return _compiled_text(text, check_formats)


@lru_cache(maxsize=64)
def _compiled_text(text: str, check_formats: bool) -> Any:
    # By its text, because a schema may be changed later, and as a value 1 is equal to True.
    # Checking a schema of three properties costs as much as a whole call without one.
    return _compiled(json.loads(text), check_formats)


def _compiled(plain: Any, check_formats: bool) -> Any:
    """Return a validator; raises SchemaError if `plain` is no JSON Schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    kind = validator_for(plain, default=Draft202012Validator)
    kind.check_schema(plain)
    return kind(plain, format_checker=kind.FORMAT_CHECKER if check_formats else None)


def _refusal(owner: str, schema: Any, error: Any) -> InvalidValue:
    """Return the error for what is no JSON Schema; `details["violation"]` says where and why as `violations` does."""
    # Of a word that is one of several kinds, jsonschema says that none fits; the list of words says more.
    telling = next((cause for cause in error.context if cause.validator == "enum"), error)
    violation = {"path": telling.json_path, "message": _short(telling.message)}
    told = InvalidValue.of(
        owner, schema, f"a JSON Schema ({violation['path']}: {violation['message']})"
    )
    return InvalidValue(str(told), details={"field": owner, "violation": violation})


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:100] + " … " + message[-97:]
