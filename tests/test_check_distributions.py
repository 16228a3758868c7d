"""What is wrong with a distribution is noticed and named."""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LICENCE = b"MIT"
METADATA = (
    b"Metadata-Version: 2.4\nName: llm-gates\nSummary: Gates.\nAuthor: We\nLicense-Expression: MIT\n"
    b"License-File: LICENSE\nKeywords: llm\nRequires-Python: >=3.11\n"
)


@pytest.fixture(scope="module")
def check() -> Any:
    """Return what the script defines; it is on no path."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "check_distributions.py")))


def wheel_files() -> dict[str, bytes]:
    """Return the files of a wheel that is in order."""
    return {
        "llm_gates/__init__.py": b"",
        "llm_gates/py.typed": b"",
        "llm_gates-0.1.0.dist-info/METADATA": METADATA,
        "llm_gates-0.1.0.dist-info/licenses/LICENSE": LICENCE,
    }


def write_wheel(folder: Path, files: dict[str, bytes], year: int = 2020) -> Path:
    folder.mkdir()
    path = folder / "llm_gates-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), content)
    return path


class TestWheel:
    def test_one_in_order_has_no_faults(self, check: Any) -> None:
        assert list(check.faults_of_wheel(wheel_files(), LICENCE)) == []

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"llm_gates-0.1.0.dist-info/licenses/LICENSE": b"GPL"}, "does not hold the"),
            ({"tests/test_gates.py": b""}, "holds tests/test_gates.py"),
            (
                {"llm_gates-0.1.0.dist-info/METADATA": METADATA.replace(b"Keywords: llm\n", b"")},
                "its metadata lacks Keywords",
            ),
        ],
        ids=["another licence", "tests", "no keywords"],
    )
    def test_what_is_wrong_is_named(self, check: Any, change: dict[str, bytes], fault: str) -> None:
        [said] = check.faults_of_wheel(wheel_files() | change, LICENCE)
        assert said.startswith(fault)


class TestSourceDistribution:
    def test_what_is_missing_is_named(self, check: Any) -> None:
        files = {"LICENSE": b"", "README.md": b"", "pyproject.toml": b"", "src/llm/x.py": b""}
        assert list(check.faults_of_sdist(files)) == ["lacks CHANGELOG.md", "lacks tests/"]


class TestTwoBuilds:
    def test_the_same_bytes_are_the_same(self, check: Any, tmp_path: Path) -> None:
        one = write_wheel(tmp_path / "one", wheel_files())
        other = write_wheel(tmp_path / "other", wheel_files())
        assert list(check.differences(one, other)) == []

    def test_the_files_that_differ_are_named(self, check: Any, tmp_path: Path) -> None:
        one = write_wheel(tmp_path / "one", wheel_files())
        other = write_wheel(tmp_path / "other", wheel_files() | {"llm_gates/py.typed": b"?"})
        [said] = check.differences(one, other)
        assert said == f"{one.name} differs in llm_gates/py.typed"

    def test_a_time_of_building_that_got_in_is_a_difference(
        self, check: Any, tmp_path: Path
    ) -> None:
        one = write_wheel(tmp_path / "one", wheel_files())
        other = write_wheel(tmp_path / "other", wheel_files(), year=2026)
        [said] = check.differences(one, other)
        assert said == f"{one.name} differs in times, modes or order"
