"""Options that several commands share, and the service they amount to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from llm_core import LLMError
from llm_service.environment import load_environment
from llm_service.service import BaseLLMService

if TYPE_CHECKING:
    from llm_metrics import PriceBook

__all__ = [
    "concurrency_option",
    "env_file_option",
    "limit_options",
    "model_option",
    "open_price_book",
    "open_service",
    "quiet_option",
]

model_option = click.option(
    "-m",
    "--model",
    envvar="LLM_SERVICE_MODEL",
    required=True,
    help="Model name or provider/model (also: LLM_SERVICE_MODEL).",
)


def _load_first(_context: click.Context, _parameter: click.Parameter, env_file: str) -> str:
    load_environment(env_file)
    return env_file


# Eager, so that the other options find their variables in the file, too.
env_file_option = click.option(
    "--env-file",
    is_eager=True,
    callback=_load_first,
    default=".env",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="File with API keys; the environment wins over it.",
)
concurrency_option = click.option(
    "-c",
    "--concurrency",
    default=8,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many requests may be in flight at once.",
)


def _merge_quiet(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    """Obey the option where it stands: at the command, or before it (`llm-service --quiet run …`)."""
    above = context.parent.params.get("quiet", False) if context.parent else False
    return value or above


quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    callback=_merge_quiet,
    help="Say nothing on stderr but errors.",
)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for limits per minute."""
    rpm = click.option(
        "--max-rpm", type=click.IntRange(min=1), help="Requests per minute, at most."
    )
    tpm = click.option("--max-tpm", type=click.IntRange(min=1), help="Tokens per minute, at most.")
    return rpm(tpm(command))


def open_service(model: str, *, env_file: str, **options: Any) -> BaseLLMService:
    """Return a service for `model`, with what `BaseLLMService` takes as `options`.

    Raises click.ClickException if the model is unknown, its key is missing or a limit cannot be.
    """
    load_environment(env_file)
    try:
        service = BaseLLMService(model=model, **options)
        service.check()
    except LLMError as error:
        raise click.ClickException(str(error)) from None
    return service


def open_price_book() -> PriceBook:
    """Return the published prices, and the user's own from the file that LLM_PRICE_OVERRIDES names.

    Reading them begins on a thread of its own. A model without a price is told by the totals, not by a log line.
    """
    from llm_metrics import PriceBook, default_prices_path

    logging.getLogger("llm_metrics").addHandler(logging.NullHandler())
    try:
        book = PriceBook(
            overrides=os.environ.get("LLM_PRICE_OVERRIDES") or None,
            prices_file=default_prices_path(),
        )
    except (LLMError, OSError) as error:
        raise click.ClickException(f"LLM_PRICE_OVERRIDES: {error}") from None
    book.preload(wait=False)
    return book
