"""Anthropic's Message Batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_core import ErrorInfo, ErrorType, GenerationRequest, GenerationResult
from llm_providers.batch import (
    Batch,
    BatchOutcome,
    BatchState,
    calls_of,
    custom_id,
    id_in,
    in_order,
)
from llm_providers.classify import VendorError, find_error
from llm_providers.json_reading import dict_at, int_at, text_at
from llm_providers.provider import encode_json
from llm_providers.vendor_batches import VendorBatches
from llm_providers.wire import WireCall

__all__ = ["AnthropicBatches"]

MAX_REQUESTS = 100_000
"""Anthropic's guide «Batch processing», section «Batch limitations»."""

_STATES = {"ended": BatchState.ENDED, "canceling": BatchState.CANCELLING}


class AnthropicBatches(VendorBatches):
    """Batches of one provider."""

    path = "/v1/messages/batches"

    async def submit(self, requests: Sequence[GenerationRequest]) -> Batch:
        """Send all requests in one body; raises InvalidValue for none or too many."""
        entries = []
        for position, call in enumerate(calls_of(requests, MAX_REQUESTS)):
            prepared = self._provider.dialect_for(call).prepare(call, stream=False)
            entries.append({"custom_id": custom_id(position), "params": prepared.body})
        call_of_all = WireCall(path=self.path, content=encode_json({"requests": entries}))
        return self._batch(await self._provider.send_json(call_of_all))

    async def results(
        self, batch_id: str, requests: Sequence[GenerationRequest]
    ) -> tuple[GenerationResult[str], ...]:
        """Return one result per request, in their order; raises ProviderError while the batch is under way."""
        call = WireCall(path=f"{self.path}/{batch_id}/results", method="GET")
        outcomes = self._outcomes(await self._provider.send(call), requests)
        missing = self._unanswered("missing", "the batch's results hold no answer to this request")
        return in_order(
            outcomes, requests, provider=self._provider.name, missing=missing, clock=self._clock
        )

    def _outcome(self, entry: dict[str, Any], request: GenerationRequest) -> BatchOutcome:
        result = dict_at(entry, "result")
        kind = text_at(result, "type")
        if kind == "expired":
            return self._unanswered(kind, "the batch ended before this request was answered")
        if kind == "canceled":
            return self._unanswered(
                kind, "the batch was cancelled before this request was answered"
            )
        if kind != "succeeded":
            error = find_error(dict_at(result, "error")) or VendorError(message=f"result {kind!r}")
            return self._failure(error, 200, request.model or "")
        return self._answer(dict_at(result, "message"), request, status=200)

    def _unanswered(self, kind: str, message: str) -> ErrorInfo:
        kinds = {"expired": ErrorType.TIMEOUT_DEADLINE, "canceled": ErrorType.CANCELLED}
        return ErrorInfo.of(
            kinds.get(kind, ErrorType.SERVER_ERROR),
            message,
            code=kind,
            provider=self._provider.name,
            retryable=kind == "expired",
        )

    def _batch(self, payload: dict[str, Any]) -> Batch:
        counts = dict_at(payload, "request_counts")
        failed = sum(int_at(counts, kind) for kind in ("errored", "canceled", "expired"))
        succeeded = int_at(counts, "succeeded")
        return Batch(
            provider=self._provider.name,
            id=id_in(payload, self._provider.name),
            state=_STATES.get(text_at(payload, "processing_status"), BatchState.IN_PROGRESS),
            total=succeeded + failed + int_at(counts, "processing"),
            succeeded=succeeded,
            failed=failed,
            raw=payload,
        )
