"""Every folder of packages/ keeps the boundaries of docs/architecture.md and the common shape."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]

FLOORS = {
    "llm-core": 0,
    "llm-audio": 1,
    "llm-gates": 1,
    "llm-metrics": 1,
    "llm-pipeline": 1,
    "llm-prompts": 1,
    "llm-providers": 1,
    "llm-sim": 1,
    "llm-store": 1,
    "llm-telemetry-otel": 1,
    "llm-telemetry-prometheus": 1,
    "llm-service": 2,
    "llm-agents": 3,
    "llm-queue": 3,
    "llm-server": 3,
}
"""The house of docs/architecture.md: a package imports only from the floors below its own."""

REQUIRED_FILES = ["README.md", "CHANGELOG.md", "LICENSE", "changelog.d", "tests", "pyproject.toml"]

NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "common", "base", "misc"}

HEAVY = {
    "anthropic",
    "httpx",
    "httpx2",
    "langchain_core",
    "llm_gates.redis",
    "llm_metrics.json_lines",
    "llm_metrics.price_book",
    "numpy",
    "ollama",
    "openai",
    "opentelemetry.sdk",
    "pydantic",
    "rich",
    "sounddevice",
    "soundfile",
    "starlette",
}
"""What `import llm_service` must not load: third parties that cost tens of milliseconds or more, and what of ours
drags a dozen modules behind it that most programs have no use for."""

HEAVY_STANDARD = {
    "argparse",
    "asyncio",
    "email",
    "hashlib",
    "http",
    "importlib.metadata",
    "json",
    "multiprocessing",
    "pathlib",
    "shutil",
    "socket",
    "ssl",
    "statistics",
    "subprocess",
    "tempfile",
    "unittest",
    "urllib.parse",
    "uuid",
    "zoneinfo",
}
"""What of the standard library it must not load either: a millisecond or more each, asyncio twenty,
for which there is `llm_core.later`."""


def read_toml(path: Path) -> dict[str, Any]:
    """Parse the TOML file at `path`."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Package:
    """A folder of packages/."""

    folder: Path

    def __str__(self) -> str:
        return self.folder.name

    @property
    def pyproject(self) -> dict[str, Any]:
        return read_toml(self.folder / "pyproject.toml")

    @property
    def project(self) -> dict[str, Any]:
        project: dict[str, Any] = self.pyproject["project"]
        return project

    @property
    def module(self) -> str:
        return self.folder.name.replace("-", "_")

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.module

    @property
    def requirements(self) -> list[Requirement]:
        """Its dependencies and those of all its extras."""
        extras = self.project.get("optional-dependencies", {}).values()
        declared = itertools.chain(self.project.get("dependencies", ()), *extras)
        return [Requirement(requirement) for requirement in declared]

    @property
    def siblings(self) -> set[str]:
        """The packages of this repository that it declares, itself left out."""
        return {r.name for r in self.requirements if r.name in BY_NAME} - {self.folder.name}


