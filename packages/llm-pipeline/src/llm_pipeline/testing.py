"""A working fake of `Generate`, for tests of steps that ask a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llm_core import ErrorInfo, EventTimestamps, GenerationRequest, GenerationResult, SystemClock

__all__ = ["ScriptedGenerate"]


class ScriptedGenerate:
    """Answers from a list, in order, then repeats the last; keeps every call in `calls` as (request, purpose)."""

    def __init__(self, replies: Iterable[str | ErrorInfo]) -> None:
        self._replies = list(replies)
        self.calls: list[tuple[GenerationRequest, str]] = []

    async def __call__(self, request: GenerationRequest, *, purpose: str) -> GenerationResult[Any]:
        """Give the next reply of the script; an ErrorInfo makes a failed result."""
        reply = self._replies[min(len(self.calls), len(self._replies) - 1)]
        self.calls.append((request, purpose))
        failed = isinstance(reply, ErrorInfo)
        return GenerationResult(
            request=request,
            success=not failed,
            timestamps=_now(),
            content=None if failed else reply,
            raw_content=None if failed else str(reply),
            error=reply if isinstance(reply, ErrorInfo) else None,
            request_id=f"scripted-{len(self.calls)}",
        )


def _now() -> EventTimestamps:
    clock = SystemClock()
    return EventTimestamps(requested_at=clock.now(), requested=clock.monotonic_ns())
