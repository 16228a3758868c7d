"""Every provider against llm-sim over real HTTP. Stalls and slow bodies wait in real time, a second at most."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from llm_core import ErrorType, LLMCallRequest, Message, Provider, ProviderError
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider
from llm_providers.testing import (
    ANSWER,
    FAULT_TABLE,
    PROMPT,
    TOOL_ARGUMENTS,
    TOOL_PROMPT,
    FaultRow,
    check_answer,
    check_closing,
    check_fault,
    check_stream_protocol,
    check_structured,
    check_tool_call,
    fault_table_markdown,
)
from llm_sim import SimServer
from llm_sim.faults import FAULTS, Faults

# One loop for the module: a client is made for each loop, and making one reads the certificates.
pytestmark = pytest.mark.asyncio(loop_scope="module")

IDLE_SECONDS = 0.5

Made = tuple[Provider, str]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Import the SDKs beforehand: on a loaded machine that takes longer than the limits here."""
    for name in ("openai", "anthropic", "ollama"):
        importlib.import_module(name)


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    call = {"name": "weather", "arguments": TOOL_ARGUMENTS}
    rules = [
        {"exact": PROMPT, "reply": ANSWER},
        {"exact": TOOL_PROMPT, "turns": [{"tool_calls": [call]}, ANSWER]},
    ]
    with SimServer(rules, faults=Faults(slow_seconds=0.1, stall_seconds=30)) as server:
        yield server


def _responses(sim: SimServer) -> Made:
    provider = OpenAIProvider("key", sim.openai_base_url, idle_timeout_seconds=IDLE_SECONDS)
    return provider, "gpt-4o"


def _chat(sim: SimServer) -> Made:
    provider = OpenAIProvider(
        "key",
        sim.openai_base_url,
        "chat_completions",
        idle_timeout_seconds=IDLE_SECONDS,
    )
    return provider, "gpt-4o"


def _anthropic(sim: SimServer) -> Made:
    provider = AnthropicProvider(
        "key",
        sim.anthropic_base_url,
        idle_timeout_seconds=IDLE_SECONDS,
    )
    return provider, "claude-sonnet-4-5"


def _ollama(sim: SimServer) -> Made:
    provider = OllamaProvider(sim.ollama_base_url, idle_timeout_seconds=IDLE_SECONDS)
    return provider, "llama3"


MAKERS = (_responses, _chat, _anthropic, _ollama)


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=MAKERS,
    ids=[maker.__name__[1:] for maker in MAKERS],
)
async def made(request: pytest.FixtureRequest, sim: SimServer) -> AsyncIterator[Made]:
    maker: Callable[[SimServer], Made] = request.param
    provider, model = maker(sim)
    yield provider, model
    await provider.aclose()


async def test_plain_and_streamed_calls_agree(made: Made) -> None:
    await check_answer(made[0], model=made[1])


async def test_a_stream_keeps_the_protocol(made: Made) -> None:
    await check_stream_protocol(made[0], model=made[1])


async def test_tools_are_called(made: Made) -> None:
    await check_tool_call(made[0], model=made[1])


async def test_schemas_are_satisfied(made: Made) -> None:
    await check_structured(made[0], model=made[1])


async def test_closing_early_leaves_nothing_open(made: Made) -> None:
    await check_closing(made[0], model=made[1])


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("row", FAULT_TABLE, ids=lambda row: row.fault)
async def test_faults(made: Made, row: FaultRow, streamed: bool) -> None:
    provider, model = made
    await check_fault(provider, row, streamed=streamed, model=model, idle_seconds=IDLE_SECONDS)


async def test_the_simulator_sees_one_request_a_call_whatever_the_failure(
    made: Made, sim: SimServer
) -> None:
    provider, model = made
    before = len(sim.calls())
    request = LLMCallRequest(
        model=model, messages=(Message.user("x"),), headers={"x-llm-sim-fault": "500"}
    )
    with pytest.raises(ProviderError) as caught:
        await provider.invoke(request)
    assert caught.value.info.type is ErrorType.SERVER_ERROR
    assert len(sim.calls()) == before + 1


async def test_models_are_listed(made: Made) -> None:
    provider, _ = made
    assert isinstance(provider, (OpenAIProvider, AnthropicProvider, OllamaProvider))
    models = await provider.list_models()
    assert models
    assert all(model.id and model.provider == provider.name for model in models)


async def test_texts_become_vectors(made: Made) -> None:
    provider, _ = made
    if isinstance(provider, AnthropicProvider):
        assert not hasattr(provider, "embed")
        return
    assert isinstance(provider, (OpenAIProvider, OllamaProvider))
    model = "text-embedding-3-small" if isinstance(provider, OpenAIProvider) else "llama3"
    one = await provider.embed(["cat", "dog"], model=model)
    other = await provider.embed(["dog", "cat"], model=model)
    assert len(one.vectors) == 2
    assert one.dimensions > 1
    assert one.vectors == other.vectors[::-1]
    assert one.usage.input_tokens > 0


async def test_tokens_are_counted(made: Made) -> None:
    provider, model = made
    assert isinstance(provider, (OpenAIProvider, AnthropicProvider, OllamaProvider))
    request = LLMCallRequest(model=model, messages=(Message.user("one two three four " * 20),))
    counted = await provider.count_tokens(request)
    assert 60 < counted.input_tokens < 200


async def test_the_documented_table_is_the_tested_one() -> None:
    page = Path(__file__).parents[1] / "docs" / "failures.md"
    assert fault_table_markdown() in page.read_text(encoding="utf-8")


async def test_every_fault_of_the_simulator_is_in_the_table_or_known_to_be_undetectable() -> None:
    tabled = {row.fault for row in FAULT_TABLE}
    assert set(FAULTS) - tabled == {"duplicate_chunks"}


async def test_every_fault_appears_once() -> None:
    names = [row.fault for row in FAULT_TABLE]
    assert [name for name, group in itertools.groupby(sorted(names)) if len(list(group)) > 1] == []
