"""`llm-service demo`: the whole machinery on real HTTP, without a key, a network or a bill."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from llm_core import GenerationRequest, GenerationResult, LLMError
from llm_service.cli.console import show
from llm_service.cli.options import concurrency_option, quiet_option
from llm_service.cli.report import answers_table, progress_bar, summary_line
from llm_service.cli.request_file import RequestFile

__all__ = ["demo"]


@click.command()
@concurrency_option
@click.option(
    "--port",
    default=0,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Port of the simulator on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--examples",
    default=None,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with geography.py, capitals.jsonl and capitals.yaml.",
)
@quiet_option
def demo(concurrency: int, port: int, examples: Path | None, quiet: bool) -> int:
    """Ask a simulated OpenAI on this machine for fifty capitals, and check every answer.

    Exit code: 0 all answers right, 1 not all, 2 not carried out, 130 interrupted.
    """
    from llm_sim import SimError, SimServer

    folder = _find_examples(examples)
    requests = [item.request for item in RequestFile(folder / "capitals.jsonl")]
    geography = _load(folder / "geography.py")
    try:
        with SimServer(folder / "capitals.yaml", port=port) as sim:
            service = geography.Geography.on_simulator(
                sim.openai_base_url, max_concurrent_requests=concurrency
            )
            # Imports the SDK, which the first calls would else show as a second of waiting for the provider.
            service.check()
            results = asyncio.run(_ask_all(service, requests, quiet=quiet))
    except (SimError, LLMError) as error:
        raise click.ClickException(str(error)) from None
    wanted = [str(request.metadata["capital"]) for request in requests]
    rows = [(str(q.user), w, r) for q, w, r in zip(requests, wanted, results, strict=True)]
    right = sum(result.success and result.content == w for _, w, result in rows)
    show(answers_table(rows), "", f"{right} of {len(rows)} right; {summary_line(results)}")
    return 0 if right == len(rows) else 1


async def _ask_all(
    service: Any, requests: Sequence[GenerationRequest], *, quiet: bool
) -> list[GenerationResult[Any]]:
    """Ask for all capitals at once: the service's own limit decides how many are in flight."""
    async with service:
        with progress_bar(len(requests), quiet=quiet) as advance:

            async def ask(request: GenerationRequest) -> GenerationResult[Any]:
                result: GenerationResult[Any] = await service.capital_of(
                    request.metadata["country"]
                )
                advance()
                return result

            return list(await asyncio.gather(*map(ask, requests)))


def _find_examples(given: Path | None) -> Path:
    """Return the folder asked for, that of the installed package, that of the checkout it is, or ./examples."""
    here = Path(__file__)
    checkouts = [folder.parent for folder in here.parents[4:5] if folder.name == "packages"]
    roots = [here.parent.parent, *checkouts, Path()]
    places = [given] if given else [root / "examples" for root in roots]
    for place in places:
        if (place / "geography.py").is_file():
            return place
    raise click.ClickException(
        f"{', '.join(map(str, places))}: no geography.py in there; "
        "--examples FOLDER names a folder with the examples of a checkout"
    )


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise click.ClickException(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
