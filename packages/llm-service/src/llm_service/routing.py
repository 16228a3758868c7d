"""Which provider answers for which model."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from llm_core import InvalidValue, Provider
from llm_core.forks import begin_anew_in_children

if TYPE_CHECKING:
    from llm_providers import ProviderRegistry

__all__ = ["Router"]


class Router:
    """Finds the provider of a model name: the one that was given, or the registry's by name."""

    def __init__(
        self,
        *,
        default_model: str | None,
        provider: Provider | None,
        registry: ProviderRegistry | None,
    ) -> None:
        self._default_model = default_model
        self._provider = provider
        self._registry = registry
        self._replaced: list[Provider] = []
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Let nobody wait for a thread that is not there."""
        self._lock = threading.Lock()

    def resolve(self, model: str | None) -> tuple[Provider, str]:
        """Return the provider and the vendor's own name of `model`, or of the default model.

        Raises InvalidValue if neither is given, UnknownModel if nobody answers for it.
        """
        wanted = model or self._default_model
        if wanted is None:
            raise InvalidValue(
                "model: neither the request nor the service names one, expected a model name"
            )
        provider = self._provider
        if provider is not None:
            if "/" in wanted:
                wanted = wanted.removeprefix(f"{provider.name}/")
            return provider, wanted
        if self._registry is None:
            self._make_registry()
        assert self._registry is not None
        return self._registry.resolve(wanted)

    def _make_registry(self) -> None:
        # Here, because a service with a provider of its own needs no registry.
        from llm_providers import ProviderRegistry

        with self._lock:
            if self._registry is None:
                self._registry = ProviderRegistry()

    def use_model(self, model: str) -> None:
        """Change the default model from the next call on; InvalidValue for an empty name."""
        if not isinstance(model, str) or not model.strip():
            raise InvalidValue.of("model", model, "a model's name")
        self._default_model = model

    def use_provider(self, provider: Provider | None) -> None:
        """Change who answers from the next call on; the one before is closed with the service."""
        before = self._provider
        self._replaced = [p for p in self._replaced if p is not provider and p is not before]
        if before is not None and before is not provider:
            self._replaced.append(before)
        self._provider = provider

    def check(self) -> None:
        """Raise ConfigurationError if the default model could not be asked."""
        provider, _ = self.resolve(None)
        check = getattr(provider, "check", None)
        if check is not None:
            check()

    async def aclose(self) -> None:
        """Close every provider that was used; raises what one of them raised, after all were asked."""
        async with AsyncExitStack() as closing:
            if self._registry is not None:
                closing.push_async_callback(self._registry.aclose)
            for provider in [*self._replaced, *([self._provider] if self._provider else [])]:
                closing.push_async_callback(provider.aclose)
