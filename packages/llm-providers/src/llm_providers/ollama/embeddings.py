"""Ollama's ``POST /api/embed``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_core import Usage
from llm_providers.embedding import read_vector
from llm_providers.json_reading import MalformedBody, int_at
from llm_providers.structured import merged_options

__all__ = ["prepare_embed", "read_embed"]


def prepare_embed(
    texts: Sequence[str], model: str, dimensions: int | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the body; a text that is too long is an error, not silently cut (``truncate``)."""
    body: dict[str, Any] = {"model": model, "input": list(texts), "truncate": False}
    if dimensions is not None:
        body["dimensions"] = dimensions
    return merged_options(body, options)


def read_embed(payload: Mapping[str, Any], count: int) -> tuple[list[tuple[float, ...]], Usage]:
    """Return the vectors in the order of the texts; raises MalformedBody unless there are `count` of them."""
    given = payload.get("embeddings")
    vectors = [read_vector(item) for item in given] if isinstance(given, list) else []
    if len(vectors) != count:
        raise MalformedBody(f"{len(vectors)} embeddings for {count} texts")
    return vectors, Usage(input_tokens=int_at(payload, "prompt_eval_count"))
