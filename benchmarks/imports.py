"""What importing costs and how much is installed, beside peers that call the same models.

    hatch run bench imports               # two to three minutes
    hatch run bench imports --no-peers    # ours and the bare SDK

Ours is built as wheels and installed like the peers, in an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import (
    Environment,
    Headline,
    Measured,
    Options,
    Page,
    Table,
    against,
    canned_server,
    publish,
    read_options,
    take_turns,
    where_peers_are_better,
)
from benchmarks.harness.environments import FOLDER, ROOT, fresh, site_packages, uv, versions
from benchmarks.harness.plots import Panel, bars

BARE = "bare Python"
SERVICE = "llm-service"
METHOD = """\
Every contender is installed in an environment of its own and compiled to bytecode at once; all take turns.
A figure is CPU time (user and system) of a whole process, less that of a Python that does nothing in the same round;
the median of the rounds. To import is to import the name that a program begins with. The first answer is a program that
imports, makes its client, asks the local server one question and prints the answer: what is put off at import is paid
there. Installed megabytes are all files of `site-packages` without bytecode, dependencies included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A way to call a model, or a part of one."""

    requirements: tuple[str, ...]
    start: str
    """What a program imports first."""
    answer: str = ""
    """The rest of a program that prints an answer; it finds the server at URL."""
    is_ours: bool = False


OURS = {
    "llm-gates": Candidate(
        requirements=("llm-gates",), start="from llm_gates import RpmGate", is_ours=True
    ),
    "llm-providers[openai]": Candidate(
        requirements=("llm-providers[openai]",),
        start="from llm_providers import OpenAIProvider",
        answer="""
import asyncio
from llm_core import LLMCallRequest, Message
async def main():
    request = LLMCallRequest(model="gpt-4o", messages=(Message.user("Hello"),))
    print((await OpenAIProvider("key", URL, "chat_completions").invoke(request)).text)
asyncio.run(main())
""",
        is_ours=True,
    ),
    SERVICE: Candidate(
        requirements=("llm-service",),
        start="from llm_service import BaseLLMService",
        answer="""
import asyncio
from llm_providers import OpenAIProvider
async def main():
    provider = OpenAIProvider("key", URL, "chat_completions")
    async with BaseLLMService(model="gpt-4o", provider=provider, max_rpm=500) as service:
        print((await service.generate("Hello")).unwrap())
asyncio.run(main())
""",
        is_ours=True,
    ),
}
PEERS = {
    "openai SDK": Candidate(
        requirements=("openai",),
        start="from openai import AsyncOpenAI",
        answer="""
import asyncio
async def main():
    client = AsyncOpenAI(api_key="key", base_url=URL)
    reply = await client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Hello"}]
    )
    print(reply.choices[0].message.content)
asyncio.run(main())
""",
    ),
    "langchain-openai": Candidate(
        requirements=("langchain-openai",),
        start="from langchain_openai import ChatOpenAI",
        answer="""
import asyncio
async def main():
    print((await ChatOpenAI(model="gpt-4o", api_key="key", base_url=URL).ainvoke("Hello")).content)
asyncio.run(main())
""",
    ),
    "litellm": Candidate(
        requirements=("litellm",),
        start="import os; os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] = 'True'; import litellm",
        answer="""
import asyncio
async def main():
    reply = await litellm.acompletion(
        model="openai/gpt-4o", messages=[{"role": "user", "content": "Hello"}], api_key="key", api_base=URL
    )
    print(reply.choices[0].message.content)
asyncio.run(main())
""",
    ),
    "pydantic-ai": Candidate(
        requirements=("pydantic-ai-slim[openai]",),
        start="from pydantic_ai import Agent; from pydantic_ai.models.openai import OpenAIChatModel",
        answer="""
import asyncio
from pydantic_ai.providers.openai import OpenAIProvider
async def main():
    provider = OpenAIProvider(base_url=URL, api_key="key")
    print((await Agent(OpenAIChatModel("gpt-4o", provider=provider)).run("Hello")).output)
asyncio.run(main())
""",
    ),
    "instructor": Candidate(
        requirements=("instructor",),
        start="import instructor; from openai import AsyncOpenAI",
        answer="""
import asyncio
async def main():
    client = instructor.from_openai(AsyncOpenAI(api_key="key", base_url=URL))
    reply = await client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Hello"}], response_model=None
    )
    print(reply.choices[0].message.content)
asyncio.run(main())
""",
    ),
}


def install_ours() -> dict[str, Path]:
    """Build our wheels and install them; return each candidate's environment."""
    folders = {}
    with tempfile.TemporaryDirectory() as wheels:
        uv("build", "--all-packages", "--wheel", "--out-dir", wheels)
        constraints = Path(wheels, "constraints.txt")
        # A sibling must come from here: several names belong to strangers on the index.
        found = sorted(Path(wheels).glob("*.whl"))
        lines = [f"{path.name.split('-')[0]} @ {path.as_uri()}\n" for path in found]
        constraints.write_text("".join(lines), "utf-8")
        for name, candidate in OURS.items():
            folder = FOLDER / f"ours-{name.partition('[')[0]}"
            words = ("--constraints", str(constraints), *candidate.requirements)
            fresh(folder, words, python=Environment(()).python)
            folders[name] = folder
    return folders


