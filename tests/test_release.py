"""A release is refused when the tree is not ready for it, and otherwise done whole."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

LAYOUT = """[project]
name = "{name}"  # kept
version = "0.1.3"
dependencies = [{needs}]

[project.optional-dependencies]
extra = [{extra}]
"""


def git(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return ran.stdout.strip()


def release(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on `tree`, which holds a copy of it."""
    command = [sys.executable, str(tree / "scripts" / "release.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def add_package(tree: Path, name: str, *, needs: str = "", extra: str = "") -> None:
    folder = tree / "packages" / name
    (folder / "changelog.d").mkdir(parents=True)
    (folder / "changelog.d" / ".gitkeep").touch()
    (folder / "pyproject.toml").write_text(LAYOUT.format(name=name, needs=needs, extra=extra))
    start = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    marker = start["tool"]["towncrier"]["start_string"]
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n{marker}")


def commit_all(tree: Path) -> None:
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "Begin")


@pytest.fixture
def committer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who commits, where git has not been told."""
    for variable, value in {"NAME": "Anna", "EMAIL": "anna@example.org"}.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{variable}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{variable}", value)


@pytest.fixture
def tree(tmp_path: Path, committer: None) -> Path:
    """A committed repository of three packages, with this one's settings and command."""
    (tmp_path / "scripts").mkdir()
    for file in ("pyproject.toml", "scripts/release.py"):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    add_package(tmp_path, "llm-core")
    add_package(tmp_path, "llm-gates", needs='"llm-core>=0.1,<0.2"')
    add_package(tmp_path, "llm-sim", extra='"llm-core[fast]>=0.1,<0.2", "llm-core-x>=0.1"')
    fragment = tmp_path / "packages" / "llm-core" / "changelog.d" / "+clocks.added.md"
    fragment.write_text("Clocks can be wound by hand.\n")
    commit_all(tmp_path)
    return tmp_path


def pyproject(tree: Path, package: str) -> str:
    return (tree / "packages" / package / "pyproject.toml").read_text("utf-8")


class TestRelease:
    def test_a_minor_release_bumps_writes_the_changelog_commits_and_tags(self, tree: Path) -> None:
        ran = release(tree, "llm-core", "minor")
        assert ran.returncode == 0, ran.stderr
        assert 'version = "0.2.0"' in pyproject(tree, "llm-core")
        changelog = (tree / "packages" / "llm-core" / "CHANGELOG.md").read_text("utf-8")
        assert "## 0.2.0 (" in changelog
        assert "- Clocks can be wound by hand." in changelog
        assert git(tree, "log", "-1", "--format=%s") == "Release llm-core 0.2.0"
        assert git(tree, "tag", "--points-at", "HEAD") == "llm-core-v0.2.0"
        assert git(tree, "status", "--porcelain") == ""

    def test_the_bounds_of_dependents_move_and_their_changelogs_say_so(self, tree: Path) -> None:
        release(tree, "llm-core", "minor")
        assert 'dependencies = ["llm-core>=0.2,<0.3"]' in pyproject(tree, "llm-gates")
        assert '"llm-core[fast]>=0.2,<0.3", "llm-core-x>=0.1"' in pyproject(tree, "llm-sim")
        said = tree / "packages" / "llm-gates" / "changelog.d" / "+needs-llm-core.changed.md"
        assert said.read_text("utf-8") == "Needs `llm-core` 0.2.\n"

    def test_the_packages_whose_bounds_move_are_named_as_due(self, tree: Path) -> None:
        ran = release(tree, "llm-core", "minor")
        assert "to be released after it, as their requirements change: llm-gates, llm-sim\n" in (
            ran.stdout
        )

    def test_a_first_release_is_of_the_version_that_stands_there(self, tree: Path) -> None:
        ran = release(tree, "llm-core", "first")
        assert ran.returncode == 0, ran.stderr
        assert 'version = "0.1.3"' in pyproject(tree, "llm-core")
        changelog = (tree / "packages" / "llm-core" / "CHANGELOG.md").read_text("utf-8")
        assert "## 0.1.3 (" in changelog
        assert git(tree, "tag", "--points-at", "HEAD") == "llm-core-v0.1.3"

    def test_a_patch_moves_no_bound(self, tree: Path) -> None:
        assert release(tree, "llm-core", "patch").returncode == 0
        assert 'version = "0.1.4"' in pyproject(tree, "llm-core")
        assert 'dependencies = ["llm-core>=0.1,<0.2"]' in pyproject(tree, "llm-gates")

    def test_the_layout_of_a_pyproject_is_kept(self, tree: Path) -> None:
        before = pyproject(tree, "llm-core")
        release(tree, "llm-core", "major")
        assert pyproject(tree, "llm-core") == before.replace("0.1.3", "1.0.0")

    def test_the_folder_of_fragments_outlives_its_last_fragment(self, tree: Path) -> None:
        release(tree, "llm-core", "minor")
        kept = git(tree, "ls-files", "packages/llm-core/changelog.d")
        assert kept == "packages/llm-core/changelog.d/.gitkeep"

    def test_a_dry_run_says_all_and_changes_nothing(self, tree: Path) -> None:
        ran = release(tree, "llm-core", "minor", "--dry-run")
        assert ran.returncode == 0, ran.stderr
        assert "llm-core 0.1.3 -> 0.2.0, tag llm-core-v0.2.0" in ran.stdout
        assert "llm-gates: llm-core>=0.1,<0.2 -> llm-core>=0.2,<0.3" in ran.stdout
        assert "Clocks can be wound by hand." in ran.stdout
        assert git(tree, "status", "--porcelain") == git(tree, "tag") == ""
        assert git(tree, "log", "--format=%s") == "Begin"


class TestRefusal:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["llm-cor", "minor"], "no package 'llm-cor': choose one of llm-core, llm-gates"),
            (
                ["llm-core", "tiny"],
                "no part 'tiny' of a version: choose one of major, minor, patch, first",
            ),
            (["llm-gates", "minor"], "write packages/llm-gates/changelog.d/+word.changed.md"),
        ],
        ids=["unknown package", "unknown part", "no fragment"],
    )
    def test_what_cannot_be_released_is_refused_with_what_to_do(
        self, tree: Path, arguments: list[str], complaint: str
    ) -> None:
        ran = release(tree, *arguments)
        assert ran.returncode == 1
        assert complaint in ran.stderr
        assert "nothing was changed" in ran.stderr

    def test_a_tree_with_changes_is_refused_and_the_changes_are_named(self, tree: Path) -> None:
        (tree / "packages" / "llm-gates" / "notes.txt").touch()
        ran = release(tree, "llm-core", "minor")
        assert ran.returncode == 1
        assert "packages/llm-gates/notes.txt" in ran.stderr

    def test_a_version_that_is_tagged_is_refused(self, tree: Path) -> None:
        git(tree, "tag", "llm-core-v0.2.0")
        ran = release(tree, "llm-core", "minor")
        assert ran.returncode == 1
        assert "llm-core 0.2.0 is released" in ran.stderr

    def test_a_second_first_release_is_refused(self, tree: Path) -> None:
        git(tree, "tag", "llm-core-v0.1.2")
        ran = release(tree, "llm-core", "first")
        assert ran.returncode == 1
        assert "llm-core has releases already: llm-core-v0.1.2" in ran.stderr

    @pytest.mark.parametrize("hook", ["pre-commit", "reference-transaction"])
    def test_a_failure_half_way_says_how_to_take_it_back(self, tree: Path, hook: str) -> None:
        """Before the commit, and between it and the tag."""
        script = tree / ".git" / "hooks" / hook
        script.parent.mkdir(exist_ok=True)
        only_tags = "grep -q refs/tags || exit 0\n" if hook == "reference-transaction" else ""
        script.write_text(f"#!/bin/sh\n{only_tags}echo 'the hook says no' >&2\nexit 1\n")
        script.chmod(0o755)
        ran = release(tree, "llm-core", "minor")
        script.unlink()
        assert ran.returncode == 1
        assert "the hook says no" in ran.stderr
        undo = ran.stderr.partition("take it back with: ")[2]
        subprocess.run(undo, cwd=tree, shell=True, check=True, capture_output=True)
        assert git(tree, "status", "--porcelain") == ""
        assert git(tree, "log", "--format=%s") == "Begin"
        assert 'version = "0.1.3"' in pyproject(tree, "llm-core")


