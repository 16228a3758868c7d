"""Batches and speech against llm-sim over real HTTP, and llm-sim's own provider in the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_core import ErrorType, GenerationRequest, ProviderError
from llm_providers import AnthropicProvider, BatchState, OpenAIProvider
from llm_providers.testing import (
    ANSWER,
    PROMPT,
    TOOL_ARGUMENTS,
    TOOL_PROMPT,
    check_answer,
    check_closing,
    check_stream_protocol,
    check_structured,
    check_tool_call,
)
from llm_sim import SimProvider, SimServer

RULES = [
    {"exact": PROMPT, "reply": ANSWER},
    {
        "exact": TOOL_PROMPT,
        "turns": [{"tool_calls": [{"name": "weather", "arguments": TOOL_ARGUMENTS}]}, ANSWER],
    },
    {"exact": "one", "reply": "eins"},
    {"exact": "two", "reply": "zwei"},
]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer(RULES) as server:
        yield server


@pytest.fixture(scope="module")
def slow_sim() -> Iterator[SimServer]:
    with SimServer(RULES, batch_seconds=3600) as server:
        yield server


def _wishes(model: str) -> list[GenerationRequest]:
    return [GenerationRequest(user=text, model=model) for text in ("one", "two")]


def _providers(sim: SimServer) -> list[tuple[OpenAIProvider | AnthropicProvider, str]]:
    return [
        (OpenAIProvider("key", sim.openai_base_url), "gpt-4o"),
        (OpenAIProvider("key", sim.openai_base_url, "chat_completions"), "gpt-4o"),
        (AnthropicProvider("key", sim.anthropic_base_url), "claude-sonnet-4-5"),
    ]


async def test_a_batch_is_submitted_and_read_in_order(sim: SimServer) -> None:
    for provider, model in _providers(sim):
        async with provider:
            wishes = _wishes(model)
            batch = await provider.batches.submit(wishes)
            ended = await provider.batches.wait(batch.id, interval_seconds=0.01)
            assert ended.state is BatchState.ENDED
            results = await provider.batches.results(batch.id, wishes)
            assert [result.content for result in results] == ["eins", "zwei"]
            assert all(result.usage.output_tokens > 0 for result in results)


async def test_a_batch_under_way_has_no_results_and_may_be_cancelled(slow_sim: SimServer) -> None:
    for provider, model in _providers(slow_sim):
        async with provider:
            wishes = _wishes(model)
            batch = await provider.batches.submit(wishes)
            assert batch.state is BatchState.IN_PROGRESS
            with pytest.raises(ProviderError):
                await provider.batches.results(batch.id, wishes)
            cancelled = await provider.batches.cancel(batch.id)
            assert cancelled.state in (BatchState.CANCELLING, BatchState.ENDED)


async def test_a_batch_that_nobody_knows_is_an_error(sim: SimServer) -> None:
    for provider, _ in _providers(sim):
        async with provider:
            with pytest.raises(ProviderError) as caught:
                await provider.batches.poll("nobody")
            assert caught.value.info.type in (
                ErrorType.INVALID_REQUEST,
                ErrorType.MODEL_NOT_FOUND,
            )


async def test_speech_goes_out_and_comes_back_as_text(sim: SimServer) -> None:
    async with OpenAIProvider("key", sim.openai_base_url) as provider:
        spoken = await provider.speak("Good morning", voice="alloy", format="wav")
        assert spoken.data.startswith(b"RIFF")
        heard = await provider.transcribe(spoken)
        assert heard.text


async def test_the_simulators_own_provider_conforms() -> None:
    provider = SimProvider(RULES)
    await check_answer(provider, model="gpt-4o")
    await check_stream_protocol(provider, model="gpt-4o")
    await check_tool_call(provider, model="gpt-4o")
    await check_structured(provider, model="gpt-4o")
    await check_closing(provider, model="gpt-4o")