def install_peers(candidates: Mapping[str, Candidate]) -> dict[str, Path]:
    """Install what is not there; return each candidate's environment."""
    folders = {}
    for name, candidate in candidates.items():
        try:
            folders[name] = Environment(candidate.requirements).interpreter().parents[1]
        except subprocess.CalledProcessError:
            print(f"left out: {name} could not be installed", file=sys.stderr)
    return folders


def cpu_milliseconds(folder: Path, code: str) -> float:
    """Run a program in an environment and return its CPU time; raises RuntimeError if it fails."""
    # Isolated, so that no setting of this shell keeps it from using the bytecode.
    command = [str(folder / "bin" / "python"), "-I", "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return (used.ru_utime + used.ru_stime) * 1e3


def programs(
    candidates: Mapping[str, Candidate], folders: Mapping[str, Path], url: str
) -> dict[str, Callable[[], float]]:
    """Return every program that is measured, by candidate's name, with `, answer` for the second kind."""
    bare = next(iter(folders.values()))
    found = {BARE: lambda: cpu_milliseconds(bare, "pass")}
    for name, folder in folders.items():
        one = candidates[name]
        found[name] = lambda folder=folder, one=one: cpu_milliseconds(folder, one.start)  # type: ignore[misc]
        if one.answer:
            code = f"{one.start}\nURL = {url!r}\n{one.answer}"
            found[f"{name}, answer"] = lambda folder=folder, code=code: cpu_milliseconds(  # type: ignore[misc]
                folder, code
            )
    return found


def megabytes(folder: Path) -> float:
    """Return how much is installed in an environment, without bytecode."""
    files = (path for path in site_packages(folder).rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc") / 1e6


def measure(options: Options) -> tuple[list[Measured], list[Measured], dict[str, Path]]:
    """Return imports, first answers, and the environments."""
    peers = PEERS if options.peers else {"openai SDK": PEERS["openai SDK"]}
    candidates = {**OURS, **peers}
    folders = {**install_ours(), **install_peers(peers)}
    with canned_server() as url:
        measured = take_turns(programs(candidates, folders, url), rounds=options.rounds)
    bare = measured[0]
    more = [
        Measured(
            one.name.removesuffix(", answer"), one.less(bare).rounds, one.name.split(",")[0] in OURS
        )
        for one in measured[1:]
    ]
    is_answer = [one.name.endswith(", answer") for one in measured[1:]]
    starts = [one for one, late in zip(more, is_answer, strict=True) if not late]
    answers = [one for one, late in zip(more, is_answer, strict=True) if late]
    return starts, answers, folders


def table(starts: list[Measured], answers: list[Measured], folders: dict[str, Path]) -> Table:
    by_name = {one.name: one for one in answers}
    rows = []
    for one in starts:
        low, high = one.quartiles
        answer = by_name.get(one.name)
        least, most = answer.quartiles if answer else (0.0, 0.0)
        rows.append(
            (
                f"**{one.name}**" if one.is_ours else one.name,
                f"{one.median:,.0f} ({low:,.0f} – {high:,.0f})",
                f"{answer.median:,.0f} ({least:,.0f} – {most:,.0f})" if answer else "",
                f"{megabytes(folders[one.name]):,.1f}",
                f"{len(versions(folders[one.name]))}",
            )
        )
    head = ("", "import, CPU ms", "first answer, CPU ms", "MB", "packages")
    return Table(
        "Import, first answer and size", head, rows, "In brackets the middle half of the rounds."
    )


def main() -> int:
    options = read_options(__doc__, rounds=7)
    starts, answers, folders = measure(options)
    sizes = [Measured(one.name, (megabytes(folders[one.name]),), one.is_ours) for one in starts]
    if not options.dry_run:
        bars(
            "imports",
            [
                Panel("Import, CPU ms more than bare Python", starts, yardstick=SERVICE),
                Panel("From start to first answer, CPU ms", answers, yardstick=SERVICE),
                Panel("Installed, MB without bytecode", sizes, 1, yardstick=SERVICE),
            ],
        )
    kinds = (
        ("import", starts, "ms", "an import"),
        ("from start to first answer, CPU", answers, "ms", "a first answer"),
        ("installed", sizes, "MB", "installed size"),
    )
    peers = folders.keys() - OURS.keys()
    installed = {name: versions(folders[name]) for name in sorted(peers)}
    packages = {name: PEERS[name].requirements[0].partition("[")[0] for name in installed}
    service = {
        what: next(one for one in found if one.name == SERVICE) for what, found, _, _ in kinds
    }
    page = Page(
        name="imports",
        title="Import time and installed size",
        summary=[
            Headline(
                what=f"{what} ({SERVICE})",
                ours=f"{service[what].median:,.0f} {unit}",
                others=against(found, SERVICE),
            )
            for what, found, unit, _ in kinds
        ],
        tables=[table(starts, answers, folders)],
        better=[
            sentence
            for _, found, _, at in kinds
            for sentence in where_peers_are_better(found, SERVICE, at=at)
        ],
        method=METHOD,
        versions=", ".join(
            f"{packages[name]} {installed[name][packages[name]]}" for name in installed
        ),
        picture_says="Import time, time to the first answer and installed size, ours and peers",
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
