"""Texts as vectors: the provider's method, and the batches that its vendor takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from llm_core import (
    FrozenDict,
    InvalidValue,
    LLMCallRequest,
    ProviderResponse,
    TextPart,
)
from llm_service.estimate import estimate_text_tokens
from llm_service.pieces import ProviderMethod

__all__ = ["CALLS_AT_ONCE", "EMBEDDING_METADATA", "EmbeddingProvider", "batches", "joined_vectors"]

CALLS_AT_ONCE = 4
EMBEDDING_METADATA = FrozenDict({"gen_ai.operation.name": "embeddings"})
"""By this, spans and metrics follow the conventions for embeddings."""

# OpenAI takes 2,048 texts and 300,000 tokens in one call (API reference, «Create embeddings»); the token count
# here is rough, so a batch stays well below.
_MAX_TEXTS = 2_048
_MAX_TOKENS = 150_000


class EmbeddingProvider(ProviderMethod):
    """A provider whose answer to a message is the vectors of its text parts, in `raw`."""

    method = "embed"
    lacking = "embeddings"

    async def _invoke(self, request: LLMCallRequest) -> ProviderResponse:
        parts = request.messages[0].content
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        dimensions = request.provider_options.get("dimensions")
        made = await self._method(texts, model=request.model, dimensions=dimensions)
        return ProviderResponse(
            provider=self.name, model=made.model, usage=made.usage, raw=made.vectors
        )


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


def joined_vectors(batches: list[Any], complete: bool) -> dict[str, Any]:
    """Return the content of a result: the vectors of all batches, or None if one is missing."""
    return {"content": tuple(chain.from_iterable(batches)) if complete else None}
