from __future__ import annotations

import asyncio
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from llm_core import ConfigurationError, InvalidValue, MissingCredentials, Provider, UnknownModel
from llm_core.testing import ScriptedProvider
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider, ProviderRegistry


def registry(*points: EntryPoint, **providers: Any) -> ProviderRegistry:
    return ProviderRegistry(providers, find_entry_points=lambda: points)


@pytest.mark.parametrize(
    ("model", "kind", "name"),
    [
        ("gpt-4o", OpenAIProvider, "gpt-4o"),
        ("GPT-5-mini", OpenAIProvider, "GPT-5-mini"),
        ("o3", OpenAIProvider, "o3"),
        ("o4-mini", OpenAIProvider, "o4-mini"),
        ("ft:gpt-4o:acme::1", OpenAIProvider, "ft:gpt-4o:acme::1"),
        ("text-embedding-3-small", OpenAIProvider, "text-embedding-3-small"),
        ("claude-opus-4-8", AnthropicProvider, "claude-opus-4-8"),
        ("llama3", OllamaProvider, "llama3"),
        ("qwen3:8b", OllamaProvider, "qwen3:8b"),
        ("gpt-oss:20b", OllamaProvider, "gpt-oss:20b"),
        ("hf.co/org/model:Q4", OllamaProvider, "hf.co/org/model:Q4"),
        ("openai/whatever", OpenAIProvider, "whatever"),
        ("anthropic/claude-x", AnthropicProvider, "claude-x"),
        ("ollama/gpt-4o", OllamaProvider, "gpt-4o"),
    ],
)
def test_models_find_their_provider(model: str, kind: type, name: str) -> None:
    provider, resolved = registry().resolve(model)
    assert type(provider) is kind
    assert resolved == name


@pytest.mark.parametrize("model", ["gemini-3-pro", "olympus", "nowhere/model", "o", "/x", "gpt/"])
def test_an_unknown_model_lists_the_candidates(model: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        registry(mine=ScriptedProvider()).resolve(model)
    words = str(caught.value)
    for expected in (
        repr(model),
        "anthropic, mine, ollama, openai",
        "add_endpoint",
        "install the extra",
    ):
        assert expected in words
    assert f"mine/{model}" in caught.value.details["candidates"]


def test_a_route_makes_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    registry = ProviderRegistry()
    assert registry.route("gpt-5-mini") == ("openai", "gpt-5-mini")
    assert registry.route("ollama/qwen3") == ("ollama", "qwen3")
    with pytest.raises(UnknownModel):
        registry.route("nobody/x")


def test_a_provider_is_made_once_and_shared() -> None:
    known = registry()
    assert known.resolve("gpt-4o").provider is known.resolve("openai/x").provider


def test_own_patterns_go_before_the_built_in_ones() -> None:
    mine = ScriptedProvider()
    known = registry()
    known.register("mine", mine, patterns=["GPT-4o*", "special"])
    assert known.resolve("gpt-4o-mini").provider is mine
    assert known.resolve("special").provider is mine
    assert isinstance(known.resolve("gpt-5").provider, OpenAIProvider)


def test_two_own_patterns_that_fit_are_ambiguous() -> None:
    known = registry()
    known.register("a", ScriptedProvider(), patterns=["x-*"])
    known.register("b", ScriptedProvider(), patterns=["*-1"])
    with pytest.raises(UnknownModel, match="expected one of a/x-1, b/x-1"):
        known.resolve("x-1")
    assert known.resolve("b/x-1").model == "x-1"


async def test_a_provider_can_be_swapped_while_the_program_runs() -> None:
    first, second = ScriptedProvider(), ScriptedProvider()
    known = registry(mine=first)
    in_flight = known.resolve("mine/x").provider
    known.register("mine", second)
    assert in_flight is first
    assert known.resolve("mine/x").provider is second
    assert not first.closed
    async with known:
        pass
    assert first.closed
    assert second.closed


async def test_providers_that_take_turns_are_closed_once_each() -> None:
    class Counting(ScriptedProvider):
        closings = 0

        async def aclose(self) -> None:
            self.closings += 1

    first, second = Counting(), Counting()
    async with ProviderRegistry({"own": first}) as registry:
        for provider in (second, first, first, second, first):
            registry.register("own", provider)
    assert (first.closings, second.closings) == (1, 1)


async def test_a_provider_that_breaks_while_closing_keeps_no_other_from_being_closed() -> None:
    class Breaking(ScriptedProvider):
        async def aclose(self) -> None:
            raise OSError("broken pipe")

    class Slow(ScriptedProvider):
        async def aclose(self) -> None:
            await asyncio.sleep(0)
            await super().aclose()

    slow = Slow()
    registry = ProviderRegistry({"breaking": Breaking(), "slow": slow})
    with pytest.raises(OSError, match="broken pipe"):
        await registry.aclose()
    assert slow.closed


def test_a_factory_is_called_when_first_needed() -> None:
    made: list[Provider] = []

    def make() -> Provider:
        made.append(ScriptedProvider())
        return made[-1]

    known = registry(lazy=make)
    assert made == []
    assert known.resolve("lazy/x").provider is made[0]
    assert known.get("lazy") is made[0]
    assert len(made) == 1


def test_a_class_is_a_factory() -> None:
    assert isinstance(registry(mine=OllamaProvider).resolve("mine/x").provider, OllamaProvider)


@pytest.mark.usefixtures("no_keys")
def test_an_endpoint_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    known = registry()
    known.add_endpoint("vllm", "http://localhost:8000/v1", patterns=["my-*"])
    provider, model = known.resolve("vllm/meta/llama")
    assert isinstance(provider, OpenAIProvider)
    assert (provider.name, model) == ("vllm", "meta/llama")
    assert repr(provider) == (
        "OpenAIProvider(name='vllm', api='chat_completions', base_url='http://localhost:8000/v1')"
    )
    assert known.resolve("my-model").provider is provider
    assert provider._make_client().api_key == "no-key-needed"


@pytest.mark.usefixtures("no_keys")
def test_an_endpoint_may_have_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "or-key")
    known = registry()
    known.add_endpoint(
        "openrouter", "https://openrouter.test/v1", api_key_variable="OPENROUTER_API_KEY"
    )
    known.add_endpoint("own", "https://own.test/v1", api_key="own-key", api="responses")
    router, own = known.get("openrouter"), known.get("own")
    assert isinstance(router, OpenAIProvider)
    assert isinstance(own, OpenAIProvider)
    assert router._make_client().api_key == "or-key"
    assert own._make_client().api_key == "own-key"
    assert "own-key" not in repr(own) + str(vars(own))


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_cannot_be_written_before_a_slash_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="a name without '/'"):
        registry().register(name, ScriptedProvider())


