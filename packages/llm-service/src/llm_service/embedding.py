"""Texts as vectors, on the same way as every other call: gates, retries, ledger, deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from llm_core import (
    Cost,
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

__all__ = ["EmbeddingProvider", "TakeVectors", "batches", "embedding_resolver", "merged"]

# OpenAI takes 2,048 texts and 300,000 tokens in one call (API reference, «Create embeddings»); the token count
# here is rough, so a batch stays well below.
_MAX_TEXTS = 2_048
_MAX_TOKENS = 150_000


class EmbeddingProvider:
    """A provider whose answer to a message is the vectors of its text parts, in `raw`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._embed: Any = getattr(provider, "embed", None)

    @property
    def name(self) -> str:
        """The name of the provider that embeds."""
        return self._provider.name

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


def merged(results: Sequence[GenerationResult[Any]]) -> GenerationResult[Any]:
    """Return the results of all batches as one; it fails as the first of them that failed."""
    failed = next((result for result in results if not result.success), None)
    last = failed or results[-1]
    if len(results) == 1:
        return last
    attempts = chain.from_iterable(result.attempts for result in results)
    vectors = chain.from_iterable(result.content or () for result in results)
    return replace(
        last,
        content=None if failed else tuple(vectors),
        timestamps=replace(
            results[0].timestamps,
            completed=max(result.timestamps.completed or 0 for result in results),
        ),
        usage=sum((result.usage for result in results), Usage()),
        cost=Cost.total(result.cost for result in results),
        attempts=tuple(replace(a, number=n) for n, a in enumerate(attempts, 1)),
    )
