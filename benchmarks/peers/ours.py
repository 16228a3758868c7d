"""This project: `python -m benchmarks.peers.ours BASE_URL`."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.peers.question import ANSWER_START, CHUNKS, MODEL, PER_MINUTE, POPULATION, QUESTION
from benchmarks.peers.worker import Batch, repeated, serve, streamed
from pydantic import BaseModel

from llm_core import LLMCallRequest, Message, StreamDone, TextDelta
from llm_metrics import PriceBook
from llm_providers import OpenAIProvider
from llm_service import BaseLLMService

BASE_URL = sys.argv[1]
PRICES = PriceBook()
REQUEST = LLMCallRequest(model=MODEL, messages=(Message.user(QUESTION),))


class City(BaseModel):
    name: str
    country: str
    population: int


def provider(api: Any = "chat_completions") -> OpenAIProvider:
    return OpenAIProvider("key", BASE_URL, api)


def service() -> BaseLLMService:
    """Gates for requests, tokens and concurrency, breaker, retries, metrics, usage and cost are all on."""
    return BaseLLMService(
        model=MODEL,
        provider=provider(),
        max_rpm=PER_MINUTE,
        max_tpm=PER_MINUTE * 1_000,
        max_concurrent_requests=64,
        price_book=PRICES,
        telemetry="none",
    )


def plain(api: str) -> Batch:
    bare = provider(api)

    async def call() -> None:
        response = await bare.invoke(REQUEST)
        assert response.text.startswith(ANSWER_START)
        assert response.rate_limits is not None

    return repeated(call)


def stream(api: str) -> Batch:
    bare = provider(api)

    async def once() -> int:
        seen = 0
        async for event in bare.stream(REQUEST):
            if type(event) is TextDelta:
                seen += 1
        assert type(event) is StreamDone
        assert seen == CHUNKS
        return seen

    return streamed(once)


def full_path() -> Batch:
    serving = service()

    async def call() -> None:
        result = await serving.generate(QUESTION, operation_name="bench", pipeline=str.strip)
        assert result.success, result.error

    return repeated(call)


def structured() -> Batch:
    serving = service()

    async def call() -> None:
        result = await serving.generate_structured(City, QUESTION)
        assert result.unwrap().population == POPULATION

    return repeated(call)


def many() -> Batch:
    serving = service()

    async def run(times: int) -> int:
        questions = (f"question {number}" for number in range(times))
        succeeded = 0
        async for _, result in serving.generate_many(questions, in_flight=16):
            succeeded += result.success
        return succeeded

    return run


if __name__ == "__main__":
    serve(
        {
            "plain call": lambda: plain("chat_completions"),
            "plain call, Responses": lambda: plain("responses"),
            "stream": lambda: stream("chat_completions"),
            "stream, Responses": lambda: stream("responses"),
            "full path": full_path,
            "structured call": structured,
            "many": many,
        }
    )
