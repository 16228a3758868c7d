"""From a row of columns to the fields of a request."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from llm_core import GenerationRequest, InvalidValue

__all__ = ["TextTemplate", "request_fields", "spread_columns"]

_FIELDS = tuple(field.name for field in fields(GenerationRequest))
_TEXT_FIELDS = frozenset(
    {
        "user",
        "system",
        "assistant",
        "model",
        "reasoning_effort",
        "verbosity",
        "previous_response_id",
        "on_unsupported",
        "operation_name",
        "request_id",
        "tenant",
        "fallback_value",
    }
)
"""Whose cells are text as they stand; a cell of any other field is JSON."""
_MAPPINGS = frozenset({"metadata", "sampling", "provider_options"})
"""Of which a column may be one key: ``metadata.country``."""


class TextTemplate:
    """A text with ``{column}`` in it; a doubled brace stands for itself.

    Raises InvalidValue for a text that is no such template.
    """

    def __init__(self, text: str) -> None:
        try:
            pieces = list(string.Formatter().parse(text))
        except ValueError as error:
            expected = f"text with {{column}} in it ({error})"
            raise InvalidValue.of("--template", text, expected) from None
        if any(name == "" or conversion for _, name, _, conversion in pieces):
            raise InvalidValue.of("--template", text, "a column's name between the braces")
        self._pieces = [(literal, name, spec or "") for literal, name, spec, _ in pieces]

    def render(self, columns: Mapping[str, Any]) -> str:
        """Return the text with the columns put in; raises InvalidValue for a column that is not there."""
        parts = []
        for literal, name, spec in self._pieces:
            parts.append(literal)
            if name is not None:
                if name not in columns:
                    there = ", ".join(columns) or "none"
                    raise InvalidValue.of(
                        "--template", f"{{{name}}}", f"one of the columns {there}"
                    )
                try:
                    parts.append(format(columns[name], spec))
                except (TypeError, ValueError) as error:
                    raise InvalidValue.of("--template", f"{{{name}:{spec}}}", str(error)) from None
        return "".join(parts)


def request_fields(columns: Mapping[str, Any], template: TextTemplate | None) -> dict[str, Any]:
    """Return the fields of the request that a row stands for.

    With a template, columns that are no fields of GenerationRequest are kept in its `metadata`.
    """
    if template is None:
        _require_fields(columns)
        return dict(columns)
    known = {name: value for name, value in columns.items() if name in _FIELDS}
    others = {name: value for name, value in columns.items() if name not in _FIELDS}
    given = known.get("metadata")
    if others and (given is None or isinstance(given, Mapping)):
        known["metadata"] = {**(given or {}), **others}
    known["user"] = template.render(columns)
    return known


def _require_fields(columns: Mapping[str, Any]) -> None:
    """Raise InvalidValue for a column that is no field, with the closest one and the way to have it as it is."""
    for name in columns:
        if name not in _FIELDS:
            close = get_close_matches(name, _FIELDS, n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise InvalidValue(
                f"{name[:80]!r} is no field of a request{meant}, such as user, system and model; "
                "--template makes the question of any columns"
            )


def spread_columns(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return CSV cells as the values of fields: an empty cell leaves its field unset.

    Cells of text fields are text, those of other fields JSON; ``metadata.country`` and
    ``sampling.temperature`` are columns for a part of a field.
    Columns that are no fields stay as text, for a template or for the error that names them.
    Raises InvalidValue naming the column.
    """
    values: dict[str, Any] = {}
    for column, cell in cells.items():
        name, _, part = column.partition(".")
        if name in _MAPPINGS and part:
            if cell != "":
                whole = values.setdefault(name, {})
                if not isinstance(whole, dict):
                    raise InvalidValue.of(
                        f"column {name!r}", whole, f"a mapping, as {column!r} is there too"
                    )
                whole[part] = cell if name == "metadata" else _from_json(column, cell)
        elif column not in _FIELDS:
            values[column] = cell
        elif cell != "":
            values[column] = cell if column in _TEXT_FIELDS else _from_json(column, cell)
    return values


def _from_json(column: str, cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        raise InvalidValue.of(f"column {column!r}", cell, "JSON, as it is no text field") from None
