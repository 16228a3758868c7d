"""What a command works with: the configuration, and its own options above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_core import ConfigurationError, LLMError
from llm_service.cli.model_names import told_error
from llm_service.cli.options import open_price_book
from llm_service.environment import load_environment
from llm_service.service import BaseLLMService

if TYPE_CHECKING:
    from llm_metrics import PriceBook
    from llm_service.config import (
        ConfiguredRegistry,
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
        limits = {
            "max_rpm": max_rpm,
            "max_tpm": max_tpm,
            "max_concurrent_requests": max_concurrent_requests,
        }
        self._limits = {name: limit for name, limit in limits.items() if limit is not None}
        self._model = model
        self._attempts = attempts
        self._path = config_file or _found()
        self._env_file = env_file
        self._loaded = read_config(self._path, env_file=env_file)
        self.config = self._limited(self._loaded.config)

    @property
    def has_file(self) -> bool:
        """Whether a file is part of it, which may change while a command works."""
        return self._path is not None

    def model(self, operation: str | None = None) -> str:
        """Return the model that requests of `operation` ask; raises click.UsageError if nothing names one."""
        found = self.find_model(operation)
        if found is None:
            raise click.UsageError(
                "no model: give -m MODEL, or set LLM_SERVICE_MODEL, "
                "or models.default in llm-service.yaml"
            )
        return found

    def find_model(self, operation: str | None = None) -> str | None:
        """Return the model that requests of `operation` ask, None if nothing names one."""
        named = self._model or self.config.request_fields(operation).get("model")
        found = named or self.config.models.default
        return None if found is None else self.config.models.resolve(found)

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
        self,
        *,
        operation: str | None = None,
        price_book: PriceBook | None,
        needs_model: bool = True,
        **options: Any,
    ) -> BaseLLMService:
        """Return a service for requests of `operation`; `options` are those of `BaseLLMService`.

        Where none `needs_model`, each request has one of its own.
        Raises click.ClickException if the model is unknown, its key is missing or a limit cannot be.
        """
        from llm_service.config import service_options

        model = self.model(operation) if needs_model else self.find_model(operation)
        try:
            configured = service_options(self.config, secrets=self._loaded.secrets)
            service = BaseLLMService(
                **{
                    **configured,
                    "model": model,
                    "operation_fields": self.request_fields,
                    "price_book": price_book,
                    **options,
                }
            )
            if model is not None:
                service.check()
        except LLMError as error:
            raise self.refusal(error) from None
        return service

    def refusal(self, error: LLMError) -> click.ClickException:
        """Return an error of the set-up as the command's own, in words of the command line."""
        return click.ClickException(told_error(error, aliases=self.config.models.aliases))

    @contextmanager
    def limits_followed_by(self, service: BaseLLMService) -> Iterator[Callable[[], None] | None]:
        """Give `service` the configured limits anew whenever they change, as long as the context lasts.

        Yields what has the file read again at once; None if there is no file.
        """
        from llm_service.config import ConfigChange, ConfigWatcher, load_config

        def take(change: ConfigChange) -> None:
            config = self._limited(change.loaded.config)
            service.use_limits(config.limits.limits(), config.limits_by_name())

        watcher = ConfigWatcher(
            lambda: load_config(self._path, env_file=self._env_file), take, current=self._loaded
        )
        # A terminal that closes sends SIGHUP, too; the command knows which of the two it is.
        watcher.start(on_signal=False)
        try:
            yield None if self._path is None else watcher.reload
        finally:
            watcher.stop()

    def _limited(self, config: ServiceConfig) -> ServiceConfig:
        """Return `config` with the limits that the command was given in place of all others."""

        def changed(own: Mapping[str, RateLimits]) -> dict[str, RateLimits]:
            return {name: one.model_copy(update=self._limits) for name, one in own.items()}

        limits = config.limits.model_copy(
            update={
                **self._limits,
                "providers": changed(config.limits.providers),
                "models": changed(config.limits.models),
            }
        )
        return config.model_copy(update={"limits": limits})


def read_config(file: Path | None, *, env_file: str) -> LoadedConfig:
    """Read the configuration at `file`, else the one that is found, else the variables alone.

    Raises click.ClickException that tells the first fault, and where the others are told.
    """
    from llm_service.config import InvalidConfig, load_config

    path = file or _found()
    try:
        return load_config(path, env_file=env_file)
    except InvalidConfig as invalid:
        first, *others = invalid.problems
        more = f" (and {len(others)} more: llm-service config check {path})" if others else ""
        raise click.ClickException(f"{first}{more}") from None
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None


def _found() -> Path | None:
    from llm_service.config import find_config

    return find_config()
