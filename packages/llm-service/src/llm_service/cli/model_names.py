"""Errors of the set-up in words of the command line, such as what to type in place of a model that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING, Any

from llm_core import LLMError

if TYPE_CHECKING:
    from pathlib import Path

    from llm_providers import ProviderRegistry

__all__ = ["completed_names", "corrected_name", "told", "told_error", "unknown_model"]

_ALIKE = 0.75
"""The share of letters two names must have in common: one slip in a name of five."""
_MOST_NAMES = 3


def told(
    message: str, exception: str | None, details: Mapping[str, Any], *, aliases: Iterable[str] = ()
) -> str:
    """Return what an error of this class says, in words of the command line in place of those for code."""
    if exception == "UnknownModel":
        return unknown_model(message, details, aliases=aliases)
    if exception == "MissingCredentials":
        return message.removesuffix(", or pass api_key=…")
    return message


def told_error(error: LLMError, *, aliases: Iterable[str] = ()) -> str:
    """Return the same of an exception."""
    return told(str(error), type(error).__name__, error.details, aliases=aliases)


def unknown_model(message: str, details: Mapping[str, Any], *, aliases: Iterable[str] = ()) -> str:
    """Return the message of an `UnknownModel` in words of the command line.

    One that lists all that fits is returned as it is.
    """
    model, candidates = details.get("model"), details.get("candidates") or ()
    if model is None or not message.startswith("no provider is known"):
        return message
    providers = [candidate.partition("/")[0] for candidate in candidates]
    close = corrected_name(model, providers, aliases=aliases)
    meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return (
        f"no provider is known for model {model!r}; {meant}"
        "'llm-service models' lists names; else type PROVIDER/MODEL, with one of the providers "
        f"{', '.join(providers)} or of llm-service.yaml"
    )


def corrected_name(
    model: str, providers: Iterable[str], *, aliases: Iterable[str] = ()
) -> list[str]:
    """Return up to three names that may have been meant: with the right provider, in full, or spelt right."""
    prefix, slash, rest = model.partition("/")
    if slash:
        return [f"{name}/{rest}" for name in get_close_matches(prefix, providers, n=1)]
    typed = model.lower()
    names = [*aliases, *_family_names()]
    in_full = [name for name in names if len(typed) > 2 and typed in name.lower()]
    if in_full:
        return in_full[:_MOST_NAMES]
    return _spelt_right(typed, names)


def completed_names(begun: str, *, config_file: Path | None, env_file: str | None) -> list[str]:
    """Return the names that begin so: configured aliases and models, then those of models with a price.

    What has a slash is completed to ``provider/model``. A configuration that cannot be used has no names.
    """
    from llm_service.cli.options import open_price_book
    from llm_service.config import ConfiguredRegistry, ServiceConfig, find_config, load_config

    try:
        config = load_config(config_file or find_config(), env_file=env_file).config
    except LLMError:
        config = ServiceConfig()
    registry = ConfiguredRegistry(config)
    book = open_price_book(config.prices.overrides)
    prefix, slash, _ = begun.partition("/")
    names = [*config.models.aliases, *config.named_models()]
    for provider in registry.names():
        if slash:
            models = book.models(provider) if provider == prefix else []
            names += [f"{provider}/{model}" for model in models]
        else:
            names += [
                model for model in book.models(provider) if _answers(registry, provider, model)
            ]
            names.append(f"{provider}/")
    return [name for name in dict.fromkeys(names) if name.startswith(begun)]


def _answers(registry: ProviderRegistry, provider: str, model: str) -> bool:
    try:
        return registry.route(model)[0] == provider
    except LLMError:
        return False


def _family_names() -> list[str]:
    """Return the families that are called like a model: ``gpt-5*``, but not ``o[134]*``."""
    from llm_providers import CAPABILITIES

    names = [family.pattern.removesuffix("*") for family in CAPABILITIES]
    return [name for name in names if name.isascii() and not set("*[]") & set(name)]


def _spelt_right(typed: str, names: Iterable[str]) -> list[str]:
    """Return the name that the beginning of what was typed is most like, with the rest after it."""
    words = typed.split("-")
    best, found = 0.0, ""
    for name in names:
        for count in range(1, len(words) + 1):
            alike = SequenceMatcher(None, "-".join(words[:count]), name.lower()).ratio()
            if alike >= _ALIKE and alike > best:
                best, found = alike, "-".join((name, *words[count:]))
    return [found] if found else []
