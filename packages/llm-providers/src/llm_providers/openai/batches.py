"""OpenAI's Batch API: a file of requests in, files of replies out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llm_core import (
    ErrorInfo,
    ErrorType,
    GenerationRequest,
    GenerationResult,
    InvalidValue,
    ProviderError,
)
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

__all__ = ["OpenAIBatches"]

MAX_REQUESTS = 50_000
MAX_FILE_BYTES = 200 * 1024 * 1024
"""OpenAI's guide «Batch API», section «Rate limits»."""

_STATES = {
    "cancelling": BatchState.CANCELLING,
    "completed": BatchState.ENDED,
    "expired": BatchState.ENDED,
    "cancelled": BatchState.ENDED,
    "failed": BatchState.FAILED,
}


class OpenAIBatches(VendorBatches):
    """Batches of one provider; all requests of a batch go to one endpoint, so they must speak one dialect."""

    path = "/batches"

    async def submit(self, requests: Sequence[GenerationRequest]) -> Batch:
        """Upload all requests and start the batch; raises InvalidValue for what one batch cannot hold."""
        lines = []
        endpoints = set()
        for position, call in enumerate(calls_of(requests, MAX_REQUESTS)):
            prepared = self._provider.dialect_for(call).prepare(call, stream=False)
            url = "/v1" + prepared.path
            endpoints.add(url)
            line = {
                "custom_id": custom_id(position),
                "method": "POST",
                "url": url,
                "body": prepared.body,
            }
            lines.append(encode_json(line))
        if len(endpoints) > 1:
            raise InvalidValue.of(
                "batches.submit.requests", sorted(endpoints), "requests for one endpoint only"
            )
        content = b"\n".join(lines)
        if len(content) > MAX_FILE_BYTES:
            raise InvalidValue.of(
                "batches.submit.requests", len(content), f"at most {MAX_FILE_BYTES} bytes"
            )
        uploaded = await self._provider.send_json(
            WireCall(
                path="/files",
                form={"purpose": "batch"},
                files={"file": ("batch.jsonl", content, "application/jsonl")},
            )
        )
        body = {
            "input_file_id": id_in(uploaded, self._provider.name),
            "endpoint": endpoints.pop(),
            "completion_window": "24h",
        }
        return self._batch(
            await self._provider.send_json(WireCall(path=self.path, content=encode_json(body)))
        )

    async def results(
        self, batch_id: str, requests: Sequence[GenerationRequest]
    ) -> tuple[GenerationResult[str], ...]:
        """Return one result per request, in their order; raises ProviderError while the batch is under way."""
        batch = await self.poll(batch_id)
        if batch.state not in (BatchState.ENDED, BatchState.FAILED):
            words = (
                f"batch {batch_id!r} is {batch.state.value}: wait for it before reading its results"
            )
            info = ErrorInfo.of(ErrorType.INVALID_REQUEST, words, provider=self._provider.name)
            raise ProviderError(info)
        outcomes: dict[str, BatchOutcome] = {}
        for field in ("output_file_id", "error_file_id"):
            file_id = text_at(batch.raw, field)
            if file_id:
                call = WireCall(path=f"/files/{file_id}/content", method="GET")
                outcomes |= self._outcomes(await self._provider.send(call), requests)
        return in_order(
            outcomes,
            requests,
            provider=self._provider.name,
            missing=self._missing(text_at(batch.raw, "status"), batch.raw),
            clock=self._clock,
        )

    def _outcome(self, entry: dict[str, Any], request: GenerationRequest) -> BatchOutcome:
        response = dict_at(entry, "response")
        body, status = dict_at(response, "body"), int_at(response, "status_code")
        error = find_error(entry) or (find_error(body) if status >= 300 else None)
        if error is not None:
            return self._failure(error, status, request.model or "")
        request_id = text_at(response, "request_id") or None
        return self._answer(body, request, status=status or 200, provider_request_id=request_id)

    def _failure(self, error: VendorError, status: int, model: str) -> ErrorInfo:
        if error.code == "batch_expired":
            return _unanswered("expired", error.message, self._provider.name)
        if error.code == "batch_cancelled":
            return _unanswered("cancelled", error.message, self._provider.name)
        return super()._failure(error, status, model)

    def _missing(self, status: str, raw: dict[str, Any]) -> ErrorInfo:
        words = f"the batch is {status} and holds no answer to this request"
        if status == "failed":
            words = f"the batch failed: {json.dumps(dict_at(raw, 'errors'))[:500]}"
        return _unanswered(status, words, self._provider.name)

    def _batch(self, payload: dict[str, Any]) -> Batch:
        counts = dict_at(payload, "request_counts")
        return Batch(
            provider=self._provider.name,
            id=id_in(payload, self._provider.name),
            state=_STATES.get(text_at(payload, "status"), BatchState.IN_PROGRESS),
            total=int_at(counts, "total"),
            succeeded=int_at(counts, "completed"),
            failed=int_at(counts, "failed"),
            raw=payload,
        )


def _unanswered(status: str, message: str, provider: str) -> ErrorInfo:
    """Describe a request of a batch that nobody answered; one that expired may be sent again."""
    kinds = {"expired": ErrorType.TIMEOUT_DEADLINE, "cancelled": ErrorType.CANCELLED}
    error_type = kinds.get(status, ErrorType.SERVER_ERROR)
    if status == "failed":
        error_type = ErrorType.INVALID_REQUEST
    return ErrorInfo.of(
        error_type, message, code=status, provider=provider, retryable=status == "expired"
    )
