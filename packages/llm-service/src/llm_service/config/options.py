"""From settings to the keyword arguments of a service."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from llm_core import Provider
from llm_metrics import PriceBook
from llm_providers import ProviderRegistry
from llm_service.cache import MemoryResponseCache
from llm_service.config.model import ModelsConfig, ProviderConfig, ProviderKind, ServiceConfig
from llm_service.config.secrets import SecretReader
from llm_service.config.shape import OBJECTS

__all__ = ["ConfiguredRegistry", "own_options", "service_options"]

_CLASSES = {
    ProviderKind.OPENAI: "llm_providers.openai:OpenAIProvider",
    ProviderKind.COMPATIBLE: "llm_providers.openai:OpenAIProvider",
    ProviderKind.ANTHROPIC: "llm_providers.anthropic:AnthropicProvider",
    ProviderKind.OLLAMA: "llm_providers.ollama:OllamaProvider",
}


def service_options(
    config: ServiceConfig, *, secrets: SecretReader | None = None
) -> dict[str, Any]:
    """Return what `BaseLLMService` is to be called with; what the configuration does not say is left out.

    The price book goes by the published prices, and before them by those of `prices.overrides`.
    Reads no secret and connects to nothing: providers are made, and `secrets` asked, at their first call.
    Raises what `llm_metrics.PriceOverrides.read` raises for a file of prices that is wrong or not there.
    """
    options: dict[str, Any] = {
        "registry": ConfiguredRegistry(config, secrets=secrets),
        "fallbacks": config.fallbacks(),
        "limits": config.limits_by_name(),
        "retry": config.retry.policy(),
        "breaker": config.breaker.policy(),
        "restart_streams": config.restart_streams,
        "price_book": PriceBook(overrides=config.prices.overrides),
    }
    for name in ("max_rpm", "max_tpm", "max_concurrent_requests"):
        if (limit := getattr(config.limits, name)) is not None:
            options[name] = limit
    if config.models.default is not None:
        options["model"] = config.models.resolve(config.models.default)
    if config.hedge is not None:
        options["hedge"] = config.hedge.policy()
    if config.telemetry.backends is not None:
        options["telemetry"] = ",".join(config.telemetry.backends) or "none"
    if config.uses_cache():
        options["cache"] = MemoryResponseCache(config.cache.max_entries)
    return options


_OBJECTS_OR_SECTIONS = frozenset({"retry", "hedge", "breaker", "cache", "telemetry"})
"""What a service takes as an object, and a configuration as a section."""
_PLAIN = (str, int, float, Sequence, Mapping, BaseModel)


def own_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `arguments` that are meant for `BaseLLMService` itself: objects, which no file could hold."""
    return {
        name: value
        for name, value in arguments.items()
        if value is not None
        and (name in OBJECTS or (name in _OBJECTS_OR_SECTIONS and not isinstance(value, _PLAIN)))
    }


class ConfiguredRegistry(ProviderRegistry):
    """A registry that knows the configured providers and aliases besides the vendors that all know."""

    def __init__(self, config: ServiceConfig, *, secrets: SecretReader | None = None) -> None:
        super().__init__()
        self._models = config.models
        reader = secrets or SecretReader()
        for name, provider in config.providers.items():
            make = partial(_make, name, provider, reader)
            self.register(name, make, patterns=provider.patterns)

    def route(self, model: str) -> tuple[str, str]:
        """Return the name of who answers for `model`, which may be an alias, and the model's own."""
        return super().route(self._models.resolve(model))

    def use_models(self, models: ModelsConfig) -> None:
        """Go by other aliases from the next call on."""
        self._models = models


def _make(name: str, config: ProviderConfig, secrets: SecretReader) -> Provider:
    """Make a provider.

    Raises MissingCredentials if the key is not where the configuration says.
    """
    kind = config.kind or ProviderKind(name)
    options: dict[str, Any] = {"name": name}
    for field in ("timeout_seconds", "connect_seconds", "idle_timeout_seconds"):
        if (seconds := getattr(config, field)) is not None:
            options[field] = seconds
    if config.base_url is not None:
        options["host" if kind is ProviderKind.OLLAMA else "base_url"] = config.base_url
    if config.api_key is not None:
        options["api_key"] = secrets.read(config.api_key)
    if kind is ProviderKind.COMPATIBLE:
        # A key for OpenAI must not reach a stranger's server.
        options |= {"api": "chat_completions", "api_key_variable": None}
    module, _, attribute = _CLASSES[kind].partition(":")
    made: Callable[..., Provider] = getattr(importlib.import_module(module), attribute)
    return made(**options)
