"""`llm-service config`: what can be configured, whether a file is right, and where each value comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_core import ConfigurationError
from llm_service.cli.console import show
from llm_service.cli.options import env_settings_option
from llm_service.cli.settings import read_config
from llm_service.environment import env_file_values

if TYPE_CHECKING:
    from llm_service.config import Setting

__all__ = ["config"]

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def config() -> None:
    """Look at the configuration: its schema, its faults, its origins."""


@config.command()
def schema() -> int:
    """Print the JSON Schema of configurations.

    Editors check and complete with it.

    Exit code: 0.
    """
    from llm_service.config import ServiceConfig

    described = ServiceConfig.model_json_schema()
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    click.echo(json.dumps({**dialect, **described}, indent=2, ensure_ascii=False))
    return 0


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@env_settings_option
def check(file: Path | None, env_file: str) -> int:
    """Check FILE; every fault is one line.

    The variables that go before it are checked, too. Without FILE: what
    LLM_SERVICE_CONFIG names, else llm-service.yaml in this folder. A secret that
    is not here and a model that no provider is known for are only mentioned: they
    may be where the service runs.

    Exit code: 0 good, 1 faults, 2 not carried out.
    """
    from llm_service.config import (
        InvalidConfig,
        SecretReference,
        explain,
        find_config,
        load_config,
    )
    from llm_service.config.soundness import unanswered

    file = file or find_config()
    if file is None:
        raise click.UsageError("no llm-service.yaml here: name a FILE, or set LLM_SERVICE_CONFIG")
    try:
        loaded = load_config(file, env_file=env_file)
    except InvalidConfig as invalid:
        for problem in invalid.problems:
            click.echo(str(problem), err=True)
        return 1
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    if loaded.config.telemetry.backends is None:
        from llm_metrics import telemetry_names

        try:
            telemetry_names(environ={**env_file_values(env_file), **os.environ})
        except ConfigurationError as error:
            click.echo(str(error), err=True)
            return 1
    for unknown in unanswered(loaded.config, loaded.settings):
        click.echo(str(unknown), err=True)
    for setting in explain(loaded):
        if setting.note == "missing":
            fault = loaded.secrets.fault(SecretReference.parse(setting.value))
            said = f"holds no secret ({fault})" if fault else "is not here"
            click.echo(f"{setting.origin}: {setting.name}: {setting.value} {said}", err=True)
    click.echo(f"{file}: good")
    return 0


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@env_settings_option
@click.option("--all", "with_defaults", is_flag=True, help="Show the defaults as well.")
@_json_option
def explain(file: Path | None, env_file: str, with_defaults: bool, as_json: bool) -> int:
    """Show each setting and where it comes from.

    That is a file and line, a variable, or a default. Without FILE: what
    LLM_SERVICE_CONFIG names, else llm-service.yaml in this folder, else no file.

    Exit code: 0, or 2 if the configuration cannot be used.
    """
    from llm_service.config import OriginKind
    from llm_service.config import explain as explain_config

    loaded = read_config(file, env_file=env_file)
    settings = [
        setting
        for setting in explain_config(loaded)
        if with_defaults or setting.origin.kind is not OriginKind.DEFAULT
    ]
    if as_json:
        for setting in settings:
            click.echo(json.dumps(setting.to_dict(), ensure_ascii=False))
    elif settings:
        _show(settings)
    else:
        click.echo("nothing is set; --all shows the defaults", err=True)
    return 0


def _show(settings: list[Setting]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    for setting in settings:
        note = f" ({setting.note})" if setting.note else ""
        # Plain Text: a value such as "[/]" is no markup.
        table.add_row(
            Text(setting.name), Text(_written(setting.value) + note), Text(str(setting.origin))
        )
    show(table, fold=True)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
