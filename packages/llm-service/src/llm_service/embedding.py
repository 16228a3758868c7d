"""Texts as vectors, on the same way as every other call: gates, retries, ledger, deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from llm_core import (
    BackoffStats,
    Clock,
    Cost,
    ErrorInfo,
    ErrorType,
    FrozenDict,
    GenerationRequest,
    GenerationResult,
    InvalidValue,
    LLMCallRequest,
    Provider,
    ProviderResponse,
    StepContext,
    StreamEvent,
    TextPart,
    UnsupportedFeature,
    Usage,
)
from llm_service.estimate import estimate_text_tokens
from llm_service.fan_out import fan_out

__all__ = [
    "EMBEDDING_METADATA",
    "EmbeddingProvider",
    "TakeVectors",
    "batches",
    "embedding_resolver",
    "merged",
    "send_all",
]

EMBEDDING_METADATA = FrozenDict({"gen_ai.operation.name": "embeddings"})
"""By this, spans and metrics follow the conventions for embeddings."""

# OpenAI takes 2,048 texts and 300,000 tokens in one call (API reference, «Create embeddings»); the token count
# here is rough, so a batch stays well below.
_MAX_TEXTS = 2_048
_MAX_TOKENS = 150_000
_CALLS_AT_ONCE = 4


class EmbeddingProvider:
    """A provider whose answer to a message is the vectors of its text parts, in `raw`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._embed: Any = getattr(provider, "embed", None)

    @property
    def name(self) -> str:
        """The name of the provider that embeds."""
        return self._provider.name

    @property
    def server_address(self) -> Any:
        """Where that provider's endpoint is, if it tells."""
        return getattr(self._provider, "server_address", None)

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        """Embed the text parts; UnsupportedFeature if the provider has no embeddings."""
        if self._embed is None:
            raise UnsupportedFeature(f"provider {self.name!r} has no embeddings")
        parts = request.messages[0].content
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        dimensions = request.provider_options.get("dimensions")
        made = await self._embed(texts, model=request.model, dimensions=dimensions)
        return ProviderResponse(
            provider=self.name, model=made.model, usage=made.usage, raw=made.vectors
        )

    def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        """Refuse: vectors come whole."""
        raise UnsupportedFeature("embeddings are not streamed")

    async def aclose(self) -> None:
        """Leave the provider open: its owner closes it."""


class TakeVectors:
    """The step from an embedding reply to its vectors."""

    name = "vectors"

    def run(self, content: Any, context: StepContext) -> tuple[tuple[float, ...], ...]:
        """Return the vectors, one per text."""
        assert context.response is not None, "the engine gives every step the reply"
        vectors: tuple[tuple[float, ...], ...] = context.response.raw
        return vectors


def embedding_resolver(
    resolve: Callable[[str | None], tuple[Provider, str]],
) -> Callable[[str | None], tuple[Provider, str]]:
    """Return a resolver whose providers embed."""

    def resolve_embedding(model: str | None) -> tuple[Provider, str]:
        provider, name = resolve(model)
        return EmbeddingProvider(provider), name

    return resolve_embedding


def batches(texts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Split texts into what one call takes, in order; InvalidValue for what is no text or empty."""
    if isinstance(texts, str):
        raise InvalidValue.of("texts", texts, "a list of texts, not one text")
    batch: list[str] = []
    tokens = 0
    for position, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise InvalidValue.of(f"texts[{position}]", text, "a text that is not empty")
        needed = estimate_text_tokens(text)
        if batch and (len(batch) == _MAX_TEXTS or tokens + needed > _MAX_TOKENS):
            yield tuple(batch)
            batch, tokens = [], 0
        batch.append(text)
        tokens += needed
    if batch:
        yield tuple(batch)


async def send_all(
    requests: Sequence[GenerationRequest],
    send: Callable[[GenerationRequest], Awaitable[GenerationResult[Any]]],
    *,
    clock: Clock,
) -> list[GenerationResult[Any]]:
    """Return the results of all batches in order, a few sent at a time; after a failure no more are sent.

    The deadline of the requests holds for all of them together.
    """
    began = clock.monotonic_ns()
    failed = False

    def unsent() -> Iterator[GenerationRequest]:
        yield requests[0]
        for request in requests[1:]:
            left = _remaining_seconds(request, clock.monotonic_ns() - began)
            if failed or left == 0:
                return
            yield request if left is None else request.replace(deadline_seconds=left)

    async def note(request: GenerationRequest) -> GenerationResult[Any]:
        nonlocal failed
        result = await send(request)
        failed = failed or not result.success
        return result

    answered = fan_out(note, unsent(), width=_CALLS_AT_ONCE, in_order=True)
    return [result async for _, result in answered]


def _remaining_seconds(request: GenerationRequest, elapsed_ns: int) -> float | None:
    if request.deadline_seconds is None:
        return None
    return max(request.deadline_seconds - elapsed_ns / 1e9, 0.0)


def merged(results: Sequence[GenerationResult[Any]], *, expected: int) -> GenerationResult[Any]:
    """Return the results of `expected` batches as one; it fails as the first of them that failed.

    If some of them were never sent and none failed, the deadline has passed.
    The points in time are those of the batch that failed or ended last, from when the first one was requested.
    """
    failed = next((result for result in results if not result.success), None)
    last = failed or max(results, key=lambda result: result.timestamps.completed or 0)
    if expected == 1:
        return last
    error = None if failed is None else failed.error
    if failed is None and len(results) < expected:
        sent = f"{len(results)} of {expected} batches"
        error = ErrorInfo.of(ErrorType.TIMEOUT_DEADLINE, f"the deadline passed after {sent}")
    attempts = chain.from_iterable(result.attempts for result in results)
    vectors = chain.from_iterable(result.content or () for result in results)
    first = results[0].timestamps
    return replace(
        last,
        success=error is None,
        error=error,
        content=tuple(vectors) if error is None else None,
        timestamps=replace(
            last.timestamps,
            requested_at=first.requested_at,
            requested=first.requested,
            completed=max(result.timestamps.completed or 0 for result in results),
        ),
        usage=sum((result.usage for result in results), Usage()),
        cost=Cost.total(result.cost for result in results),
        attempts=tuple(replace(a, number=n) for n, a in enumerate(attempts, 1)),
        backoff=_summed([result.backoff for result in results]),
        steps=tuple(chain.from_iterable(result.steps for result in results)),
    )


def _summed(waits: Sequence[BackoffStats]) -> BackoffStats:
    by_limit: dict[str, float] = {}
    for name, seconds in chain.from_iterable(each.gate_wait_by_limit.items() for each in waits):
        by_limit[name] = by_limit.get(name, 0.0) + seconds
    return BackoffStats(
        gate_waits=sum(each.gate_waits for each in waits),
        gate_wait_seconds=sum(each.gate_wait_seconds for each in waits),
        gate_wait_by_limit=by_limit,
        backoffs=sum(each.backoffs for each in waits),
        backoff_seconds=sum(each.backoff_seconds for each in waits),
        retry_after_seconds=sum(each.retry_after_seconds for each in waits),
    )
