"""The bare openai SDK: `python -m benchmarks.peers.openai_sdk BASE_URL`."""

from __future__ import annotations

import sys

from benchmarks.peers.question import ANSWER_START, CHUNKS, MESSAGES, MODEL, POPULATION
from benchmarks.peers.worker import at_once, repeated, serve, streamed
from openai import AsyncOpenAI
from pydantic import BaseModel

SDK = AsyncOpenAI(api_key="key", base_url=sys.argv[1], max_retries=0)


class City(BaseModel):
    name: str
    country: str
    population: int


async def plain() -> None:
    reply = await SDK.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert (reply.choices[0].message.content or "").startswith(ANSWER_START)


async def plain_responses() -> None:
    reply = await SDK.responses.create(model=MODEL, input=MESSAGES)
    assert reply.output_text.startswith(ANSWER_START)


async def stream() -> int:
    seen = 0
    async for chunk in await SDK.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ):
        seen += bool(chunk.choices and chunk.choices[0].delta.content)
    assert seen == CHUNKS
    return seen


async def stream_responses() -> int:
    seen = 0
    async for event in await SDK.responses.create(model=MODEL, input=MESSAGES, stream=True):
        seen += event.type == "response.output_text.delta"
    assert seen == CHUNKS
    return seen


async def structured() -> None:
    reply = await SDK.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=City)
    city = reply.choices[0].message.parsed
    assert city is not None
    assert city.population == POPULATION


if __name__ == "__main__":
    serve(
        {
            "plain call": lambda: repeated(plain),
            "plain call, Responses": lambda: repeated(plain_responses),
            "stream": lambda: streamed(stream),
            "stream, Responses": lambda: streamed(stream_responses),
            "structured call": lambda: repeated(structured),
            "many": lambda: at_once(plain),
        }
    )
