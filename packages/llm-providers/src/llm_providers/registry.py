"""`ProviderRegistry`: from a model's name to the provider that speaks for it."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, cast

from llm_core import ConfigurationError, InvalidValue, Provider, UnknownModel
from llm_core.forks import begin_anew_in_children

__all__ = ["MODEL_PATTERNS", "ProviderRegistry", "ResolvedModel"]

ProviderFactory = Callable[[], Provider]
"""Makes a provider when it is first needed."""

_BUILT_IN: Mapping[str, str] = {
    "openai": "llm_providers.openai:OpenAIProvider",
    "anthropic": "llm_providers.anthropic:AnthropicProvider",
    "ollama": "llm_providers.ollama:OllamaProvider",
}

_INSTALL = "install the extra llm-providers[openai,anthropic,ollama]"

_OLLAMA_FAMILIES = (
    "llama",
    "qwen",
    "qwq",
    "gpt-oss",
    "mistral",
    "mixtral",
    "ministral",
    "devstral",
    "magistral",
    "codestral",
    "gemma",
    "phi",
    "deepseek-",
    "codellama",
    "tinyllama",
    "llava",
    "granite",
    "smollm",
    "command-r",
    "starcoder",
    "olmo",
    "nomic-embed",
    "mxbai-embed",
    "all-minilm",
    "bge-",
)
"""Beginnings of names in Ollama's library (https://ollama.com/library), whose models run on one's own machine."""

MODEL_PATTERNS: tuple[tuple[str, str], ...] = (
    ("ft:*", "openai"),
    ("claude-*", "anthropic"),
    ("*:*", "ollama"),
    *[(family + "*", "ollama") for family in _OLLAMA_FAMILIES],
    ("gpt-*", "openai"),
    ("chatgpt-*", "openai"),
    ("o[0-9]", "openai"),
    ("o[0-9]-*", "openai"),
    ("codex-*", "openai"),
    ("text-embedding-*", "openai"),
    ("tts-*", "openai"),
    ("whisper-*", "openai"),
)
"""Shell patterns for model names in lower case → provider; the first that fits decides.

A colon is Ollama's tag (``qwen3:8b``), except in OpenAI's fine-tuned models (``ft:gpt-4o:…``).
"""


class ResolvedModel(NamedTuple):
    """A provider, and the model's name as that provider knows it."""

    provider: Provider
    model: str


class _Entry:
    __slots__ = ("factory", "patterns", "provider")

    def __init__(
        self,
        factory: ProviderFactory,
        patterns: Sequence[str],
        provider: Provider | None,
    ) -> None:
        self.factory = factory
        self.patterns = tuple(pattern.lower() for pattern in patterns)
        self.provider = provider


