"""`llm-service models`: which models there are and what they can do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_core import ConfigurationError, ErrorInfo
from llm_providers import CAPABILITIES, ModelFamily, ModelInfo, ProviderRegistry, family_of
from llm_service.cli.console import show, tell
from llm_service.cli.letting_go import run_letting_go
from llm_service.cli.options import config_option, env_file_option, quiet_option
from llm_service.cli.settings import CommandSettings

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["models"]

_LISTING_SECONDS = 10.0


@click.command()
@click.argument("pattern", required=False, default="*")
@click.option("--provider", help="Only this provider, such as openai.")
@click.option("--offline", is_flag=True, help="Do not ask the vendors for their lists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
@env_file_option
@quiet_option
def models(
    pattern: str,
    provider: str | None,
    offline: bool,
    as_json: bool,
    config_file: Path | None,
    env_file: str,
    quiet: bool,
) -> int:
    """List models whose name fits PATTERN, such as 'gpt-5*'.

    First the models that vendors offer to your keys, then the families that this
    toolkit knows: context and longest answer in tokens, reasoning efforts, and
    what they cannot do although their vendor's protocol has it.

    Exit code: 0, 1 if a vendor could not be asked, 2 not carried out, 130
    interrupted, which ends it at once.
    """
    registry = CommandSettings(config_file, env_file=env_file).registry()
    offered, failures = (
        ([], {}) if offline else run_letting_go(lambda: _ask_vendors(registry, provider))
    )
    offered = [model for model in offered if _fits(model.id, pattern)]
    families = [
        family
        for family in CAPABILITIES
        if provider in (None, family.provider)
        and (_fits(family.pattern, pattern) or any(_family_of(m) is family for m in offered))
    ]
    if as_json:
        _print_json(offered, families, failures)
    else:
        _print_tables(offered, families)
    for name, error in failures.items():
        tell(f"{name}: {error.type}: {' '.join(error.message.split())}")
    if not (offered or families or failures or as_json or quiet):
        tell(f"no model's name fits {pattern!r}")
    return 1 if failures else 0


async def _ask_vendors(
    registry: ProviderRegistry, only: str | None
) -> tuple[list[ModelInfo], dict[str, ErrorInfo]]:
    """Ask every provider whose key is there for its list; returns the models and what failed.

    A local server that is not running is no failure unless it was asked for by name.
    """
    async with registry:
        names = registry.names() if only is None else (only,)
        if only is not None and only not in registry.names():
            known = ", ".join(registry.names())
            raise click.UsageError(f"--provider: got {only!r}, expected one of {known}")
        answers = await asyncio.gather(*[_list_models(registry, name) for name in names])
    found: list[ModelInfo] = []
    failures = {}
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, ErrorInfo):
            if only is not None or name != "ollama":
                failures[name] = answer
        else:
            found += answer
    return sorted(found, key=lambda model: (model.provider, model.id)), failures


async def _list_models(registry: ProviderRegistry, name: str) -> Sequence[ModelInfo] | ErrorInfo:
    try:
        provider: Any = registry.get(name)
        if not hasattr(provider, "list_models"):
            return ()
        provider.check()
        async with asyncio.timeout(_LISTING_SECONDS):
            listed: Sequence[ModelInfo] = await provider.list_models()
            return listed
    except ConfigurationError:
        return ()
    except Exception as error:  # noqa: BLE001 - a third party's provider may raise anything
        return ErrorInfo.from_exception(error)


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name.lower(), pattern.lower())


def _family_of(model: ModelInfo) -> ModelFamily | None:
    return family_of(model.provider, model.id)


def _print_json(
    offered: Sequence[ModelInfo],
    families: Sequence[ModelFamily],
    failures: dict[str, ErrorInfo],
) -> None:
    listed = [model.to_dict() for model in offered]
    for model in listed:
        model.pop("raw", None)
    known = [
        {
            "provider": family.provider,
            "pattern": family.pattern,
            "context_tokens": family.context_tokens,
            "max_output_tokens": family.max_output_tokens,
            "reasoning_efforts": _efforts(family),
            "lacks": sorted(feature.value for feature in family.lacks),
            "source": family.source,
            "checked": family.checked.isoformat(),
        }
        for family in families
    ]
    failed = {name: error.to_dict() for name, error in failures.items()}
    click.echo(json.dumps({"models": listed, "families": known, "failures": failed}))


def _print_tables(offered: Sequence[ModelInfo], families: Sequence[ModelFamily]) -> None:
    if offered:
        listing = _table("offered to your keys", "context", "answer", "since")
        for model in offered:
            family = _family_of(model)
            context, answer = model.context_tokens, model.max_output_tokens
            if family is not None:
                context, answer = (
                    context or family.context_tokens,
                    answer or family.max_output_tokens,
                )
            since = "" if model.created is None else f"{model.created:%Y-%m-%d}"
            listing.add_row(f"{model.provider}/{model.id}", _size(context), _size(answer), since)
        show(listing, "")
    known = _table("family", "context", "answer", "reasoning", "lacks")
    for family in families:
        known.add_row(
            f"{family.provider}/{family.pattern}",
            _size(family.context_tokens),
            _size(family.max_output_tokens),
            " ".join(_efforts(family)) or "-",
            ", ".join(sorted(feature.value.replace("_", " ") for feature in family.lacks)) or "-",
        )
    if families:
        show(known)


def _table(*columns: str) -> Table:
    """Return a table in which names stay whole, so that they can be copied."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        is_number = name in ("context", "answer")
        is_text = name in ("reasoning", "lacks")
        table.add_column(
            name,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=not is_text,
        )
    return table


def _efforts(family: ModelFamily) -> list[str]:
    """Return the efforts a family takes, weakest first; none if it does not reason."""
    from llm_core import ReasoningEffort
    from llm_providers import Feature

    if Feature.REASONING_EFFORT in family.lacks:
        return []
    return [effort.value for effort in ReasoningEffort if effort in family.efforts]


def _size(tokens: int | None) -> str:
    return "" if tokens is None else f"{tokens:,}"
