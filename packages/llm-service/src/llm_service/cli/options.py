"""Options that several commands share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from click.types import StringParamType

from llm_core import LLMError
from llm_service.cli.console import tell
from llm_service.environment import load_environment, malformed_lines

if TYPE_CHECKING:
    from llm_metrics import PriceBook

__all__ = [
    "Number",
    "Text",
    "concurrency_option",
    "config_option",
    "env_file_option",
    "env_settings_option",
    "limit_options",
    "model_option",
    "open_price_book",
    "quiet_option",
]

_MOST = 1e9
"""As many seconds as the deadline of a request may have."""


class Text(StringParamType):
    """Text that a model can read."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; raises click.BadParameter for bytes that are none."""
        text: str = super().convert(value, param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            # Bytes of an argument that are no text arrive as halves of surrogate pairs.
            self.fail("not UTF-8 text.", param, ctx)
        return text


class Number(click.FloatRange):
    """A number within bounds that a program can work with: neither ``nan`` nor endless."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; raises click.BadParameter for what is no number, and for what is out of bounds."""
        number: float = super().convert(value, param, ctx)
        if not number <= _MOST:
            self.fail(f"{value} is not a number up to {_MOST:g}.", param, ctx)
        return number


def _complete_model(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from llm_service.cli.model_names import completed_names

    file, env_file = context.params.get("config_file"), context.params.get("env_file", ".env")
    try:
        names = completed_names(incomplete, config_file=file, env_file=env_file)
    except click.ClickException:
        # Nobody reads at the prompt what is wrong; the command will say it.
        return []
    return [CompletionItem(name) for name in names]


model_option = click.option(
    "-m",
    "--model",
    type=Text(),
    shell_complete=_complete_model,
    help="Model name, alias or provider/model; without it LLM_SERVICE_MODEL or the configuration.",
)
config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file; without it the one in LLM_SERVICE_CONFIG, else llm-service.yaml here.",
)


def _require_text(context: click.Context, parameter: click.Parameter, env_file: str) -> str:
    """Refuse a file that was named and is not there, and one that is no text; tell its malformed lines, once."""
    path = Path(env_file)
    if not path.is_file():
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--env-file {env_file}: no such file", ctx=context)
        return env_file
    try:
        malformed = malformed_lines(path)
    except UnicodeDecodeError as error:
        place = f"{env_file}: not UTF-8 text (byte {error.start})"
        raise click.ClickException(place) from None
    except OSError as error:
        raise click.ClickException(f"{env_file}: cannot be read: {error.strerror}") from None
    for line in malformed:
        tell(f"{env_file}:{line}: not NAME=value, left out")
    # Whoever reads the file after this would log the same.
    logging.getLogger("llm_service.environment").addHandler(logging.NullHandler())
    return env_file


def _load_first(context: click.Context, parameter: click.Parameter, env_file: str) -> str:
    load_environment(_require_text(context, parameter, env_file))
    return env_file


# Eager, so that the other options find their variables in the file, too.
env_file_option = click.option(
    "--env-file",
    is_eager=True,
    callback=_load_first,
    default=".env",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="File with keys, and with settings that go before the environment's.",
)
env_settings_option = click.option(
    "--env-file",
    callback=_require_text,
    default=".env",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="File with variables; its settings go before the environment's.",
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


def open_price_book(overrides: Path | None = None) -> PriceBook:
    """Return the published prices, and before them those of `overrides`, else of the file LLM_PRICE_OVERRIDES names.

    Reading them begins on a thread of its own. A model without a price is told by the totals, not by a log line.
    """
    from llm_metrics import PriceBook, default_prices_path

    logging.getLogger("llm_metrics").addHandler(logging.NullHandler())
    try:
        book = PriceBook(
            overrides=overrides or os.environ.get("LLM_PRICE_OVERRIDES") or None,
            prices_file=default_prices_path(),
        )
    except (LLMError, OSError) as error:
        named_by = "prices.overrides" if overrides else "LLM_PRICE_OVERRIDES"
        raise click.ClickException(f"{named_by}: {error}") from None
    book.preload(wait=False)
    return book
