"""Who calls a model: the contenders that speak to a server, and the server they all speak to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.harness.contenders import Contender
from benchmarks.harness.environments import ROOT, Environment

OURS = "ours"
SDK = "openai SDK"
MODULES = {
    SDK: ("openai_sdk", "openai"),
    "langchain-openai": ("langchain_sdk", "langchain-openai"),
    "litellm": ("litellm_sdk", "litellm"),
    "pydantic-ai": ("pydantic_ai_sdk", "pydantic-ai-slim[openai]"),
    "instructor": ("instructor_sdk", "instructor"),
}


@contextmanager
def canned_server() -> Iterator[str]:
    """Serve OpenAI's protocol until the block is left; gives the base URL."""
    command = [sys.executable, "-m", "benchmarks.harness.canned_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def callers(base_url: str, *, peers: bool = True) -> dict[str, Callable[[], Contender]]:
    """Return makers of all contenders that call a model at `base_url`; without peers, ours and the bare SDK."""
    makers: dict[str, Callable[[], Contender]] = {OURS: lambda: Contender("ours", base_url)}
    for name, (module, requirement) in MODULES.items():
        if name == SDK or peers:
            environment = Environment((requirement,))
            makers[name] = lambda module=module, environment=environment: Contender(  # type: ignore[misc]
                module, base_url, environment=environment
            )
    return makers


def caller_versions() -> str:
    """Return name and version of every peer, as they are installed for them."""
    found = [("openai", Environment(("openai",)))]
    found += [
        (requirement.partition("[")[0], Environment((requirement,)))
        for name, (_, requirement) in MODULES.items()
        if name != SDK
    ]
    return ", ".join(f"{package} {environment.version(package)}" for package, environment in found)
