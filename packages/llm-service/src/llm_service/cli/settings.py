"""What a command works with: the configuration, and its own options above it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_core import ConfigurationError, LLMError
from llm_service.cli.options import open_price_book
from llm_service.environment import load_environment
from llm_service.service import BaseLLMService

if TYPE_CHECKING:
    from llm_metrics import PriceBook
    from llm_service.config import (
        ConfiguredRegistry,
        LimitsConfig,
        LoadedConfig,
        RateLimits,
        ServiceConfig,
    )

__all__ = ["CommandSettings", "read_config"]


class CommandSettings:
    """The configuration that was found or named, with the options of a command above all of it.

    Raises click.ClickException, one line, for a configuration that cannot be used.
    """

    def __init__(
        self,
        config_file: Path | None,
        *,
        env_file: str,
        model: str | None = None,
        max_rpm: int | None = None,
        max_tpm: int | None = None,
        max_concurrent_requests: int | None = None,
        attempts: int | None = None,
    ) -> None:
        # The vendors' own variables for keys and addresses stand in the environment.
        load_environment(env_file)
        self._loaded = read_config(config_file, env_file=env_file)
        config = self._loaded.config
        limits = _everywhere(
            config.limits,
            max_rpm=max_rpm,
            max_tpm=max_tpm,
            max_concurrent_requests=max_concurrent_requests,
        )
        self.config: ServiceConfig = config.model_copy(update={"limits": limits})
        self._model = model
        self._attempts = attempts

    def model(self, operation: str | None = None) -> str:
        """Return the model that requests of `operation` ask; raises click.UsageError if nothing names one."""
        named = self._model or self.config.request_fields(operation).get("model")
        found = named or self.config.models.default
        if found is None:
            raise click.UsageError(
                "no model: give -m MODEL, or set LLM_SERVICE_MODEL, "
                "or models.default in llm-service.yaml"
            )
        return self.config.models.resolve(found)

    def request_fields(self, operation: str | None) -> dict[str, Any]:
        """Return what requests of `operation` take where they say nothing themselves."""
        fields = self.config.request_fields(operation)
        if self._model is not None:
            # The service's default, which is this one, holds then.
            fields.pop("model", None)
        if self._attempts is not None:
            fields["max_attempts"] = self._attempts
        return fields

    def registry(self) -> ConfiguredRegistry:
        """Return the vendors, and the configured providers and aliases."""
        from llm_service.config import ConfiguredRegistry

        return ConfiguredRegistry(self.config, secrets=self._loaded.secrets)

    def price_book(self) -> PriceBook:
        """Return the prices: the configured ones before those that LLM_PRICE_OVERRIDES names."""
        return open_price_book(self.config.prices.overrides)

    def service(
        self, *, operation: str | None = None, price_book: PriceBook | None, **options: Any
    ) -> BaseLLMService:
        """Return a service for requests of `operation`; `options` are those of `BaseLLMService`.

        Raises click.ClickException if the model is unknown, its key is missing or a limit cannot be.
        """
        from llm_service.config import service_options

        try:
            configured = service_options(self.config, secrets=self._loaded.secrets)
            service = BaseLLMService(
                **{
                    **configured,
                    "model": self.model(operation),
                    "operation_fields": self.request_fields,
                    "price_book": price_book,
                    **options,
                }
            )
            service.check()
        except LLMError as error:
            raise click.ClickException(str(error)) from None
        return service


def read_config(file: Path | None, *, env_file: str) -> LoadedConfig:
    """Read the configuration at `file`, else the one that is found, else the variables alone.

    Raises click.ClickException that tells the first fault, and where the others are told.
    """
    from llm_service.config import InvalidConfig, find_config, load_config

    path = file or find_config()
    try:
        return load_config(path, env_file=env_file)
    except InvalidConfig as invalid:
        first, *others = invalid.problems
        more = f" (and {len(others)} more: llm-service config check {path})" if others else ""
        raise click.ClickException(f"{first}{more}") from None
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None


def _everywhere(limits: LimitsConfig, **options: int | None) -> LimitsConfig:
    """Return `limits` with the options that are given in place of those of single providers and models, too."""
    given = {name: limit for name, limit in options.items() if limit is not None}

    def changed(own: Mapping[str, RateLimits]) -> dict[str, RateLimits]:
        return {name: single.model_copy(update=given) for name, single in own.items()}

    return limits.model_copy(
        update={**given, "providers": changed(limits.providers), "models": changed(limits.models)}
    )
