"""Type the shell examples of a document into one bash, and compare what they print.

    $ llm-service --version
    llm-service, version …

A line beginning with `$ ` is a command, lines beginning with `> ` continue it, the rest is what it prints on stdout and
stderr; `…` stands for anything, on a line by itself for any number of lines.
Nothing after a command means that its output does not matter. Every command must end with exit code 0.
A command that ends with `&` goes on in the background: what follows it is waited for.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

END = "end of command"
LONGEST_SECONDS = 30.0
"""How long a command, or what it starts in the background, may take to print what it should."""


class WrongOutput(Exception):
    """A command failed, or printed something else than the document says."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a session and what the document says that it prints."""

    line: int
    text: str
    expected: str

    @property
    def in_background(self) -> bool:
        """Whether the shell does not wait for its end."""
        return self.text.endswith("&")


def read_commands(session: str, line: int) -> Iterator[Command]:
    """Yield the commands of a `session` whose first line is `line` of its document."""
    for found in re.finditer(r"^\$ (.*(?:\n> .*)*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
        yield Command(
            line=line + session.count("\n", 0, found.start()),
            text=found[1].replace("\n> ", "\n"),
            expected=found[2].strip(),
        )


def fits(printed: str, expected: str) -> bool:
    """Return whether `printed` is what `expected` says, blanks at the ends of lines apart."""
    pattern = "\n".join(re.escape(line.rstrip()) for line in expected.splitlines())
    pattern = re.sub(r"(?m)^…\n", r"(?:.*\\n)*", pattern)
    pattern = re.sub(r"\n…\Z", r"(?:\\n.*)*", pattern).replace("…", ".*")
    return bool(re.fullmatch(pattern, "\n".join(map(str.rstrip, printed.strip().splitlines()))))


class Shell:
    """One bash, started by the first command and ended with all that it has started."""

    def __init__(self, document: Path) -> None:
        self._document = document
        self._bash: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bash is not None:
            self._kill()
            self._bash.communicate()

    def _kill(self) -> None:
        assert self._bash is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)

    def type(self, session: str, line: int) -> None:
        """Run the commands of a `session` whose first line is `line` of the document.

        Raises `WrongOutput` at the first that does not do as the document says.
        """
        for command in read_commands(session, line):
            self._run(command)

    def _run(self, command: Command) -> None:
        if self._bash is None:
            self._bash = self._start()
        assert self._bash.stdin is not None
        # The shell's own standard input is the session; a command must not read it.
        self._bash.stdin.write(
            f"{{ {command.text}\n}} </dev/null\nprintf '\\n%s %s\\n' '{END}' $?\n"
        )
        self._bash.stdin.flush()
        printed = ""
        ended = False
        # A shell that is killed ends the reading below.
        alarm = threading.Timer(LONGEST_SECONDS, self._kill)
        alarm.start()
        for row in iter(self._read_line, ""):
            if row.startswith(END):
                ended = True
                code = row.removeprefix(END).strip()
                if code != "0":
                    alarm.cancel()
                    raise WrongOutput(
                        f"$ {command.text}\nexit code {code}\n{printed}", command.line
                    )
            else:
                printed += row
            waits = command.in_background and command.expected
            if ended and not (waits and not fits(printed, command.expected)):
                break
        alarm.cancel()
        if not ended:
            raise WrongOutput(f"$ {command.text}\ndid not end; printed:\n{printed}", command.line)
        if command.expected and not fits(printed, command.expected):
            raise WrongOutput(
                f"$ {command.text}\nprinted:\n{printed}\nexpected:\n{command.expected}",
                command.line,
            )

    def _read_line(self) -> str:
        assert self._bash is not None
        assert self._bash.stdout is not None
        return self._bash.stdout.readline()

    def _start(self) -> subprocess.Popen[str]:
        environment = dict(os.environ)
        environment["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), environment["PATH"]]
        )
        environment.update(COLUMNS="80", NO_COLOR="1", TERM="dumb")
        return subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            start_new_session=True,
        )
