"""`llm-service prices`: what models cost, and where the number is from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from llm_core import Cost, LLMError, Usage
from llm_service.cli.console import show, tell
from llm_service.cli.options import config_option, env_file_option, quiet_option
from llm_service.cli.settings import CommandSettings

if TYPE_CHECKING:
    from llm_metrics import PriceBook
    from llm_providers import ProviderRegistry

__all__ = ["prices"]

# Asked for a thousand tokens, so that prices which rise with the length of the prompt show their lowest step.
_THOUSAND = 1_000
_KINDS: Mapping[str, Usage] = MappingProxyType(
    {
        "input": Usage(input_tokens=_THOUSAND),
        "cached": Usage(input_tokens=_THOUSAND, cache_read_tokens=_THOUSAND),
        "output": Usage(output_tokens=_THOUSAND),
    }
)


@click.command()
@click.argument("models", nargs=-1)
@click.option("--tier", help="How calls are processed, such as batch, flex or priority.")
@click.option(
    "--at",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day (UTC) whose prices to show; without it today.",
)
@click.option("--update", is_flag=True, help="Fetch the newest published prices first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
@env_file_option
@quiet_option
def prices(
    models: tuple[str, ...],
    tier: str | None,
    at: datetime | None,
    update: bool,
    as_json: bool,
    config_file: Path | None,
    env_file: str,
    quiet: bool,
) -> int:
    """Show what MODELS cost per million tokens, in US dollars unless it says otherwise.

    Your own prices come first, from the YAML file that the configuration's
    prices.overrides or else LLM_PRICE_OVERRIDES names; then the published ones
    of genai-prices. Where long prompts cost more, the price of short ones is
    shown.

    Exit code: 0, 1 if a price is not known or the update failed, 2 not carried
    out.
    """
    if not models and not update:
        raise click.UsageError("no model: name one or more, or --update")
    settings = CommandSettings(config_file, env_file=env_file)
    is_fresh = _update(quiet=quiet) if update else True
    book, registry = settings.price_book(), settings.registry()
    day = (at or datetime.now(UTC)).replace(tzinfo=UTC)
    try:
        rows = {model: _prices_of(book, registry, model, tier=tier, at=day) for model in models}
    except LLMError as error:
        raise settings.refusal(error) from None
    if as_json:
        click.echo(json.dumps({model: _written(found) for model, found in rows.items()}))
    elif rows:
        _print(rows)
    is_known = all(found["input"].amount is not None for found in rows.values())
    return 0 if is_known and is_fresh else 1


def _update(*, quiet: bool) -> bool:
    """Fetch the newest prices; returns False if there was no way to know whether there are any."""
    from llm_metrics import UpdateOutcome, update_prices

    try:
        done = update_prices()
    except (LLMError, OSError) as error:
        raise click.ClickException(f"--update: {error}") from None
    if not quiet:
        reason = f": {done.reason}" if done.reason else ""
        told = f"prices {done.outcome}, {done.version}, {done.models} models{reason}"
        tell(told)
    return done.outcome is not UpdateOutcome.KEPT


def _prices_of(
    book: PriceBook,
    registry: ProviderRegistry,
    model: str,
    *,
    tier: str | None,
    at: datetime,
) -> dict[str, Cost]:
    """Return the price of a thousand tokens of each kind."""
    found = registry.resolve(model)
    provider: Any = found.provider
    return {
        kind: book.price(usage, provider=provider.name, model=found.model, at=at, tier=tier)
        for kind, usage in _KINDS.items()
    }


def _per_million(cost: Cost) -> Decimal | None:
    return None if cost.amount is None else (cost.amount * 1_000).normalize()


def _written(found: Mapping[str, Cost]) -> dict[str, str | None]:
    amounts = {kind: _per_million(cost) for kind, cost in found.items()}
    one = found["input"]
    return {
        **{kind: None if amount is None else f"{amount:f}" for kind, amount in amounts.items()},
        "currency": one.currency,
        "status": one.status.value,
        "source": one.source,
    }


def _print(rows: Mapping[str, Mapping[str, Cost]]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    headings: Sequence[str] = ("per million tokens", *_KINDS, "from")
    for name in headings:
        table.add_column(name, justify="right" if name in _KINDS else "left", overflow="fold")
    for model, found in rows.items():
        written = _written(found)
        currency = "" if written["currency"] == "USD" else f" {written['currency']}"
        shown = [f"{written[kind]}{currency}" if written[kind] else "?" for kind in _KINDS]
        note = "" if written["status"] == "priced" else f" ({written['status']})"
        table.add_row(model, *shown, f"{written['source']}{note}")
    show(table)
