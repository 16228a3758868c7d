"""OpenAI's ``POST /embeddings``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_core import Usage
from llm_providers.embedding import read_vector
from llm_providers.json_reading import MalformedBody, dicts_at, int_at
from llm_providers.structured import merged_options

__all__ = ["MAX_TEXTS", "MAX_TOKENS", "prepare_embeddings", "read_embeddings"]

MAX_TEXTS = 2048
"""Texts per call (openai 3.54, ``EmbeddingCreateParams.input``)."""
MAX_TOKENS = 300_000
"""Tokens per call, over all texts (the same docstring)."""


def prepare_embeddings(
    texts: Sequence[str], model: str, dimensions: int | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the body; vectors are asked for as base64, which is a quarter of the bytes."""
    body: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "base64"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    return merged_options(body, options)


def read_embeddings(
    payload: Mapping[str, Any], count: int
) -> tuple[list[tuple[float, ...]], Usage]:
    """Return the vectors in the order of the texts; raises MalformedBody unless there are `count` of them."""
    vectors: dict[int, tuple[float, ...]] = {}
    for position, item in enumerate(dicts_at(payload, "data")):
        index = item.get("index", position)
        if type(index) is not int:
            raise MalformedBody(f"an embedding whose index is {index!r}")
        vectors[index] = read_vector(item.get("embedding"))
    if sorted(vectors) != list(range(count)):
        raise MalformedBody(f"{len(vectors)} embeddings for {count} texts")
    used = Usage(input_tokens=int_at(payload, "usage", "prompt_tokens"))
    return [vectors[index] for index in range(count)], used
