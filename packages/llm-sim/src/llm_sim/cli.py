"""The `llm-sim` command."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

import click

from llm_sim.errors import ConfigurationError, SimError
from llm_sim.latency import Distribution, Latency, parse_distribution
from llm_sim.limits import Algorithm, Limits
from llm_sim.referee import Report
from llm_sim.server import LOOPBACK, bind, serve, url_of
from llm_sim.simulator import Settings, Simulator


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="llm-sim")
def main() -> None:
    """Run an LLM provider on this machine: no key, no network, no bill."""


@main.command("serve")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8399,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0 takes a free one.",
)
@click.option("--script", "script_path", metavar="FILE", help="YAML file of scripted replies.")
@click.option("--rpm", type=int, help="Requests a minute, for each API key.")
@click.option("--tpm", type=int, help="Tokens a minute, reserved before the call (OpenAI).")
@click.option("--itpm", type=int, help="Input tokens a minute (Anthropic).")
@click.option("--otpm", type=int, help="Output tokens a minute (Anthropic).")
@click.option("--rpd", type=int, help="Requests a day.")
@click.option("--concurrency", type=int, help="Calls at the same time.")
@click.option(
    "--algorithm",
    default="sliding",
    show_default=True,
    type=click.Choice(get_args(Algorithm)),
    help="How the limits are counted.",
)
@click.option(
    "--minute-seconds", default=60.0, show_default=True, help="How long a limit's minute is."
)
@click.option("--per-model", is_flag=True, help="Give each model limits of its own.")
@click.option("--charge-refused", is_flag=True, help="Count refused requests as well.")
@click.option("--quota-usd", metavar="DOLLARS", help="Money after which a key is refused for good.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME:PROBABILITY",
    help="A fault that happens by chance, such as 429:0.02; may be repeated.",
)
@click.option(
    "--first-token",
    default="0",
    metavar="LATENCY",
    show_default=True,
    help="Seconds to the first token: 0.3, constant:0.3 or lognormal:MEDIAN,SIGMA.",
)
@click.option(
    "--per-token",
    default="0",
    metavar="LATENCY",
    show_default=True,
    help="Seconds for each output token, in the same words.",
)
@click.option("--api-key", "api_keys", multiple=True, help="A key that is known; others are not.")
@click.option("--model", "models", multiple=True, help="A model that exists; others do not.")
@click.option("--time-scale", default=1.0, show_default=True, help="Multiplies every latency.")
@click.option("--seed", default=0, show_default=True, help="Of everything drawn at random.")
def serve_command(host: str, port: int, **options: Any) -> None:
    """Serve until interrupted."""
    try:
        settings = _settings(**options)
        listener = bind(host, port)
    except SimError as error:
        click.echo(f"llm-sim: {error}", err=True)
        sys.exit(2)
    url = url_of(host, listener.getsockname()[1])
    click.echo(
        f"llm-sim listens on {url} "
        f"(OPENAI_BASE_URL={url}/v1 ANTHROPIC_BASE_URL={url} OLLAMA_HOST={url})"
    )
    simulator = Simulator(settings)
    asyncio.run(_serve(simulator, listener))
    click.echo(_summary(simulator.report()))


def _settings(
    *,
    script_path: str | None,
    faults: tuple[str, ...],
    api_keys: tuple[str, ...],
    models: tuple[str, ...],
    first_token: str,
    per_token: str,
    time_scale: float,
    seed: int,
    quota_usd: str | None,
    **limits: Any,
) -> Settings:
    return Settings.of(
        script_path,
        latency=Latency(
            first_token=_distribution("--first-token", first_token),
            per_token=_distribution("--per-token", per_token),
            time_scale=time_scale,
        ),
        limits=Limits(**limits, quota_usd=_dollars(quota_usd)),
        faults=faults,
        api_keys=api_keys or None,
        models=models or None,
        seed=seed,
    )


def _distribution(option: str, text: str) -> Distribution:
    try:
        return parse_distribution(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{option}: {error}") from error


def _dollars(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ConfigurationError(
            f"--quota-usd: expected dollars such as 0.50, got {text!r}"
        ) from error


def _summary(report: Report) -> str:
    return (
        f"{report.calls} calls, {report.violations} violations of limits, {report.retries} retries "
        f"({report.early_retries} early, {report.futile_retries} futile), "
        f"{report.usage.total_tokens} tokens, ${report.cost_usd:.4f}"
    )


async def _serve(simulator: Simulator, listener: socket.socket) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows raises KeyboardInterrupt instead
            loop.add_signal_handler(name, stop.set)
    await serve(simulator, listener, stop=stop, on_ready=lambda: None)
