"""Release one package: `hatch run -- nox -s release -- llm-gates minor`, with `--dry-run` to look first.

It bumps the version, moves the bounds of the packages that depend on it, writes the changelog from
its fragments, commits and tags. Nothing is pushed and nothing is uploaded.
A package's first release takes `first` for the part: the version that stands there, not one after it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

FIRST = "first"
PARTS = ("major", "minor", "patch", FIRST)


class ReleaseRefused(Exception):
    """The release cannot go on; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A requirement of another package that the new version falls out of."""

    pyproject: Path
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What will be done, all of it known before anything is written."""

    package: str
    folder: Path
    old: Version
    new: Version
    bounds: tuple[Bound, ...]

    @property
    def tag(self) -> str:
        """The tag that names the commit: versions are per package."""
        return f"{self.package}-v{self.new}"

    @property
    def title(self) -> str:
        """The commit's first line."""
        return f"Release {self.package} {self.new}"


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run `command` in `folder` and return what it prints; its complaint ends the release."""
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ReleaseRefused(f"{command[0]!r} is not on the PATH: install it") from None
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip()
        raise ReleaseRefused(f"{' '.join(map(str, command))} failed: {said}")
    return ran.stdout.strip()


def bumped(version: Version, part: str) -> Version:
    """Return `version` with its `part` one higher and what is smaller at 0; for `first` as it is."""
    major, minor, patch = version.major, version.minor, version.micro
    following = {
        "major": (major + 1, 0, 0),
        "minor": (major, minor + 1, 0),
        "patch": (major, minor, patch + 1),
        FIRST: (major, minor, patch),
    }
    return Version(".".join(map(str, following[part])))


def requirements_in(pyproject: Path) -> Iterator[str]:
    """Yield the requirements of a package and of its extras as they are written."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    yield from project.get("dependencies", ())
    for requirements in project.get("optional-dependencies", {}).values():
        yield from requirements


def bounds_to_move(root: Path, package: str, new: Version) -> Iterator[Bound]:
    """Yield the requirements that `package` in its `new` version does not meet any more."""
    specifier = f">={new.major}.{new.minor},<{new.major}.{new.minor + 1}"
    for pyproject in sorted(root.glob("packages/*/pyproject.toml")):
        for written in requirements_in(pyproject):
            wanted = Requirement(written)
            if canonicalize_name(wanted.name) == package and new not in wanted.specifier:
                name = written[: -len(str(wanted.specifier))] if wanted.specifier else written
                yield Bound(pyproject=pyproject, old=written, new=f"{name}{specifier}")


def fragments_of(folder: Path) -> list[Path]:
    """Return the changelog fragments that wait in a package's folder."""
    return sorted((folder / "changelog.d").glob("*.md"))


def plan(root: Path, package: str, part: str) -> Release:
    """Say what releasing `package` means, or refuse with the reason."""
    folders = {path.parent.name: path.parent for path in root.glob("packages/*/pyproject.toml")}
    if package not in folders:
        raise ReleaseRefused(f"no package {package!r}: choose one of {', '.join(sorted(folders))}")
    if part not in PARTS:
        raise ReleaseRefused(f"no part {part!r} of a version: choose one of {', '.join(PARTS)}")
    if changes := run(["git", "status", "--porcelain"], root):
        raise ReleaseRefused(f"the tree has changes, commit or stash them first:\n{changes}")
    folder = folders[package]
    if not fragments_of(folder):
        wanted = folder.relative_to(root) / "changelog.d" / "+word.changed.md"
        raise ReleaseRefused(f"{package} has nothing for its changelog: write {wanted}, commit it")
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    old = Version(project["version"])
    new = bumped(old, part)
    release = Release(
        package=package,
        folder=folder,
        old=old,
        new=new,
        bounds=tuple(bounds_to_move(root, package, new)),
    )
    if part == FIRST and (tags := run(["git", "tag", "--list", f"{package}-v*"], root)):
        raise ReleaseRefused(f"{package} has releases already: {', '.join(tags.splitlines())}")
    if run(["git", "tag", "--list", release.tag], root):
        raise ReleaseRefused(f"the tag {release.tag} is there already: {package} {new} is released")
    return release


