"""instructor: `python -m benchmarks.peers.instructor_sdk BASE_URL`."""

from __future__ import annotations

import sys

import instructor
from benchmarks.peers.question import (
    ANSWER_START,
    CHUNKS,
    MESSAGES,
    MODEL,
    POPULATION,
)
from benchmarks.peers.worker import at_once, repeated, serve, streamed
from openai import AsyncOpenAI
from pydantic import BaseModel

CLIENT = instructor.from_openai(AsyncOpenAI(api_key="key", base_url=sys.argv[1], max_retries=0))


class City(BaseModel):
    name: str
    country: str
    population: int


async def plain() -> None:
    reply = await CLIENT.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_model=None
    )
    assert reply.choices[0].message.content.startswith(ANSWER_START)


async def stream() -> int:
    seen = 0
    async for chunk in await CLIENT.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_model=None, stream=True
    ):
        seen += bool(chunk.choices and chunk.choices[0].delta.content)
    assert seen == CHUNKS
    return seen


async def structured() -> None:
    city = await CLIENT.chat.completions.create(model=MODEL, messages=MESSAGES, response_model=City)
    assert city.population == POPULATION


if __name__ == "__main__":
    serve(
        {
            "plain call": lambda: repeated(plain),
            "stream": lambda: streamed(stream),
            "structured call": lambda: repeated(structured),
            "many": lambda: at_once(plain),
        }
    )