class TestThisTree:
    """The packages as they are, copied without their code."""

    @pytest.fixture
    def copy(self, tmp_path: Path, committer: None) -> Path:
        files = ["pyproject.toml", "scripts/release.py"]
        files += [
            str(path.relative_to(ROOT))
            for pattern in ("pyproject.toml", "CHANGELOG.md", "changelog.d/*")
            for path in ROOT.glob(f"packages/*/{pattern}")
        ]
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes((ROOT / file).read_bytes())
        # Whatever was released last, there is something to release.
        new = tmp_path / "packages" / "llm-core" / "changelog.d" / "+new.added.md"
        new.write_text("Something new.\n")
        commit_all(tmp_path)
        return tmp_path

    def test_a_minor_release_of_the_lowest_package_leaves_bounds_that_can_be_met(
        self, copy: Path
    ) -> None:
        ran = release(copy, "llm-core", "minor")
        assert ran.returncode == 0, ran.stderr
        assert git(copy, "status", "--porcelain") == ""
        projects = [
            tomllib.loads(path.read_text("utf-8"))["project"]
            for path in copy.glob("packages/*/pyproject.toml")
        ]
        versions = {project["name"]: project["version"] for project in projects}
        needed = [
            Requirement(written)
            for project in projects
            for written in chain(
                project["dependencies"], *project.get("optional-dependencies", {}).values()
            )
        ]
        siblings = [need for need in needed if need.name in versions]
        assert [need for need in siblings if versions[need.name] not in need.specifier] == []
        assert sum(need.name == "llm-core" for need in siblings) == len(projects) - 1
        assert git(copy, "tag") == f"llm-core-v{versions['llm-core']}"
        changelog = (copy / "packages" / "llm-core" / "CHANGELOG.md").read_text("utf-8")
        assert f"## {versions['llm-core']} (" in changelog
        assert "- Something new." in changelog
