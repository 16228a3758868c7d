"""Texts as vectors: the result, and how many texts go into one call."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from llm_core import InvalidValue, Record, Usage, immutable
from llm_providers.json_reading import MalformedBody
from llm_providers.token_estimate import estimate_text_tokens

__all__ = ["Embeddings", "embed_in_batches", "read_vector"]


@immutable
class Embeddings(Record):
    """One vector per text, in the order of the texts."""

    provider: str
    model: str
    """The model that answered, as the vendor names it."""
    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()
    """Sum over all calls that the texts were split into."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors; 0 if there are none."""
        return len(self.vectors[0]) if self.vectors else 0


EmbedOnce = Callable[[Sequence[str]], Awaitable[tuple[list[tuple[float, ...]], Usage, str]]]
"""Embeds texts that fit into one call; returns vectors, usage and the model's name."""


async def embed_in_batches(
    texts: Sequence[str],
    embed_once: EmbedOnce,
    *,
    provider: str,
    model: str,
    max_texts: int,
    max_tokens: int,
) -> Embeddings:
    """Embed any number of texts, call after call; raises what `embed_once` raises, and InvalidValue for empty texts."""
    if isinstance(texts, str):
        raise InvalidValue.of("embed.texts", texts, "a sequence of texts, not one text")
    for position, text in enumerate(texts):
        if not text:
            raise InvalidValue.of(f"embed.texts[{position}]", text, "a text that is not empty")
    vectors: list[tuple[float, ...]] = []
    usage = Usage()
    for batch in _batches(texts, max_texts, max_tokens):
        made, used, model = await embed_once(batch)
        vectors += made
        usage += used
    return Embeddings(provider=provider, model=model, vectors=tuple(vectors), usage=usage)


def _batches(texts: Sequence[str], max_texts: int, max_tokens: int) -> Iterator[Sequence[str]]:
    """Split by count and by estimated tokens; a text above the limit goes alone and is the vendor's to judge."""
    batch: list[str] = []
    tokens = 0
    for text in texts:
        weight = estimate_text_tokens(text)
        if batch and (len(batch) >= max_texts or tokens + weight > max_tokens):
            yield batch
            batch, tokens = [], 0
        batch.append(text)
        tokens += weight
    if batch:
        yield batch


def read_vector(value: Any) -> tuple[float, ...]:
    """Return a vector from a JSON list or base64 of little-endian 32-bit floats; raises MalformedBody."""
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
            return struct.unpack(f"<{len(data) // 4}f", data)
        except (binascii.Error, ValueError, struct.error):
            raise MalformedBody("an embedding that is no base64 of 32-bit floats") from None
    if isinstance(value, list) and all(type(number) in (int, float) for number in value):
        return tuple(value)
    raise MalformedBody("an embedding that is no list of numbers")
