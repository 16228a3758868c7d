"""langchain-openai: `python -m benchmarks.peers.langchain_sdk BASE_URL`."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.peers.question import ANSWER_START, CHUNKS, MODEL, POPULATION, QUESTION
from benchmarks.peers.worker import Batch, repeated, serve, streamed
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


def model(**more: Any) -> ChatOpenAI:
    return ChatOpenAI(model=MODEL, api_key="key", base_url=sys.argv[1], max_retries=0, **more)


class City(BaseModel):
    name: str
    country: str
    population: int


def plain(**more: Any) -> Batch:
    chat = model(**more)

    async def call() -> None:
        reply = await chat.ainvoke(QUESTION)
        assert reply.content.startswith(ANSWER_START)

    return repeated(call)


def stream() -> Batch:
    chat = model(stream_usage=True)

    async def once() -> int:
        seen = 0
        async for chunk in chat.astream(QUESTION):
            seen += bool(chunk.content)
        assert seen == CHUNKS
        return seen

    return streamed(once)


def limited() -> Batch:
    return plain(rate_limiter=InMemoryRateLimiter(requests_per_second=1e6, max_bucket_size=1e6))


def structured() -> Batch:
    chat = model().with_structured_output(City, method="json_schema")

    async def call() -> None:
        city = await chat.ainvoke(QUESTION)
        assert city.population == POPULATION

    return repeated(call)


def many() -> Batch:
    chat = model()

    async def run(times: int) -> int:
        questions = [f"question {number}" for number in range(times)]
        return len(await chat.abatch(questions, config={"max_concurrency": 16}))

    return run


if __name__ == "__main__":
    serve(
        {
            "plain call": plain,
            "stream": stream,
            "full path": limited,
            "structured call": structured,
            "many": many,
        }
    )
