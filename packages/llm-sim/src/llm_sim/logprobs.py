"""Log probabilities of tokens: made up, but the same for the same token in every run."""

from __future__ import annotations

import zlib
from typing import Any

from llm_sim.exchange import Json

MOST_ALTERNATIVES = 20
"""OpenAI's and Ollama's limit of `top_logprobs`."""


def entry(token: str, alternatives: int) -> Json:
    """Make a token's entry with its likeliest alternatives, the token itself first."""
    own = _single(token, -(zlib.crc32(token.encode("utf-8", "replace")) % 1000) / 2000)
    others = [_single(f"{token}{i}", own["logprob"] - 1.5 * i) for i in range(1, alternatives)]
    return {**own, "top_logprobs": [own, *others] if alternatives else []}


def entries(tokens: tuple[str, ...], alternatives: Any) -> list[Json]:
    """Make the entries of a text's tokens."""
    return [entry(token, alternatives or 0) for token in tokens]


def _single(token: str, logprob: float) -> Json:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}
