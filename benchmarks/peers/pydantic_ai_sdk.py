"""pydantic-ai: `python -m benchmarks.peers.pydantic_ai_sdk BASE_URL`."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.peers.question import ANSWER_START, MODEL, POPULATION, QUESTION
from benchmarks.peers.worker import Batch, at_once, repeated, serve, streamed
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def agent(output_type: Any = str) -> Any:
    provider = OpenAIProvider(base_url=sys.argv[1], api_key="key")
    return Agent(OpenAIChatModel(MODEL, provider=provider), output_type=output_type)


class City(BaseModel):
    name: str
    country: str
    population: int


PLAIN = agent()


async def plain() -> None:
    reply = await PLAIN.run(QUESTION)
    assert reply.output.startswith(ANSWER_START)


async def stream() -> int:
    seen = 0
    async with PLAIN.run_stream(QUESTION) as reply:
        async for _ in reply.stream_text(delta=True, debounce_by=None):
            seen += 1
    return seen


def structured() -> Batch:
    asking = agent(City)

    async def call() -> None:
        reply = await asking.run(QUESTION)
        assert reply.output.population == POPULATION

    return repeated(call)


if __name__ == "__main__":
    serve(
        {
            "plain call": lambda: repeated(plain),
            "stream": lambda: streamed(stream),
            "full path": lambda: repeated(plain),
            "structured call": structured,
            "many": lambda: at_once(plain),
        }
    )
