"""What the tests of the command share: a shell in a folder of its own, with a simulator as OpenAI."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from llm_service.cli import main
from llm_sim import SimServer

COMMAND = [sys.executable, "-m", "llm_service"]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    rules = [{"contains": "capital of France", "reply": "Paris"}]
    with SimServer({"rules": rules, "default": "echo"}) as server:
        yield server


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


class Shell:
    """Runs the command in a folder of its own, with the simulator as OpenAI."""

    def __init__(self, folder: Path, sim: SimServer) -> None:
        self.folder = folder
        self.sim = sim
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "LLM_TELEMETRY": "none",
            "OPENAI_API_KEY": "simulated",
            "OPENAI_BASE_URL": sim.openai_base_url,
            "COLUMNS": "80",
            **{name: text for name, text in os.environ.items() if name.startswith("COVERAGE_")},
        }

    def __call__(self, *arguments: str, stdin: str | bytes = "") -> Done:
        """Run the command to its end, in this process: a tenth of the time of a new one."""
        piped = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.object(sys, "argv", ["llm-service", *arguments]),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped), "utf-8")),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    def spawn(self, *arguments: str, stdin: str = "") -> Done:
        """Run the command to its end, in a process of its own."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command and leave it running."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def write(self, name: str, *lines: str) -> str:
        """Write a file of lines; returns its name."""
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return name

    def files(self) -> list[str]:
        """Return the names of the files in the folder."""
        return sorted(path.name for path in self.folder.iterdir())

    @staticmethod
    def one_line(done: Done) -> str:
        """Return the only line on stderr of a command that could not be carried out."""
        assert done.returncode == 2, done
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.strip()


@pytest.fixture
def shell(tmp_path: Path, sim: SimServer) -> Shell:
    return Shell(tmp_path, sim)
