"""The matrix installs what is declared, and notices a stranger under a sibling's name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def noxfile() -> Iterator[Any]:
    """Import the noxfile, which is on no path."""
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up here
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def package(root: Path, name: str, *, needs: str = "", extras: str = "", test: str = "") -> None:
    """Write the pyproject.toml of a package below `root`; the lists are TOML."""
    folder = root / "packages" / name
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "0.1.0"\ndependencies = [{needs}]\n'
        f"[project.optional-dependencies]\n{extras}\n[dependency-groups]\ntest = [{test}]\n"
    )


def wheel(folder: Path, name: str) -> Path:
    """Write the smallest wheel called `name` into `folder`, as a stranger could upload it."""
    folder.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    path = folder / f"{module}-0.1.0-py3-none-any.whl"
    info = f"{module}-0.1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}.py", "STRANGER = True\n")
        metadata = {"Metadata-Version": "2.1", "Name": name, "Version": "0.1.0"}
        tags = {"Wheel-Version": "1.0", "Root-Is-Purelib": "true", "Tag": "py3-none-any"}
        for file, headers in {"METADATA": metadata, "WHEEL": tags}.items():
            lines = "".join(f"{key}: {value}\n" for key, value in headers.items())
            archive.writestr(f"{info}/{file}", lines)
        archive.writestr(f"{info}/RECORD", "")
    return path


class TestProvenance:
    """A sibling comes from the wheels just built, or the session fails."""

    @pytest.fixture
    def wheelhouse(self, tmp_path: Path) -> Path:
        return tmp_path / "dist"

    @pytest.fixture
    def environment(self, tmp_path: Path) -> Path:
        subprocess.run(
            [find_uv_bin(), "venv", "-q", "--python", sys.executable, tmp_path / "venv"], check=True
        )
        return tmp_path / "venv"

    def install(self, environment: Path, *arguments: str | Path) -> list[Path]:
        uv = [find_uv_bin(), "pip", "install", "-q", "--no-config", "--no-index"]
        subprocess.run([*uv, "--python", environment, *arguments], check=True)
        return list(environment.glob("**/site-packages"))

    def test_our_wheels_pass(self, noxfile: Any, environment: Path, wheelhouse: Path) -> None:
        ours = [wheel(wheelhouse, "llm-core"), wheel(wheelhouse, "llm-gates")]
        places = self.install(environment, *ours)
        names = ["llm-core", "llm-gates", "llm-sim"]
        assert list(noxfile.foreign_siblings(places, names, wheelhouse)) == []

    def test_a_stranger_from_an_index_is_named(
        self, noxfile: Any, environment: Path, wheelhouse: Path, tmp_path: Path
    ) -> None:
        gates = wheel(wheelhouse, "llm-gates")
        wheel(tmp_path / "index", "llm-core")
        places = self.install(environment, gates, "--find-links", tmp_path / "index", "llm-core")
        names = ["llm-core", "llm-gates"]
        assert list(noxfile.foreign_siblings(places, names, wheelhouse)) == [
            f"llm-core 0.1.0 came from an index, not from {wheelhouse}"
        ]

    def test_a_file_from_elsewhere_is_named(
        self, noxfile: Any, environment: Path, wheelhouse: Path, tmp_path: Path
    ) -> None:
        stranger = wheel(tmp_path / "elsewhere", "llm-core")
        places = self.install(environment, stranger)
        assert list(noxfile.foreign_siblings(places, ["llm-core"], wheelhouse)) == [
            f"llm-core 0.1.0 came from {stranger.as_uri()}, not from {wheelhouse}"
        ]


class TestInstallation:
    """Only what is declared gets installed, siblings as files."""

    @pytest.fixture
    def packages(self, noxfile: Any, tmp_path: Path) -> Any:
        package(tmp_path, "llm-core")
        package(tmp_path, "llm-gates", needs='"llm-core>=0.1,<0.2"', extras='redis = ["redis>=5"]')
        package(tmp_path, "llm-sim", needs='"starlette"')
        package(
            tmp_path,
            "llm-service",
            needs='"llm-gates>=0.1,<0.2", "click"',
            extras='shared = ["llm-gates[redis]>=0.1,<0.2"]',
            test='"llm-service[shared]", "fakeredis"',
        )
        for name in ("llm-core", "llm-gates", "llm-sim", "llm-service"):
            wheel(tmp_path / "dist", name)
        return noxfile.read_packages(tmp_path)

    def test_declared_siblings_and_theirs_are_reached(self, noxfile: Any, packages: Any) -> None:
        assert noxfile.siblings_declared(["llm-service"], packages) == {
            "llm-service": set(),
            "llm-gates": set(),
            "llm-core": set(),
        }

    def test_extras_reach_further(self, noxfile: Any, packages: Any) -> None:
        needs = ["llm-service", *packages["llm-service"].test_requirements]
        assert noxfile.siblings_declared(needs, packages) == {
            "llm-service": {"shared"},
            "llm-gates": {"redis"},
            "llm-core": set(),
        }

    def test_siblings_become_files_and_the_rest_stays(
        self, noxfile: Any, packages: Any, tmp_path: Path
    ) -> None:
        dist = tmp_path / "dist"
        files = noxfile.as_files(["llm-gates[redis]", "pytest>=9"], packages, dist)
        assert files == [
            f"llm-core @ {dist.as_uri()}/llm_core-0.1.0-py3-none-any.whl",
            f"llm-gates[redis] @ {dist.as_uri()}/llm_gates-0.1.0-py3-none-any.whl",
            "pytest>=9",
        ]

    def test_every_package_promises_the_same_pythons(self, noxfile: Any) -> None:
        assert {tuple(package.pythons) for package in noxfile.PACKAGES.values()} == {
            ("3.11", "3.12", "3.13")
        }
