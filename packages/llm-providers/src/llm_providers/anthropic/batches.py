"""Anthropic's Message Batches."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from llm_core import (
    Clock,
    ErrorInfo,
    ErrorType,
    GenerationRequest,
    GenerationResult,
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
    wait_for,
)
from llm_providers.classify import VendorError, classify, find_error
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import MalformedBody, dict_at, int_at, parse_object, text_at
from llm_providers.provider import BaseLLMProvider, encode_json
from llm_providers.reply import ReplyFrame
from llm_providers.wire import WireCall, WireReply

__all__ = ["AnthropicBatches"]

MAX_REQUESTS = 100_000
"""Anthropic's guide «Batch processing», section «Batch limitations»."""

_PATH = "/v1/messages/batches"
_STATES = {"ended": BatchState.ENDED, "canceling": BatchState.CANCELLING}


class AnthropicBatches:
    """Batches of one provider."""

    def __init__(self, provider: BaseLLMProvider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock

    async def submit(self, requests: Sequence[GenerationRequest]) -> Batch:
        """Send all requests in one body; raises InvalidValue for none or too many."""
        entries = []
        for position, call in enumerate(calls_of(requests, MAX_REQUESTS)):
            prepared = self._provider.dialect_for(call).prepare(call, stream=False)
            entries.append({"custom_id": custom_id(position), "params": prepared.body})
        call_of_all = WireCall(path=_PATH, content=encode_json({"requests": entries}))
        return self._batch(await self._provider.send_json(call_of_all))

    async def poll(self, batch_id: str) -> Batch:
        """Return how the batch stands now."""
        call = WireCall(path=f"{_PATH}/{batch_id}", method="GET")
        return self._batch(await self._provider.send_json(call))

    async def cancel(self, batch_id: str) -> Batch:
        """Ask for the batch to be given up."""
        call = WireCall(path=f"{_PATH}/{batch_id}/cancel", content=b"{}")
        return self._batch(await self._provider.send_json(call))

    async def wait(self, batch_id: str, *, interval_seconds: float = 60.0) -> Batch:
        """Poll until the batch is over."""
        return await wait_for(self, batch_id, interval_seconds, self._clock)

    async def results(
        self, batch_id: str, requests: Sequence[GenerationRequest]
    ) -> tuple[GenerationResult[str], ...]:
        """Return one result per request, in their order; raises ProviderError while the batch is under way."""
        reply = await self._provider.send(
            WireCall(path=f"{_PATH}/{batch_id}/results", method="GET")
        )
        by_id = {custom_id(position): request for position, request in enumerate(requests)}
        outcomes: dict[str, BatchOutcome] = {}
        for line in reply.content.splitlines():
            with contextlib.suppress(
                MalformedBody
            ):  # a line that is none leaves its request missing
                entry = parse_object(line)
                key = text_at(entry, "custom_id")
                if key in by_id:
                    outcomes[key] = self._read(reply, dict_at(entry, "result"), by_id[key])
        missing = self._unanswered("missing", "the batch's results hold no answer to this request")
        return in_order(
            outcomes, requests, provider=self._provider.name, missing=missing, clock=self._clock
        )

    def _read(
        self, reply: WireReply, result: dict[str, Any], request: GenerationRequest
    ) -> BatchOutcome:
        """Read one line; one that cannot be read is the failure of its request, not of all."""
        try:
            with self._provider.reading(reply, model=request.model):
                return self._outcome(result, request)
        except ProviderError as failure:
            return failure.info

    def _outcome(self, result: dict[str, Any], request: GenerationRequest) -> BatchOutcome:
        kind = text_at(result, "type")
        model = request.model or ""
        if kind == "expired":
            return self._unanswered(kind, "the batch ended before this request was answered")
        if kind == "canceled":
            return self._unanswered(
                kind, "the batch was cancelled before this request was answered"
            )
        if kind != "succeeded":
            error = find_error(dict_at(result, "error")) or VendorError(message=f"result {kind!r}")
            return self._failure(error, model)
        call = request.to_call(model)
        dialect = self._provider.dialect_for(call)
        prepared = dialect.prepare(call, stream=False)
        frame = ReplyFrame(
            provider=self._provider.name,
            model=model,
            schema_tool=prepared.schema_tool,
            structured_by=prepared.structured_by,
            dropped=prepared.dropped,
        )
        try:
            return dialect.read(dict_at(result, "message"), frame)
        except VendorFailure as failure:
            return self._failure(failure.error, model)

    def _failure(self, error: VendorError, model: str) -> ErrorInfo:
        return classify(
            error,
            status=200,
            headers={},
            provider=self._provider.name,
            model=model,
            now=self._clock.now(),
        )

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