class ProviderRegistry:
    """Knows OpenAI, Anthropic and Ollama, what is registered here, and installed third parties.

    Third parties are found in the entry point group ``llm_providers``: the entry point's name is the provider's,
    its object makes a provider when called without arguments and may carry `model_patterns`, a tuple of shell patterns.
    Providers are made when first needed, once per registry, and may be replaced at run time.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider | ProviderFactory] | None = None,
        *,
        find_entry_points: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(
            group="llm_providers"
        ),
    ) -> None:
        self._entries: dict[str, _Entry] = {}
        self._find_entry_points = find_entry_points
        self._installed: dict[str, EntryPoint] | None = None
        self._replaced: list[Provider] = []
        self.begin_anew()
        begin_anew_in_children(self)
        for name, provider in (providers or {}).items():
            self.register(name, provider)

    def begin_anew(self) -> None:
        """Wait for no thread that is making a provider: in a forked child there is none."""
        self._lock = threading.RLock()

    def register(
        self,
        name: str,
        provider: Provider | ProviderFactory,
        *,
        patterns: Sequence[str] = (),
    ) -> None:
        """Make `provider`, or what the factory will make, answer for ``name/…`` and the model names in `patterns`.

        A name that is taken is replaced from the next call on; calls under way keep the provider that they have.
        """
        if not name or "/" in name:
            raise InvalidValue.of("ProviderRegistry.name", name, "a name without '/'")
        # A provider's class has all of a provider's attributes, but is a factory.
        is_made = isinstance(provider, Provider) and not isinstance(provider, type)
        made = cast("Provider", provider) if is_made else None
        factory = cast("ProviderFactory", provider) if made is None else _constant(made)
        if not callable(factory):
            raise InvalidValue.of("ProviderRegistry.provider", provider, "a provider or a factory")
        with self._lock:
            previous = self._entries.get(name)
            before = None if previous is None else previous.provider
            self._replaced = [p for p in self._replaced if p is not made and p is not before]
            if before is not None and before is not made:
                self._replaced.append(before)
            self._entries[name] = _Entry(factory, patterns, made)

    def add_endpoint(
        self,
        name: str,
        base_url: str,
        *,
        api_key: str | None = None,
        api_key_variable: str | None = None,
        patterns: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Register a server that speaks OpenAI's Chat Completions: vLLM, llama.cpp, LM Studio, OpenRouter, ….

        `base_url` is what ends before ``/chat/completions``, such as ``http://localhost:8000/v1``.
        The environment's ``OPENAI_API_KEY`` is never sent there; name another variable, or give a key, if it wants one.
        `options` go to `OpenAIProvider`.
        """

        def make() -> Provider:
            from llm_providers.openai import OpenAIProvider

            settings = {"api": "chat_completions", **options}
            return OpenAIProvider(
                api_key,
                base_url,
                name=name,
                api_key_variable=api_key_variable,
                **settings,
            )

        self.register(name, make, patterns=patterns)

    def resolve(self, model: str) -> ResolvedModel:
        """Return who answers for `model`: ``provider/model``, or a name that some pattern knows.

        Patterns registered here go before the built-in ones, and those before the installed third parties'.
        Raises UnknownModel listing the candidates if none fits, or several registered ones do.
        """
        name, rest = self.route(model)
        return ResolvedModel(self.get(name), rest)

    def route(self, model: str) -> tuple[str, str]:
        """Return the name of who answers for `model`, and the model's own, as `resolve` does; makes no provider."""
        prefix, slash, rest = model.partition("/")
        if slash and rest and self._knows(prefix):
            return prefix, rest
        name = model.lower()
        registered = self._registered_for(name)
        if len(registered) > 1:
            raise _ambiguous(model, registered)
        if registered:
            return registered[0], model
        for pattern, provider in MODEL_PATTERNS:
            if fnmatchcase(name, pattern):
                return provider, model
        installed = self._installed_for(name)
        if len(installed) == 1:
            return installed[0], model
        if installed:
            raise _ambiguous(model, installed)
        raise self._unknown(model)

    def get(self, name: str) -> Provider:
        """Return the provider called `name`, made on first use; raises UnknownModel if there is none."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                entry = _Entry(self._factory_of(name), (), None)
                self._entries[name] = entry
            if entry.provider is None:
                entry.provider = entry.factory()
            return entry.provider

    def names(self) -> tuple[str, ...]:
        """Return every name that can stand before the slash, sorted."""
        return tuple(sorted({*self._entries, *_BUILT_IN, *self._entry_points()}))

    async def aclose(self) -> None:
        """Close every provider that was made here or registered, replaced ones included.

        Raises what the first of those that could not be closed raised, when all have been tried.
        """
        with self._lock:
            providers = [e.provider for e in self._entries.values() if e.provider is not None]
            providers += self._replaced
            self._replaced = []
        outcomes = await asyncio.gather(
            *[provider.aclose() for provider in providers], return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def __aenter__(self) -> ProviderRegistry:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _knows(self, name: str) -> bool:
        return name in self._entries or name in _BUILT_IN or name in self._entry_points()

    def _registered_for(self, name: str) -> list[str]:
        return [
            registered
            for registered, entry in list(self._entries.items())
            if any(fnmatchcase(name, pattern) for pattern in entry.patterns)
        ]

    def _installed_for(self, name: str) -> list[str]:
        found = []
        for installed, point in self._entry_points().items():
            patterns = getattr(_load(point), "model_patterns", ())
            if any(fnmatchcase(name, pattern.lower()) for pattern in patterns):
                found.append(installed)
        return found

    def _factory_of(self, name: str) -> ProviderFactory:
        point = self._entry_points().get(name)
        if point is not None:
            return _load(point)
        if name in _BUILT_IN:
            module, _, attribute = _BUILT_IN[name].partition(":")
            factory: ProviderFactory = getattr(importlib.import_module(module), attribute)
            return factory
        raise UnknownModel(
            f"no provider is called {name!r}; expected one of {', '.join(self.names())}",
            details={"provider": name, "candidates": list(self.names())},
        )

    def _entry_points(self) -> dict[str, EntryPoint]:
        with self._lock:
            if self._installed is None:
                self._installed = _unique(self._find_entry_points())
            return self._installed

    def _unknown(self, model: str) -> UnknownModel:
        known = ", ".join(self.names())
        examples = "gpt-*, o3, claude-*, llama*, qwen3:8b"
        return UnknownModel(
            f"no provider is known for model {model!r}; expected 'provider/model' with one of the providers {known}, "
            f"or a name such as {examples}; for another server: registry.add_endpoint(name, base_url); "
            f"vendors' packages: {_INSTALL}",
            details={
                "model": model,
                "candidates": [f"{name}/{model}" for name in self.names()],
            },
        )


def _load(point: EntryPoint) -> ProviderFactory:
    try:
        loaded: ProviderFactory = point.load()
    except Exception as error:
        # Boundary to a package that somebody installed: whatever keeps it from loading is told with its name.
        source = point.dist.name if point.dist is not None else "an installed package"
        raise ConfigurationError(
            f"provider {point.name!r} of {source} cannot be loaded from {point.value!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return loaded


def _constant(provider: Provider) -> ProviderFactory:
    return lambda: provider


def _unique(points: Iterable[EntryPoint]) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in points:
        rival = found.get(point.name)
        if rival is not None and rival.value != point.value:
            raise ConfigurationError(
                f"two installed packages offer a provider called {point.name!r}: {rival.value} and {point.value}; "
                "uninstall one"
            )
        found[point.name] = point
    return found


def _ambiguous(model: str, names: Sequence[str]) -> UnknownModel:
    candidates = [f"{name}/{model}" for name in names]
    return UnknownModel(
        f"more than one provider answers for model {model!r}; expected one of {', '.join(candidates)}",
        details={"model": model, "candidates": candidates},
    )
