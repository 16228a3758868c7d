"""What the model may use and what shape its answer must have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from llm_core.frozen import EMPTY
from llm_core.record import CheckedRecord, require
from llm_core.value import immutable

__all__ = ["ResponseSchema", "Tool", "ToolChoice", "ToolChoiceMode"]

# OpenAI and Anthropic both document ^[a-zA-Z0-9_-]{1,64}$ for function and tool names.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAME_RULE = "1 to 64 letters, digits, underscores or hyphens"


@immutable
class Tool(CheckedRecord):
    """A function that the model may ask to be run."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = EMPTY
    """JSON Schema of the arguments, an object schema; empty means no arguments."""
    strict: bool = False
    """Ask the vendor to make the arguments satisfy the schema exactly."""

    def _validate(self) -> None:
        require(self, "name", _NAME.fullmatch(self.name) is not None, _NAME_RULE)


class ToolChoiceMode(StrEnum):
    """How free the model is in using tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    """At least one tool call, whichever."""
    NAMED = "named"
    """A call of the tool named in `ToolChoice.name`."""


@immutable
class ToolChoice(CheckedRecord):
    """Which tools the model must or must not use."""

    mode: ToolChoiceMode = ToolChoiceMode.AUTO
    name: str | None = None
    """The tool to call: given if, and only if, `mode` is ``named``."""
    parallel: bool = True
    """Whether several calls may come in one reply."""

    def _validate(self) -> None:
        if self.mode is ToolChoiceMode.NAMED:
            require(self, "name", bool(self.name), "a tool's name, as mode is 'named'")
        else:
            require(self, "name", self.name is None, f"None, as mode is {self.mode.value!r}")


@immutable
class ResponseSchema(CheckedRecord):
    """The JSON Schema that the answer must satisfy."""

    name: str
    json_schema: Mapping[str, Any]
    description: str | None = None
    strict: bool = True
    """Ask the vendor to enforce the schema while generating, where it can."""

    def _validate(self) -> None:
        require(self, "name", _NAME.fullmatch(self.name) is not None, _NAME_RULE)
        require(self, "json_schema", len(self.json_schema) > 0, "a JSON Schema, not empty")
