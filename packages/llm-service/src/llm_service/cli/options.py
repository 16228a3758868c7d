"""Options that several commands share, and the service they amount to."""

from __future__ import annotations

from typing import Any

import click

from llm_core import LLMError
from llm_service.environment import load_environment
from llm_service.service import BaseLLMService

__all__ = [
    "concurrency_option",
    "env_file_option",
    "model_option",
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
env_file_option = click.option(
    "--env-file",
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


def open_service(model: str, *, env_file: str, **options: Any) -> BaseLLMService:
    """Return a service for `model`; a ClickException if the model is unknown or its key is missing."""
    load_environment(env_file)
    service = BaseLLMService(model=model, **options)
    try:
        service.check()
    except LLMError as error:
        raise click.ClickException(str(error)) from None
    return service
