"""Run the Python examples of one Markdown file as its reader would: in order, in one namespace.

    python tests/markdown_examples.py README.md

`await` at the top level of an example works, on one event loop for the whole file. Warnings are
errors. A failing example ends the run with `README.md:42: ValueError: …` and exit code 1.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt


@dataclass(frozen=True, slots=True)
class Example:
    """A fenced block whose language is `python` or `py`."""

    line: int
    """The line of its first statement in the file, counted from 1."""

    code: str


def find_examples(text: str) -> Iterator[Example]:
    """Yield the Python blocks of a Markdown `text` in order; other languages are not run."""
    for token in MarkdownIt().parse(text):
        if token.type == "fence" and token.info.split()[:1] in (["python"], ["py"]):
            assert token.map is not None
            yield Example(line=token.map[0] + 2, code=token.content)


def run_examples(path: Path) -> None:
    """Run every example of `path` as the module `__main__`.

    The lines before an example are blank in what is compiled, so that every traceback and warning
    gives the line of the Markdown file.
    """
    module = types.ModuleType("__main__")
    # dataclasses, pickle and get_type_hints look a class's module up here.
    sys.modules["__main__"] = module
    with asyncio.Runner() as runner:
        for example in find_examples(path.read_text(encoding="utf-8")):
            source = "\n" * (example.line - 1) + example.code
            code = compile(
                source, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
            running = eval(code, module.__dict__)
            if inspect.iscoroutine(running):
                runner.run(running)


def line_of(error: BaseException, path: Path) -> int:
    """Return the line of `path` at which `error` arose; 0 if it never passed through `path`."""
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
