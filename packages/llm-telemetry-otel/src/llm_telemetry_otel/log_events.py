"""The events of the conventions that are log records: exceptions, and on request a call's details."""

from __future__ import annotations

import json
from typing import Any, Final

from opentelemetry._logs import (  # noqa: PLC2701 - OpenTelemetry's log API has no other name yet
    Logger,
    LogRecord,
    SeverityNumber,
)
from opentelemetry.context import Context

from llm_core import GenerationResult
from llm_core.conventions import request_attributes
from llm_telemetry_otel.messages import input_attributes, output_attributes

__all__ = ["EXCEPTION", "LogEvents"]

EXCEPTION: Final = "gen_ai.client.operation.exception"
_DETAILS: Final = "gen_ai.client.inference.operation.details"


class LogEvents:
    """Writes the events of finished calls to a logger."""

    def __init__(self, logger: Logger, *, details: bool) -> None:
        self._logger = logger
        self._details = details

    def exception(self, context: Context, at_ns: int, exception_type: str) -> None:
        """Write that a call failed, at `at_ns` (since 1970); without the message, which may tell secrets."""
        record = LogRecord(
            timestamp=at_ns,
            context=context,
            severity_number=SeverityNumber.WARN,
            attributes={"exception.type": exception_type},
            event_name=EXCEPTION,
        )
        self._logger.emit(record)

    def details(
        self, context: Context, at_ns: int, result: GenerationResult[Any], facts: dict[str, Any]
    ) -> None:
        """Write the call's attributes and what was said in it, if that was asked for."""
        if not self._details:
            return
        said = output_attributes(result)
        if result.request is not None:
            facts = request_attributes(result.request) | facts
            said |= input_attributes(result.request)
        # Spans take texts only; on events the conventions want the structure itself.
        structured = {name: json.loads(text) for name, text in said.items()}
        record = LogRecord(
            timestamp=at_ns, context=context, attributes=facts | structured, event_name=_DETAILS
        )
        self._logger.emit(record)
