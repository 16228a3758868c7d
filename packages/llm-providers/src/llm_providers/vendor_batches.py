"""What the vendors' batch APIs have in common: they are polled by id, and answer in lines of JSON, one per request."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from llm_core import Clock, ErrorInfo, GenerationRequest, ProviderError
from llm_providers.batch import Batch, BatchOutcome, BatchState, custom_id
from llm_providers.classify import VendorError, classify
from llm_providers.dialect import VendorFailure
from llm_providers.json_reading import MalformedBody, parse_object, text_at
from llm_providers.provider import BaseLLMProvider
from llm_providers.reply import ReplyFrame
from llm_providers.wire import WireCall, WireReply

__all__ = ["VendorBatches"]


class VendorBatches(ABC):
    """Batches of one provider."""

    path: ClassVar[str]
    """Where the vendor keeps its batches."""

    def __init__(self, provider: BaseLLMProvider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock

    async def poll(self, batch_id: str) -> Batch:
        """Return how the batch stands now."""
        call = WireCall(path=f"{self.path}/{batch_id}", method="GET")
        return self._batch(await self._provider.send_json(call))

    async def cancel(self, batch_id: str) -> Batch:
        """Ask for the batch to be given up."""
        call = WireCall(path=f"{self.path}/{batch_id}/cancel", content=b"{}")
        return self._batch(await self._provider.send_json(call))

    async def wait(self, batch_id: str, *, interval_seconds: float = 60.0) -> Batch:
        """Poll until the batch is over."""
        while True:
            batch = await self.poll(batch_id)
            if batch.state in (BatchState.ENDED, BatchState.FAILED):
                return batch
            await self._clock.sleep(interval_seconds)

    @abstractmethod
    def _batch(self, payload: dict[str, Any]) -> Batch:
        """Read the vendor's description of a batch."""

    @abstractmethod
    def _outcome(self, entry: dict[str, Any], request: GenerationRequest) -> BatchOutcome:
        """Read what became of one request."""

    def _outcomes(
        self, reply: WireReply, requests: Sequence[GenerationRequest]
    ) -> dict[str, BatchOutcome]:
        """Read a reply of lines; what is no line of any of the requests is passed over."""
        by_id = {custom_id(position): request for position, request in enumerate(requests)}
        outcomes: dict[str, BatchOutcome] = {}
        for line in reply.content.splitlines():
            with contextlib.suppress(MalformedBody):  # its request is missing then
                entry = parse_object(line)
                key = text_at(entry, "custom_id")
                if key in by_id:
                    outcomes[key] = self._read(reply, entry, by_id[key])
        return outcomes

    def _read(
        self, reply: WireReply, entry: dict[str, Any], request: GenerationRequest
    ) -> BatchOutcome:
        """Read one line; one that cannot be read is the failure of its request, not of all."""
        try:
            with self._provider.reading(reply, model=request.model):
                return self._outcome(entry, request)
        except ProviderError as failure:
            return failure.info

    def _answer(
        self,
        payload: dict[str, Any],
        request: GenerationRequest,
        *,
        status: int,
        provider_request_id: str | None = None,
    ) -> BatchOutcome:
        """Read a reply as the request's own dialect does when it is sent alone."""
        model = request.model or ""
        call = request.to_call(model)
        dialect = self._provider.dialect_for(call)
        prepared = dialect.prepare(call, stream=False)
        frame = ReplyFrame(
            provider=self._provider.name,
            model=model,
            schema_tool=prepared.schema_tool,
            structured_by=prepared.structured_by,
            dropped=prepared.dropped,
            audio_format=prepared.audio_format,
            provider_request_id=provider_request_id,
        )
        try:
            return dialect.read(payload, frame)
        except VendorFailure as failure:
            return self._failure(failure.error, status, model)

    def _failure(self, error: VendorError, status: int, model: str) -> ErrorInfo:
        """Say what the vendor's error about one request means."""
        return classify(
            error,
            status=status,
            headers={},
            provider=self._provider.name,
            model=model,
            now=self._clock.now(),
        )
