"""Vendors' batch APIs in one form: submit, poll, cancel, and results in the order of the requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any, Protocol

from llm_core import (
    Clock,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    GenerationRequest,
    GenerationResult,
    InvalidValue,
    LLMCallRequest,
    ProviderError,
    ProviderResponse,
    Record,
    immutable,
)
from llm_providers.json_reading import text_at

__all__ = [
    "Batch",
    "BatchOutcome",
    "BatchState",
    "Batches",
    "calls_of",
    "custom_id",
    "id_in",
    "in_order",
]


class BatchState(StrEnum):
    """Where a batch stands."""

    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    """What is under way still ends; results come when it has."""
    ENDED = "ended"
    """Every request has a result, be it success, failure, cancelled or expired."""
    FAILED = "failed"
    """The batch as a whole was refused; `raw` says why."""


@immutable
class Batch(Record):
    """A batch as the vendor last described it; `id` is all that is needed to find it again."""

    provider: str
    id: str
    state: BatchState
    total: int = 0
    """Requests in the batch; 0 while the vendor has not counted them."""
    succeeded: int = 0
    failed: int = 0
    """Failed, cancelled or expired."""
    raw: Any = field(default=None, metadata={"json": False}, compare=False, repr=False)
    """The vendor's description as a plain dict; not written to JSON."""


class Batches(Protocol):
    """A vendor's batch API."""

    async def submit(self, requests: Sequence[GenerationRequest]) -> Batch:
        """Send all requests, to be answered within the vendor's window (24 hours)."""

    async def poll(self, batch_id: str) -> Batch:
        """Return how the batch stands now."""

    async def cancel(self, batch_id: str) -> Batch:
        """Ask for the batch to be given up; what has been answered is kept."""

    async def results(
        self, batch_id: str, requests: Sequence[GenerationRequest]
    ) -> tuple[GenerationResult[str], ...]:
        """Return one result per request, in their order; `requests` as they were submitted.

        Raises ProviderError while the batch is under way.
        """

    async def wait(self, batch_id: str, *, interval_seconds: float = 60.0) -> Batch:
        """Poll until the batch is over."""


BatchOutcome = ProviderResponse | ErrorInfo
"""What became of one request."""


def calls_of(requests: Sequence[GenerationRequest], max_requests: int) -> list[LLMCallRequest]:
    """Return the provider's view of each request; raises InvalidValue for none, too many, or one without model."""
    if not 1 <= len(requests) <= max_requests:
        raise InvalidValue.of(
            "batches.submit.requests", len(requests), f"1 to {max_requests} requests"
        )
    calls = []
    for position, request in enumerate(requests):
        if request.model is None:
            path = f"batches.submit.requests[{position}].model"
            raise InvalidValue.of(path, None, "the vendor's name of a model")
        calls.append(request.to_call(request.model))
    return calls


def id_in(payload: Mapping[str, Any], provider: str) -> str:
    """Return the id of what the vendor just described; raises ProviderError if there is none."""
    found = text_at(payload, "id")
    if not found:
        words = f"expected something with an id, got {sorted(payload)[:8]!r}"
        raise ProviderError(ErrorInfo.of(ErrorType.SERVER_ERROR, words, provider=provider))
    return found


def custom_id(position: int) -> str:
    """Return the id under which the request at `position` goes into a batch."""
    return f"request-{position:06d}"


def in_order(
    outcomes: Mapping[str, BatchOutcome],
    requests: Sequence[GenerationRequest],
    *,
    provider: str,
    missing: ErrorInfo,
    clock: Clock,
) -> tuple[GenerationResult[str], ...]:
    """Return one result per request; `missing` is what became of those that the vendor does not mention.

    The results' timestamps say only when they were fetched: a batch does not tell when each was answered.
    """
    fetched = EventTimestamps(requested_at=clock.now(), requested=clock.monotonic_ns())
    return tuple(
        _result(request, outcomes.get(custom_id(position), missing), provider, fetched)
        for position, request in enumerate(requests)
    )


def _result(
    request: GenerationRequest, outcome: BatchOutcome, provider: str, fetched: EventTimestamps
) -> GenerationResult[str]:
    if isinstance(outcome, ErrorInfo):
        return GenerationResult(
            request=request,
            success=False,
            timestamps=fetched,
            error=outcome,
            model=request.model,
            provider=provider,
            operation_name=request.operation_name,
            request_id=request.request_id or "",
        )
    failure = outcome.finish_reason.failure
    error = None
    if failure is not None:
        words = f"the reply ended with finish reason {outcome.finish_reason.value!r}"
        error = ErrorInfo.of(failure, words, provider=provider, model=outcome.model)
    return GenerationResult(
        request=request,
        success=error is None,
        timestamps=fetched,
        content=outcome.text if error is None else None,
        raw_content=outcome.text,
        error=error,
        usage=outcome.usage,
        finish_reason=outcome.finish_reason,
        reasoning=outcome.reasoning or None,
        tool_calls=outcome.tool_calls,
        audio=outcome.audio,
        model=outcome.model,
        provider=provider,
        operation_name=request.operation_name,
        request_id=request.request_id or "",
        response_id=outcome.response_id,
        structured_by=outcome.structured_by,
        dropped=outcome.dropped,
        raw=outcome.raw,
    )
