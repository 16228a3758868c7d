"""Carry out the install lines of README.md and of every package's README, each in an empty environment.

`hatch run nox -s installing` builds the bundle and calls it. The repository's last commit is served
on 127.0.0.1, and that is what `https://…` of the READMEs stands for. `pip` is the one that comes
with this Python, since that is what most users have.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
INSTALL_LINE = re.compile(r"^\$ ((?:uv )?pip install .+)$", re.MULTILINE)
ELSEWHERE = "pip install hatch"
"""An install line of the READMEs that is about this repository's tools, and run by `.ci/run`."""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Drop the line."""


@contextmanager
def served(repository: Path) -> Iterator[str]:
    """Serve the last commit of `repository` as a git remote on 127.0.0.1; give its address."""
    with TemporaryDirectory() as folder:
        bare = Path(folder, "repository.git")
        subprocess.run(["git", "clone", "-q", "--bare", repository, bare], check=True)
        subprocess.run(["git", "update-server-info"], cwd=bare, check=True)
        handler = partial(QuietHandler, directory=folder)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/{bare.name}"
            server.shutdown()


def install_lines(root: Path) -> list[tuple[Path, str]]:
    """Return each install line of the READMEs with its file."""
    readmes = [root / "README.md", *sorted(root.glob("packages/*/README.md"))]
    found = (
        (readme, line) for readme in readmes for line in INSTALL_LINE.findall(readme.read_text())
    )
    return [(readme, line) for readme, line in found if not line.startswith(ELSEWHERE)]


def freeze_after(line: str, address: str, home: Path) -> str:
    """Run an install line in a new environment, `address` in place of the dots; return what `pip freeze` says then."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
    binaries = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "VIRTUAL_ENV": str(home), "PATH": binaries}
    run = partial(
        subprocess.run, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    run(shlex.split(line.replace("https://…", address)))
    return run(["pip", "freeze"]).stdout


def strangers(frozen: str, siblings: set[str]) -> list[str]:
    """Return what came from an index though its name is one of `siblings`."""
    pinned = (line.partition("==") for line in frozen.splitlines())
    return [f"{name}=={version}" for name, equals, version in pinned if equals and name in siblings]


def main() -> int:
    """Run every line, print how it went, and return the exit code."""
    siblings = {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}
    failed = 0
    with served(ROOT) as address, TemporaryDirectory() as scratch:
        for readme, line in install_lines(ROOT):
            try:
                foreign = strangers(freeze_after(line, address, Path(scratch, "venv")), siblings)
                complaint = f"took {foreign} from an index" if foreign else ""
            except subprocess.CalledProcessError as error:
                complaint = error.stderr
            failed += bool(complaint)
            print(f"{readme.relative_to(ROOT)}: {line}: {complaint or 'installed'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
