"""JSON Schema behind one small class, compiled at first use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_core import InvalidValue, thaw

__all__ = ["SchemaCheck"]

_MOST_VIOLATIONS = 10


class SchemaCheck:
    """Says whether, and where not, a value satisfies a JSON Schema."""

    __slots__ = ("_check_formats", "_schema", "_validator")

    def __init__(self, schema: Mapping[str, Any], *, check_formats: bool = False) -> None:
        self._schema = schema
        self._check_formats = check_formats
        self._validator: Any = None

    def _compiled(self) -> Any:
        if self._validator is None:
            from jsonschema import Draft202012Validator
            from jsonschema.exceptions import SchemaError
            from jsonschema.validators import validator_for

            schema = thaw(self._schema)
            kind = validator_for(schema, default=Draft202012Validator)
            try:
                kind.check_schema(schema)
            except SchemaError as error:
                raise InvalidValue.of(
                    "schema", schema, f"a JSON Schema ({error.message})"
                ) from None
            checker = kind.FORMAT_CHECKER if self._check_formats else None
            self._validator = kind(schema, format_checker=checker)
        return self._validator

    def fits(self, value: Any) -> bool:
        """Return whether the value satisfies the schema."""
        return bool(self._compiled().is_valid(value))

    def violations(self, value: Any) -> list[dict[str, str]]:
        """Return up to ten violations as ``path`` (JSONPath) and ``message``, the most telling first."""
        from jsonschema.exceptions import relevance

        errors = sorted(self._compiled().iter_errors(value), key=relevance, reverse=True)
        return [
            {"path": error.json_path, "message": _short(error.message)}
            for error in errors[:_MOST_VIOLATIONS]
        ]


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:100] + " … " + message[-97:]
