"""A contender in a process of its own, which does so much work as it is told and says what it took."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness.environments import ROOT, Environment

PATIENCE_SECONDS = 120.0
"""After which a contender that says nothing counts as hanging."""


class ContenderError(Exception):
    """A contender could not be installed or started, or failed at its work."""


class Contender:
    """A module of benchmarks/peers in its environment; without one, in ours."""

    def __init__(self, module: str, *words: str, environment: Environment | None = None) -> None:
        try:
            python = environment.interpreter() if environment else Path(sys.executable)
        except subprocess.CalledProcessError as error:
            raise ContenderError(f"{module}: its environment could not be made") from error
        self._name = " ".join((module, *words))
        command = [str(python), "-m", f"benchmarks.peers.{module}", *words]
        settings = {**os.environ, "PYTHONPATH": str(ROOT)}
        # Else a worker that is started for the first time compiles its modules at every start.
        settings.pop("PYTHONDONTWRITEBYTECODE", None)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=settings,
        )
        try:
            self._receive()
        except ContenderError:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def measure(self, work: str, times: int, *, fresh: bool = False) -> dict[str, float]:
        """Return `cpu` and `wall` microseconds a unit of `times` repeats of a work, and `peak_mb` of the process.

        With `fresh` the work is prepared anew. Raises ContenderError.
        """
        found: dict[str, float] = self.ask(work=work, times=times, fresh=fresh)
        return found

    def cpu(self, work: str, times: int, *, fresh: bool = False) -> Callable[[], float]:
        """Return a function that measures a work and returns its CPU microseconds a unit."""
        return lambda: self.measure(work, times, fresh=fresh)["cpu"]

    def ask(self, **asked: Any) -> Any:
        """Send one line of JSON and return the answer's; raises ContenderError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ContenderError(f"{self._name}: it has ended") from error
        return self._receive()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        # Each answer is one line for one question, so that nothing can wait unseen in the buffer.
        if not select.select([self._process.stdout], [], [], PATIENCE_SECONDS)[0]:
            raise ContenderError(f"{self._name}: no answer in {PATIENCE_SECONDS:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise ContenderError(f"{self._name}: it ended without an answer")
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"{self._name}: {answer['error']}")
        return answer["found"]


@contextmanager
def started(makers: Mapping[str, Callable[[], Contender]]) -> Iterator[dict[str, Contender]]:
    """Start contenders and end them at the end of the block; one that cannot start is named and left out."""
    with ExitStack() as stack:
        running: dict[str, Contender] = {}
        for name, make in makers.items():
            try:
                running[name] = make()
            except ContenderError as error:
                print(f"left out: {error}", file=sys.stderr)
            else:
                stack.callback(running[name].close)
        yield running
