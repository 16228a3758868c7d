"""A peer's own virtual environment, made by uv and kept for the next run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".benchmarks"
"""Where the environments are; to be deleted at will."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Packages from PyPI as they were on the day that the root's pyproject.toml gives."""

    requirements: tuple[str, ...]
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def folder(self) -> Path:
        """Its place, which changes with what is asked for."""
        asked = json.dumps([self.requirements, self.python, _day()])
        first = self.requirements[0].partition("[")[0] if self.requirements else "bare"
        return FOLDER / f"{first}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"

    def interpreter(self) -> Path:
        """Return its Python; makes the environment if it is not there. Raises CalledProcessError if that fails."""
        python = self.folder / "bin" / "python"
        finished = self.folder / "finished"
        if not finished.exists():
            print(f"making an environment with {', '.join(self.requirements)} …", file=sys.stderr)
            fresh(self.folder, self.requirements, python=self.python)
            finished.touch()
        return python

    def version(self, package: str) -> str:
        """Return the version of a package that is installed in it; words for one that is not."""
        if not (self.folder / "finished").exists():
            return "(could not be installed)"
        return versions(self.folder)[package.lower().replace("_", "-")]


def fresh(folder: Path, packages: tuple[str, ...], *, python: str, compiled: bool = True) -> None:
    """Make an environment in `folder`, which is emptied first, with `packages` (requirements or files)."""
    uv("venv", "--clear", "--python", python, str(folder))
    if packages:
        compile_or_not = ["--compile-bytecode"] if compiled else []
        where = ["--python", str(folder / "bin" / "python"), "--exclude-newer", _day()]
        uv("pip", "install", *where, *compile_or_not, *packages)


def site_packages(folder: Path) -> Path:
    """Return where an environment's packages are."""
    return next(folder.glob("lib/python*/site-packages"))


def versions(folder: Path) -> dict[str, str]:
    """Return the names and versions of what is installed in an environment."""
    found = (path.stem.split("-") for path in site_packages(folder).glob("*.dist-info"))
    return {name.lower().replace("_", "-"): version for name, version in found}


def uv(*words: str) -> None:
    """Run uv quietly with what the machine has; raises CalledProcessError, with its complaint shown."""
    command = shutil.which("uv") or str(Path(sysconfig.get_path("scripts")) / "uv")
    settings = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    settings.pop("VIRTUAL_ENV", None)
    subprocess.run([command, "--quiet", *words], check=True, cwd=ROOT, env=settings)


def _day() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        day: str = tomllib.load(file)["tool"]["uv"]["exclude-newer"]
    return day