def test_what_is_no_provider_is_refused() -> None:
    with pytest.raises(InvalidValue, match="a provider or a factory"):
        registry().register("x", 3)  # type: ignore[arg-type]


def test_an_unknown_provider_lists_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match="anthropic, ollama, openai"):
        registry().get("nobody")


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make() -> Provider:
        return ScriptedProvider(name="acme")

    make.model_patterns = ("acme-*",)  # type: ignore[attr-defined]

    def other() -> Provider:
        return ScriptedProvider(name="other")

    other.model_patterns = ("*-both",)  # type: ignore[attr-defined]
    module = SimpleNamespace(make=make, other=other)
    monkeypatch.setitem(sys.modules, "acme_llm", module)  # type: ignore[arg-type]
    return module


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group="llm_providers")


@pytest.mark.usefixtures("third_party")
def test_installed_third_parties_are_found_by_name_and_pattern() -> None:
    points = (point("acme", "acme_llm:make"), point("other", "acme_llm:other"))
    known = registry(*points)
    assert known.resolve("acme/x").provider.name == "acme"
    assert known.resolve("acme-large").provider is known.get("acme")
    assert known.names() == ("acme", "anthropic", "ollama", "openai", "other")
    with pytest.raises(UnknownModel, match=r"acme/acme-both, other/acme-both"):
        known.resolve("acme-both")


def test_two_packages_with_one_name_are_an_error_that_names_both() -> None:
    known = registry(point("acme", "a:x"), point("acme", "b:y"))
    with pytest.raises(ConfigurationError, match="a:x and b:y"):
        known.names()


@pytest.mark.parametrize("model", ["broken/x", "some-unknown-model"])
def test_a_package_that_cannot_be_loaded_is_named(model: str) -> None:
    known = registry(point("broken", "no_such_module_here:make"))
    with pytest.raises(ConfigurationError, match=r"'broken' of an installed package cannot be"):
        known.resolve(model)


def test_the_real_entry_points_can_be_read() -> None:
    assert {"openai", "anthropic", "ollama"} <= set(ProviderRegistry().names())


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize(
    ("provider", "variable"),
    [(OpenAIProvider(), "OPENAI_API_KEY"), (AnthropicProvider(), "ANTHROPIC_API_KEY")],
)
def test_a_missing_key_names_its_variable(provider: Any, variable: str) -> None:
    with pytest.raises(MissingCredentials, match=f"set {variable} in the environment"):
        provider.check()
