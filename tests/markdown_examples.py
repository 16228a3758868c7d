"""Run the examples of one Markdown file as its reader would: in order, in one folder.

    python tests/markdown_examples.py README.md

- ```` ```python ```` runs in one namespace for the whole file. `await` at the top level works, on one event loop.
- A block in any language whose first line is a comment with a file's name, `# desk.py`, is saved under that name
  instead; some later block must use it.
- ```` ```console run ```` is typed into one shell for the whole file, and must print what stands there (`shell_examples.py`).

The ports in `PORTS` become free ones. Warnings are errors.
A failing example ends the run with `README.md:42: ValueError: …` and exit code 1.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import socket
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from shell_examples import Shell, WrongOutput

PORTS = ("8399", "8000")
"""What examples listen on. Somebody's program may hold the port, so the run uses free ones in their place."""


@dataclass(frozen=True, slots=True)
class Example:
    """A fenced block that can be run or saved."""

    line: int
    """The line of its first statement in the file, counted from 1."""

    language: str
    """`python` or `console`; empty for a file of another kind."""

    code: str

    @property
    def file_name(self) -> str | None:
        """The name under which the block is saved, if it is."""
        named = re.match(r"# ([\w/-]+\.\w+)\n", self.code)
        return named[1] if named and self.language != "console" else None


def find_examples(text: str) -> Iterator[Example]:
    """Yield the blocks of a Markdown `text` that are run or saved, in order."""
    for token in MarkdownIt().parse(text):
        if token.type != "fence":
            continue
        assert token.map is not None
        words = token.info.split()
        language = ""
        if words[:1] in (["python"], ["py"]):
            language = "python"
        elif words[:2] == ["console", "run"]:
            language = "console"
        example = Example(line=token.map[0] + 2, language=language, code=token.content)
        if language or example.file_name:
            yield example


def with_free_ports(text: str) -> str:
    """Return `text` with a free port in the place of each of `PORTS`."""
    for port in PORTS:
        if port in text:
            with closing(socket.create_server(("127.0.0.1", 0))) as server:
                text = text.replace(port, str(server.getsockname()[1]))
    return text


def run_examples(path: Path) -> None:
    """Run every example of `path`, those in Python as the module `__main__`.

    The lines before an example are blank in what is compiled, so that every traceback and warning
    gives the line of the Markdown file.
    """
    module = types.ModuleType("__main__")
    # dataclasses, pickle and get_type_hints look a class's module up here.
    sys.modules["__main__"] = module
    examples = list(find_examples(with_free_ports(path.read_text(encoding="utf-8"))))
    with asyncio.Runner() as runner, Shell(path) as shell:
        for place, example in enumerate(examples):
            if name := example.file_name:
                if not any(Path(name).stem in later.code for later in examples[place + 1 :]):
                    raise UnusedFile(f"no later example uses {name!r}", example.line)
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_text(example.code, encoding="utf-8")
            elif example.language == "console":
                shell.type(example.code, example.line)
            else:
                _run_python(path, example, module, runner)


def _run_python(
    path: Path, example: Example, module: types.ModuleType, runner: asyncio.Runner
) -> None:
    source = "\n" * (example.line - 1) + example.code
    code = compile(
        source, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    running = eval(code, module.__dict__)
    if inspect.iscoroutine(running):
        runner.run(running)


class UnusedFile(Exception):
    """A block is saved as a file that no later block uses."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def line_of(error: BaseException, path: Path) -> int:
    """Return the line of `path` at which `error` arose; 0 if it never passed through `path`."""
    if isinstance(error, UnusedFile | WrongOutput):
        return error.line
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 0
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno or 0 for f in reversed(frames) if f.filename == str(path)), 0)


def main() -> int:
    """Run the file named on the command line and return the exit code."""
    path = Path(sys.argv[1])
    warnings.simplefilter("error")
    try:
        run_examples(path)
    except Exception as error:  # noqa: BLE001 - an example may raise anything; all of it is reported
        traceback.print_exc()
        print(f"{path}:{line_of(error, path)}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # An example that ends the interpreter early must not pass for one that ran through.
    try:
        code = main()
    except SystemExit as exit_:
        print(f"{sys.argv[1]}: an example called exit({exit_.code!r})", file=sys.stderr)
        code = 1
    sys.exit(code)
