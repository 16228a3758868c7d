"""The real vendors: `hatch run test -m live`, with keys in the environment. Each test costs a fraction of a cent."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_core import (
    FinishReason,
    LLMCallRequest,
    Message,
    Provider,
    ProviderError,
    ResponseSchema,
    StreamDone,
)
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

VENDORS: dict[str, tuple[str, Any, str]] = {
    "openai-responses": ("OPENAI_API_KEY", OpenAIProvider, "gpt-4o-mini"),
    "openai-chat": (
        "OPENAI_API_KEY",
        lambda: OpenAIProvider(api="chat_completions"),
        "gpt-4o-mini",
    ),
    "anthropic": ("ANTHROPIC_API_KEY", AnthropicProvider, "claude-haiku-4-5"),
    "ollama": ("OLLAMA_HOST", OllamaProvider, os.environ.get("OLLAMA_MODEL", "llama3.2")),
}

CITY = ResponseSchema(
    name="city",
    json_schema={
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    },
)


@pytest.fixture(params=list(VENDORS))
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Provider, str]]:
    variable, make, model = VENDORS[request.param]
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: set it to test against the real {request.param}")
    provider = make()
    yield provider, model
    await provider.aclose()


def asking(model: str, text: str, **fields: Any) -> LLMCallRequest:
    return LLMCallRequest(
        model=model, messages=(Message.user(text),), max_output_tokens=100, **fields
    )


async def test_a_plain_call(vendor: tuple[Provider, str]) -> None:
    provider, model = vendor
    reply = await provider.invoke(asking(model, "What is the capital of France? One word."))
    assert "Paris" in reply.text
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert reply.finish_reason is FinishReason.STOP


async def test_a_stream(vendor: tuple[Provider, str]) -> None:
    provider, model = vendor
    request = asking(model, "What is the capital of France? One word.")
    events = [event async for event in provider.stream(request)]
    assert isinstance(events[-1], StreamDone)
    assert "Paris" in events[-1].response.text


async def test_structured_output(vendor: tuple[Provider, str]) -> None:
    provider, model = vendor
    request = asking(model, "The capital of France, as JSON.", response_schema=CITY)
    reply = await provider.invoke(request)
    assert '"Paris"' in reply.text
    assert reply.structured_by


async def test_an_unknown_model(vendor: tuple[Provider, str]) -> None:
    provider, _ = vendor
    with pytest.raises(ProviderError) as caught:
        await provider.invoke(asking("no-such-model-1", "Hi"))
    assert caught.value.info.type.value == "model_not_found"


async def test_the_list_of_models(vendor: tuple[Provider, str]) -> None:
    provider, _ = vendor
    assert isinstance(provider, (OpenAIProvider, AnthropicProvider, OllamaProvider))
    assert await provider.list_models()
