"""litellm: `python -m benchmarks.peers.litellm_sdk BASE_URL`."""

from __future__ import annotations

import os
import sys
from typing import Any

# Else it fetches its prices from the network when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from benchmarks.peers.question import (
    ANSWER_START,
    CHUNKS,
    MESSAGES,
    MODEL,
    PER_MINUTE,
    POPULATION,
)
from benchmarks.peers.worker import Batch, at_once, repeated, serve, streamed
from pydantic import BaseModel

WHERE = {"model": f"openai/{MODEL}", "api_key": "key", "api_base": sys.argv[1]}


class City(BaseModel):
    name: str
    country: str
    population: int


async def plain() -> None:
    reply: Any = await litellm.acompletion(messages=MESSAGES, num_retries=0, **WHERE)
    assert reply.choices[0].message.content.startswith(ANSWER_START)


async def stream() -> int:
    seen = 0
    chunks: Any = await litellm.acompletion(
        messages=MESSAGES,
        num_retries=0,
        stream=True,
        stream_options={"include_usage": True},
        **WHERE,
    )
    async for chunk in chunks:
        seen += bool(chunk.choices and chunk.choices[0].delta.content)
    assert seen == CHUNKS
    return seen


async def structured() -> None:
    reply: Any = await litellm.acompletion(
        messages=MESSAGES, num_retries=0, response_format=City, **WHERE
    )
    city = City.model_validate_json(reply.choices[0].message.content)
    assert city.population == POPULATION


def routed() -> Batch:
    """Return calls through its Router, which counts requests and tokens a minute and retries."""
    deployment = {**WHERE, "rpm": PER_MINUTE, "tpm": PER_MINUTE * 1_000}
    router = litellm.Router(
        model_list=[{"model_name": MODEL, "litellm_params": deployment}],
        routing_strategy="usage-based-routing-v2",
        num_retries=2,
    )

    async def call() -> None:
        reply: Any = await router.acompletion(model=MODEL, messages=MESSAGES)
        assert reply.choices[0].message.content.startswith(ANSWER_START)

    return repeated(call)


if __name__ == "__main__":
    serve(
        {
            "plain call": lambda: repeated(plain),
            "stream": lambda: streamed(stream),
            "full path": routed,
            "structured call": lambda: repeated(structured),
            "many": lambda: at_once(plain),
        }
    )
