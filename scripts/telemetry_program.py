"""A program that does not know which telemetry backend is installed: the nox session `telemetry` swaps them beneath it.

It makes one call's events and prints the names of the backends that took them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from llm_core import (
    ConfigurationError,
    EventTimestamps,
    GenerationFinished,
    GenerationRequest,
    GenerationResult,
    GenerationStarted,
)
from llm_metrics import TelemetryFanOut, choose_telemetry


def main() -> None:
    """Choose, tell, close, and print what was chosen, or why nothing could be."""
    try:
        telemetry = choose_telemetry()
    except ConfigurationError as error:
        print(error)
        return
    request = GenerationRequest(user="Where is Lima?", model="gpt-5-mini")
    timestamps = EventTimestamps(requested_at=datetime.now(UTC), requested=0, completed=10**9)
    result = GenerationResult(success=True, content="Peru", request=request, timestamps=timestamps)
    telemetry.emit(GenerationStarted(request_id="call-1", at_ns=0, request=request))
    telemetry.emit(GenerationFinished(request_id="call-1", at_ns=10**9, result=result))
    telemetry.close(5)
    if isinstance(telemetry, TelemetryFanOut):
        assert telemetry.faults == {}
        print(*(type(backend).__name__ for backend in telemetry.backends))
    else:
        print(type(telemetry).__name__)


if __name__ == "__main__":
    main()