def replace_once(file: Path, old: str, new: str) -> None:
    """Write `new` for the only `old` of a file, which keeps its layout and its comments."""
    text = file.read_text("utf-8")
    if text.count(old) != 1:
        raise ReleaseRefused(f"{file} has {old!r} {text.count(old)} times, expected once")
    file.write_text(text.replace(old, new), "utf-8")


def towncrier(root: Path, release: Release, option: str) -> str:
    """Build the package's changelog by towncrier, or with `--draft` only return its new part."""
    where = release.folder.relative_to(root)
    command = [sys.executable, "-m", "towncrier", "build", option]
    settings = ["--config", "pyproject.toml", "--dir", str(where), "--version", str(release.new)]
    return run([*command, *settings], root)


def carry_out(root: Path, release: Release) -> None:
    """Write, commit and tag what was planned.

    A package whose bound moves gets a fragment that says so: its own next release is due.
    """
    version = 'version = "{}"'
    pyproject = release.folder / "pyproject.toml"
    replace_once(pyproject, version.format(release.old), version.format(release.new))
    for bound in release.bounds:
        replace_once(bound.pyproject, f'"{bound.old}"', f'"{bound.new}"')
        fragment = bound.pyproject.parent / "changelog.d" / f"+needs-{release.package}.changed.md"
        needed = f"{release.new.major}.{release.new.minor}"
        fragment.write_text(f"Needs `{release.package}` {needed}.\n", "utf-8")
    # Without a file git would forget the folder when its last fragment is taken.
    (release.folder / "changelog.d" / ".gitkeep").touch()
    towncrier(root, release, "--yes")
    run(["git", "add", "--all"], root)
    run(["git", "commit", "--message", release.title], root)
    run(["git", "tag", "--annotate", release.tag, "--message", release.title], root)


def describe(root: Path, release: Release) -> Iterator[str]:
    """Yield what will be done, a line each, and the changelog's new part."""
    yield f"{release.package} {release.old} -> {release.new}, tag {release.tag}"
    for bound in release.bounds:
        yield f"{bound.pyproject.parent.name}: {bound.old} -> {bound.new}"
    if release.bounds:
        due = sorted({bound.pyproject.parent.name for bound in release.bounds})
        yield f"to be released after it, as their requirements change: {', '.join(due)}"
    yield ""
    yield towncrier(root, release, "--draft")


def main(arguments: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Plan, say the plan and carry it out; return the exit code."""
    parser = argparse.ArgumentParser(prog="nox -s release --", description=__doc__)
    parser.add_argument("package", help="a folder of packages/, such as llm-gates")
    parser.add_argument("part", help=f"what of the version goes up: {', '.join(PARTS)}")
    parser.add_argument("--dry-run", action="store_true", help="say it and change nothing")
    wanted = parser.parse_args(arguments)
    root = root or Path(__file__).parents[1]
    try:
        release = plan(root, wanted.package, wanted.part)
        print(*describe(root, release), sep="\n")
    except ReleaseRefused as refusal:
        print(f"refused, nothing was changed: {refusal}", file=sys.stderr)
        return 1
    if wanted.dry_run:
        print("\na dry run: nothing was changed")
        return 0
    before = run(["git", "rev-parse", "--short", "HEAD"], root)
    try:
        carry_out(root, release)
    except ReleaseRefused as refusal:
        undo = f"git reset --hard {before} && git clean -fd packages"
        print(f"stopped half-way: {refusal}\ntake it back with: {undo}", file=sys.stderr)
        return 1
    print(f"\ncommitted and tagged; to publish: git push origin HEAD {release.tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
