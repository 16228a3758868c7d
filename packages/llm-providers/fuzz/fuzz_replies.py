"""Coverage-guided fuzzing of everything that reads what a server sends. Not part of the test run.

    pip install atheris   # CPython 3.11
    python packages/llm-providers/fuzz/fuzz_replies.py -max_total_time=60

The first byte of an input chooses the provider, the second what is done with it, the third the status and how the body is cut;
the rest is the body. Whatever leaves a provider and is no ProviderError, and whatever stream has not exactly one terminal event,
is a finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["llm_providers"]):
    from datetime import UTC, datetime

    from llm_core import (
        AudioPart,
        GenerationRequest,
        LLMCallRequest,
        Message,
        ProviderError,
        StreamDone,
        StreamFailed,
        Tool,
    )
    from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider
    from llm_providers.rate_limit_headers import read_rate_limits, read_retry_after
    from llm_providers.testing import CannedTransport

Make = Callable[[CannedTransport], OpenAIProvider | AnthropicProvider | OllamaProvider]

PROVIDERS: tuple[Make, ...] = (
    lambda transport: OpenAIProvider("key", transport=transport),
    lambda transport: OpenAIProvider("key", api="chat_completions", transport=transport),
    lambda transport: AnthropicProvider("key", transport=transport),
    lambda transport: OllamaProvider(transport=transport),
)
STATUSES = (200, 200, 200, 400, 404, 429, 500, 529)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = LLMCallRequest(
    model="m", messages=(Message.user("Hi"),), tools=(Tool(name="t", parameters={}),)
)
WISHES = [GenerationRequest(model="m", messages=(Message.user("Hi"),))]
LOOP = asyncio.new_event_loop()


async def _invoke(provider: OpenAIProvider) -> None:
    await provider.invoke(REQUEST)


async def _stream(provider: OpenAIProvider) -> None:
    events = [event async for event in provider.stream(REQUEST)]
    ends = [isinstance(event, (StreamDone, StreamFailed)) for event in events]
    assert sum(ends) == 1
    assert ends[-1]


async def _others(provider: OpenAIProvider) -> None:
    await provider.list_models()


async def _embed(provider: OpenAIProvider) -> None:
    if hasattr(provider, "embed"):
        await provider.embed(["a"], model="m")


async def _transcribe(provider: OpenAIProvider) -> None:
    if hasattr(provider, "transcribe"):
        await provider.transcribe(AudioPart(data=b"x", format="wav"))


async def _batches(provider: OpenAIProvider) -> None:
    if hasattr(provider, "batches"):
        await provider.batches.poll("b")
        await provider.batches.results("b", WISHES)


OPERATIONS = (_stream, _invoke, _stream, _others, _embed, _transcribe, _batches)


def one_input(data: bytes) -> None:
    """Give one body to one provider, and its beginning to the readers of headers."""
    if len(data) < 3:
        return
    body = data[3:]
    step = data[2] // len(STATUSES) % 16
    chunks = [body[at : at + step] for at in range(0, len(body), step)] if step else [body]
    transport = CannedTransport(body, status=STATUSES[data[2] % len(STATUSES)], chunks=chunks)
    provider = PROVIDERS[data[0] % len(PROVIDERS)](transport)
    text = body[:64].decode("latin-1")
    headers = {"retry-after": text, "retry-after-ms": text, "x-ratelimit-reset-tokens": text}
    read_rate_limits(headers | {"anthropic-ratelimit-tokens-reset": text}, NOW)
    read_retry_after({"retry-after": text}, NOW)
    with contextlib.suppress(ProviderError):
        LOOP.run_until_complete(OPERATIONS[data[1] % len(OPERATIONS)](provider))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
