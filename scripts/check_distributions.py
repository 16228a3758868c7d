"""Check what was built in dist/: it comes out the same elsewhere and at another time, and holds what it should.

`hatch run nox -s distributions` builds and calls it. A second build is made from a copy of the
tree, with new times and modes; its wheels are made from its source distributions, as pip does.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
SOURCES = ("packages", "examples", ".gitignore")
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis", ".venv", "dist")

NEEDED_IN_SOURCES = ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "tests/", "src/")
METADATA = (
    "Summary",
    "License-Expression",
    "License-File",
    "Keywords",
    "Requires-Python",
    "Author",
)


def build(folder: Path, kind: str, target: Path) -> None:
    """Build the `wheel` or `sdist` of the package in `folder` into `target`."""
    command = ["hatchling", "build", "-t", kind, "-d", str(target)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{folder} cannot be built: {ran.stderr}")


def copy_tree(root: Path, target: Path) -> None:
    """Copy what the packages are built from, with the times and modes of new files."""
    for name in SOURCES:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, copy_function=shutil.copyfile, ignore=LEFT_OUT)
        else:
            shutil.copyfile(source, target / name)


def build_elsewhere(root: Path, scratch: Path, target: Path) -> None:
    """Build every source distribution from a copy of `root`, and every wheel from those."""
    tree, unpacked = scratch / "tree", scratch / "unpacked"
    tree.mkdir()
    copy_tree(root, tree)
    for folder in sorted((tree / "packages").iterdir()):
        build(folder, "sdist", target)
    for sdist in sorted(target.glob("*.tar.gz")):
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
    for folder in sorted(unpacked.iterdir()):
        build(folder, "wheel", target)


def members(distribution: Path) -> dict[str, bytes]:
    """Return the files of a wheel or source distribution by path, the latter's top folder left out."""
    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(distribution) as sdist:
        files = ((member, sdist.extractfile(member)) for member in sdist if member.isfile())
        return {member.name.partition("/")[2]: file.read() for member, file in files if file}


def differences(first: Path, second: Path) -> Iterator[str]:
    """Yield a complaint if two builds of a distribution are not the same to the byte."""
    if not second.exists():
        yield f"{first.name} was not built a second time"
    elif first.read_bytes() != second.read_bytes():
        one, other = members(first), members(second)
        unlike = sorted(name for name in one | other if one.get(name) != other.get(name))
        yield f"{first.name} differs in {', '.join(unlike) or 'times, modes or order'}"


def faults_of_sdist(files: dict[str, bytes]) -> Iterator[str]:
    """Yield what a source distribution lacks."""
    for needed in NEEDED_IN_SOURCES:
        if not any(name == needed or name.startswith(f"{needed.rstrip('/')}/") for name in files):
            yield f"lacks {needed}"


def faults_of_wheel(files: dict[str, bytes], licence: bytes) -> Iterator[str]:
    """Yield what is wrong with a wheel's files and metadata."""
    info = next(name.partition("/")[0] for name in files if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(files[f"{info}/METADATA"])
    missing = [field for field in METADATA if not metadata[field]]
    if missing:
        yield f"its metadata lacks {', '.join(missing)}"
    if files.get(f"{info}/licenses/LICENSE") != licence:
        yield "does not hold the repository's LICENSE"
    module = info.partition("-")[0]
    if f"{module}/py.typed" not in files:
        yield f"lacks {module}/py.typed"
    if strays := sorted(name for name in files if name.startswith(("tests/", "src/"))):
        yield f"holds {strays[0]}, which is for the source distribution"


def complaints(root: Path, built: Path) -> Iterator[str]:
    """Yield what is wrong with the distributions in `built`."""
    licence = (root / "LICENSE").read_bytes()
    distributions = sorted([*built.glob("*.whl"), *built.glob("*.tar.gz")])
    packages = len(list(root.glob("packages/*/pyproject.toml")))
    if len(distributions) != 2 * packages:
        yield f"{built} holds {len(distributions)} distributions, expected 2 of {packages} packages"
    with TemporaryDirectory() as scratch:
        again = Path(scratch) / "again"
        build_elsewhere(root, Path(scratch), again)
        for distribution in distributions:
            files = members(distribution)
            wheel = distribution.suffix == ".whl"
            faults = faults_of_wheel(files, licence) if wheel else faults_of_sdist(files)
            yield from (f"{distribution.name} {fault}" for fault in faults)
            yield from differences(distribution, again / distribution.name)


def main() -> int:
    """Print the complaints, or how many distributions are in order; return the exit code."""
    built = ROOT / "dist"
    found = list(complaints(ROOT, built))
    print(*found, sep="\n", file=sys.stderr)
    if not found:
        count = len([*built.glob("*.whl"), *built.glob("*.tar.gz")])
        print(f"{count} distributions, the same to the byte when built again elsewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