PACKAGES = [Package(path.parent) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
BY_NAME = {package.folder.name: package for package in PACKAGES}
MODULES = {package.module: package for package in PACKAGES}

every_package = pytest.mark.parametrize("package", PACKAGES, ids=str)


@cache
def imports_of(source: Path) -> list[tuple[str, str]]:
    """Return every absolute import below `source` as (place, dotted module), lazy ones included."""
    found = []
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                found += [(place, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.append((place, node.module))
    return found


def sibling_imports(package: Package) -> Iterator[tuple[str, Package]]:
    """Yield (place, sibling) for each import of another package of this repository."""
    for place, module in imports_of(package.source):
        sibling = MODULES.get(module.partition(".")[0])
        if sibling is not None and sibling != package:
            yield place, sibling


def test_there_are_packages() -> None:
    assert "llm-core" in BY_NAME


class TestHouse:
    """Who may know whom."""

    @every_package
    def test_every_package_has_its_floor(self, package: Package) -> None:
        assert str(package) in FLOORS, f"say in FLOORS on which floor {package} stands"

    @every_package
    def test_it_imports_only_from_the_floors_below(self, package: Package) -> None:
        wrong = [
            f"{place} imports {sibling} of floor {FLOORS[str(sibling)]}"
            for place, sibling in sibling_imports(package)
            if FLOORS[str(sibling)] >= FLOORS[str(package)]
        ]
        assert not wrong, f"{package} is on floor {FLOORS[str(package)]}"

    @every_package
    def test_it_declares_only_packages_of_the_floors_below(self, package: Package) -> None:
        assert all(FLOORS[name] < FLOORS[str(package)] for name in package.siblings)

    @every_package
    def test_it_declares_every_sibling_it_imports(self, package: Package) -> None:
        wrong = [
            f"{place} imports {sibling}"
            for place, sibling in sibling_imports(package)
            if str(sibling) not in package.siblings
        ]
        assert not wrong, f"not in the dependencies of {package}"

    def test_there_are_no_cycles(self) -> None:
        graph = {
            str(package): {str(sibling) for _, sibling in sibling_imports(package)}
            | package.siblings
            for package in PACKAGES
        }
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            pytest.fail(f"a cycle: {' -> '.join(error.args[1])}", pytrace=False)

    def test_core_needs_nothing(self) -> None:
        assert BY_NAME["llm-core"].requirements == []

    @every_package
    def test_third_parties_are_declared(self, package: Package) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "deptry", "src", "--no-ansi"],
            cwd=package.folder,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        if ran.returncode:
            pytest.fail(ran.stderr or ran.stdout, pytrace=False)


class TestVersions:
    """How siblings are named, and where they may come from."""

    @every_package
    def test_a_sibling_is_bound_to_its_present_minor_version(self, package: Package) -> None:
        for requirement in package.requirements:
            if requirement.name in package.siblings:
                major, minor, *_ = Version(BY_NAME[requirement.name].project["version"]).release
                bounds = SpecifierSet(f">={major}.{minor},<{major}.{minor + 1}")
                assert requirement.specifier == bounds, f"{package}: {requirement}"

    @every_package
    def test_a_sibling_is_never_looked_up_in_an_index(self, package: Package) -> None:
        sources = read_toml(ROOT / "pyproject.toml")["tool"]["uv"]["sources"]
        assert sources.get(str(package)) == {"workspace": True}

    def test_the_workspaces_take_every_folder(self) -> None:
        tool = read_toml(ROOT / "pyproject.toml")["tool"]
        assert tool["uv"]["workspace"] == {"members": ["packages/*"]}
        assert tool["hatch"]["envs"]["default"]["workspace"] == {"members": ["packages/*"]}

    @every_package
    def test_it_cannot_be_uploaded_under_a_name_that_is_not_ours(self, package: Package) -> None:
        assert "Private :: Do Not Upload" in package.project["classifiers"]


class TestShape:
    """What a package consists of."""

    @every_package
    @pytest.mark.parametrize("name", REQUIRED_FILES)
    def test_it_has_its_files(self, package: Package, name: str) -> None:
        assert (package.folder / name).exists(), f"{package} lacks {name}"

    @every_package
    def test_it_is_typed_and_flat(self, package: Package) -> None:
        assert (package.source / "__init__.py").is_file()
        assert (package.source / "py.typed").is_file()
        assert package.project["name"] == canonicalize_name(package.folder.name)

    @every_package
    def test_it_has_tests(self, package: Package) -> None:
        assert list((package.folder / "tests").rglob("test_*.py")), f"{package} has no tests"

    @every_package
    def test_its_licence_is_the_repositorys(self, package: Package) -> None:
        assert (package.folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()

    @every_package
    def test_its_metadata_is_complete_and_like_that_of_the_others(self, package: Package) -> None:
        first = PACKAGES[0].project
        for field in ("readme", "requires-python", "license", "license-files", "authors"):
            assert package.project[field] == first[field], field
        own = ("Framework :: ", "Topic :: ")
        shared = [
            [name for name in project["classifiers"] if not name.startswith(own)]
            for project in (package.project, first)
        ]
        assert shared[0] == shared[1]
        assert package.project["keywords"][0] == "llm"
        assert package.project["classifiers"] == sorted(package.project["classifiers"])

    @every_package
    def test_its_readme_opens_with_its_description(self, package: Package) -> None:
        title, _, text = (package.folder / "README.md").read_text("utf-8").partition("\n")
        said = " ".join(text.replace("`", "").split())
        assert title == f"# {package}"
        assert said.startswith(package.project["description"].replace("`", ""))

    @every_package
    def test_its_readme_says_how_to_install_it_in_the_one_wording(self, package: Package) -> None:
        readme = (package.folder / "README.md").read_text("utf-8")
        line = rf'\$ uv pip install "{package}(\[[\w,]+\])? @ git\+https://…#subdirectory=packages/{package}"\n'
        assert re.search(line, readme)
        assert "by the bare name: [Installing](../../README.md#installing)." in readme

    @every_package
    def test_its_changelog_takes_fragments(self, package: Package) -> None:
        start = read_toml(ROOT / "pyproject.toml")["tool"]["towncrier"]["start_string"]
        changelog = (package.folder / "CHANGELOG.md").read_text("utf-8")
        assert changelog.startswith("# Changelog\n")
        assert start in changelog

    @every_package
    def test_no_fragment_of_its_changelog_would_vanish(self, package: Package) -> None:
        types = read_toml(ROOT / "pyproject.toml")["tool"]["towncrier"]["type"]
        known = "|".join(kind["directory"] for kind in types)
        for fragment in (package.folder / "changelog.d").iterdir():
            if fragment.name != ".gitkeep":
                assert re.fullmatch(rf"(\d+|\+[\w-]+)\.({known})(\.\d+)?\.md", fragment.name)
                assert fragment.read_text("utf-8").strip()

    @every_package
    def test_its_modules_have_names_that_say_something(self, package: Package) -> None:
        names = {path.stem.strip("_") for path in package.source.rglob("*")}
        assert not names & NAMES_THAT_SAY_NOTHING

    @every_package
    def test_its_test_files_can_be_collected_beside_the_others(self, package: Package) -> None:
        ours = {path.name for path in (package.folder / "tests").rglob("test_*.py")}
        others = (p.folder / "tests" for p in PACKAGES if p != package)
        taken = {path.name for folder in others for path in folder.rglob("test_*.py")}
        assert not ours & taken
        assert not list((package.folder / "tests").rglob("__init__.py"))


def public_names(init: ast.Module) -> Iterator[str]:
    """Yield the names without an underscore that a module binds at its top level."""
    for node in init.body:
        if isinstance(node, ast.If):  # `if TYPE_CHECKING:`
            yield from public_names(ast.Module(body=node.body, type_ignores=[]))
        elif isinstance(node, ast.ImportFrom | ast.Import):
            if getattr(node, "module", None) not in ("__future__", "typing"):
                names = (alias.asname or alias.name for alias in node.names)
                yield from (name for name in names if not name.startswith("_"))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from [] if node.name.startswith("_") else [node.name]


class TestFace:
    """What users import."""

    @every_package
    def test_all_is_complete_and_importable(self, package: Package) -> None:
        init = ast.parse((package.source / "__init__.py").read_bytes())
        module = importlib.import_module(package.module)
        assert sorted(set(module.__all__)) == sorted(module.__all__), "a name is there twice"
        assert set(public_names(init)) <= set(module.__all__)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []

    @every_package
    def test_a_name_that_is_not_there_is_an_attribute_error(self, package: Package) -> None:
        with pytest.raises(AttributeError, match="no_such_name"):
            importlib.import_module(package.module).no_such_name  # noqa: B018 - the asking is it

    @every_package
    def test_it_says_what_it_is(self, package: Package) -> None:
        assert importlib.import_module(package.module).__doc__


def modules_loaded_by(module: str) -> set[str]:
    """Return the names that `import module` adds to `sys.modules` of a new interpreter."""
    code = (
        "import sys; before = set(sys.modules); "
        f"import {module}; print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    return set(ran.stdout.split())


class TestImport:
    """Importing stays cheap."""

    def test_core_loads_nothing_but_the_standard_library(self) -> None:
        loaded = {name.partition(".")[0] for name in modules_loaded_by("llm_core")}
        assert loaded - set(sys.stdlib_module_names) == {"llm_core"}

    @pytest.mark.skipif(
        "llm-service" not in BY_NAME, reason="packages/llm-service is not in this tree yet"
    )
    def test_service_loads_nothing_heavy(self) -> None:
        assert modules_loaded_by("llm_service") & (HEAVY | HEAVY_STANDARD) == set()


def test_no_document_installs_a_package_by_a_name_that_a_stranger_may_own() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/**/*.md")]
    # A word that is the name alone; an address is `name @ …`, a file of the bundle `-r dist/….txt`.
    bare = re.compile(r"pip install(?: -\S+)* \"?llm-[\w-]+(?:\[[\w,]+\])?\"?(?!\S| @)")
    wrong = [
        f"{document.relative_to(ROOT)}: {line}"
        for document in documents
        if "decisions" not in document.parts
        for line in document.read_text("utf-8").splitlines()
        if bare.search(line)
    ]
    assert not wrong, "say it as the root README does"


def test_every_link_of_a_document_to_the_outside_is_well_formed_and_written_in_one_way() -> None:
    """Whether it is there cannot be told without a network."""
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/**/*.md")]
    links = {
        link
        for document in documents
        for link in re.findall(r"(?:\]\(|<)(\w+://[^)>]*)[)>]", document.read_text("utf-8"))
    }
    address = re.compile(
        r"https://([a-z\d-]+\.)+[a-z]{2,}(/[\w.~%+-]+)*/?(\?[\w=&%+-]+)?(#[\w-]+)?"
    )
    assert [link for link in sorted(links) if not address.fullmatch(link)] == []
    plain = [link.removesuffix("/").lower() for link in links]
    assert len(set(plain)) == len(plain), sorted(links)


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="README.md is not in this tree yet")
def test_continuous_integration_runs_what_the_readme_says() -> None:
    commands = re.findall(r"^step \".*?\" (.+)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.M)
    assert commands == ["pip install hatch", "hatch run demo", "hatch run test", "hatch run nox"]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [command for command in commands if command not in readme] == []
