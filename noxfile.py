"""The matrix: every package alone, on every Python, from built wheels.

    nox                                  everything
    nox -s "tests-3.12(llm-gates)"       one package on one Python
    nox -r                               the same, keeping the environments (wheels are rebuilt)
    nox -j 1                             one session after the other, each shown while it runs
    nox -s bundle -- https://host/path   what to give to `pip install -r`
    nox -s installing                    the READMEs' install lines, really run
    nox -s release -- llm-gates minor    version, changelog, commit, tag

There is no list of packages or Pythons here: both are read from `packages/*/pyproject.toml`.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.resolve()
WHEELHOUSE = ROOT / "dist"

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
# A missing interpreter is skipped; trying to download it costs seconds and fails offline.
nox.options.download_python = "never"
# With CI set nox would fail instead; a machine need not have every Python, and the summary says so.
nox.options.error_on_missing_interpreters = False
nox.options.error_on_external_run = True
nox.options.allow_parallel = True
# Sessions share dist/ and Redis without disturbing each other. A number, since in a container the count
# of the host's processors says nothing; `-j` gives another.
nox.options.parallel = 2


@dataclass(frozen=True, slots=True)
class Package:
    """A folder of `packages/`, as its pyproject.toml describes it."""

    folder: Path
    pyproject: dict[str, Any]

    @property
    def name(self) -> str:
        """The distribution's name, normalised."""
        return canonicalize_name(self.pyproject["project"]["name"])

    @property
    def requirements(self) -> list[str]:
        """What it always needs."""
        return list(self.pyproject["project"].get("dependencies", ()))

    @property
    def extras(self) -> dict[str, list[str]]:
        """What its extras need on top."""
        return dict(self.pyproject["project"].get("optional-dependencies", {}))

    @property
    def test_requirements(self) -> list[str]:
        """What its tests need on top: the dependency group `test`."""
        if "test" not in self.pyproject.get("dependency-groups", {}):
            return []
        return list(nox.project.dependency_groups(self.pyproject, "test"))

    @property
    def pythons(self) -> list[str]:
        """The Pythons its classifiers promise."""
        return nox.project.python_versions(self.pyproject)


def read_packages(root: Path) -> dict[str, Package]:
    """Read `packages/*/pyproject.toml` below `root`, by name."""
    paths = sorted(root.glob("packages/*/pyproject.toml"))
    packages = (Package(path.parent, nox.project.load_toml(path)) for path in paths)
    return {package.name: package for package in packages}


PACKAGES = read_packages(ROOT)
SETTINGS = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = sorted({python for package in PACKAGES.values() for python in package.pythons})


def siblings_declared(
    requirements: Iterable[str], packages: dict[str, Package]
) -> dict[str, set[str]]:
    """Return the siblings that `requirements` reach, each with the extras asked of it.

    Only declarations count: a sibling that is imported but declared nowhere stays uninstalled.
    """
    reached: dict[str, set[str]] = {}
    waiting = [Requirement(requirement) for requirement in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in packages or (name in reached and requirement.extras <= reached[name]):
            continue
        reached.setdefault(name, set()).update(requirement.extras)
        package = packages[name]
        needs = [*package.requirements, *(n for e in requirement.extras for n in package.extras[e])]
        waiting.extend(map(Requirement, needs))
    return reached


def module_of(name: str) -> str:
    """Return the import package of the distribution `name`."""
    return name.replace("-", "_")


def wheel_of(name: str, wheelhouse: Path) -> Path:
    """Return the one wheel of `name` in `wheelhouse`."""
    [wheel] = wheelhouse.glob(f"{module_of(name)}-*.whl")
    return wheel


def siblings_at(
    address: Callable[[str], str], requirements: Iterable[str], packages: dict[str, Package]
) -> list[str]:
    """Return the siblings that `requirements` reach as `name[extras] @ address(name)`."""
    found = []
    for name, extras in sorted(siblings_declared(requirements, packages).items()):
        wanted = f"[{','.join(sorted(extras))}]" if extras else ""
        found.append(f"{name}{wanted} @ {address(name)}")
    return found


def as_files(
    requirements: Iterable[str], packages: dict[str, Package], wheelhouse: Path
) -> list[str]:
    """Turn `requirements` into what to install: siblings as wheel files, the rest as they are."""
    requirements = list(requirements)
    strangers = [r for r in requirements if canonicalize_name(Requirement(r).name) not in packages]
    files = siblings_at(lambda name: wheel_of(name, wheelhouse).as_uri(), requirements, packages)
    return [*files, *strangers]


def foreign_siblings(
    site_packages: Iterable[Path], names: Iterable[str], wheelhouse: Path
) -> Iterator[str]:
    """Yield a complaint for each distribution called `names` that is not a wheel of `wheelhouse`.

    An installer writes `direct_url.json` for what it was given as a file and not for what it took
    from an index: https://packaging.python.org/specifications/direct-url/
    """
    ours = set(names)
    for distribution in importlib.metadata.distributions(path=[str(p) for p in site_packages]):
        name = canonicalize_name(distribution.metadata["Name"])
        if name not in ours:
            continue
        record = distribution.read_text("direct_url.json")
        url = json.loads(record)["url"] if record else None
        if url is None:
            yield f"{name} {distribution.version} came from an index, not from {wheelhouse}"
        elif not url.startswith(f"{wheelhouse.as_uri()}/"):
            yield f"{name} {distribution.version} came from {url}, not from {wheelhouse}"


def site_packages_of(environment: Path) -> list[Path]:
    """Return the folders in which an environment keeps what is installed."""
    return list(environment.glob("**/site-packages"))


def installed_in(environment: Path) -> set[str]:
    """Return the names of the distributions in an environment."""
    paths = list(map(str, site_packages_of(environment)))
    found = importlib.metadata.distributions(path=paths)
    return {canonicalize_name(distribution.metadata["Name"]) for distribution in found}


def check_provenance(session: nox.Session, environment: Path) -> None:
    """End the session if a sibling in `environment` does not come from dist/."""
    places = site_packages_of(environment)
    if complaints := list(foreign_siblings(places, PACKAGES, WHEELHOUSE)):
        session.error("provenance: " + "; ".join(complaints))


def install(session: nox.Session, requirements: Iterable[str]) -> None:
    """Install `requirements`, siblings only from their wheels, and check that it came so."""
    requirements = list(requirements)
    # A reused environment holds the last wheel under the same version.
    fresh = [f"--reinstall-package={name}" for name in siblings_declared(requirements, PACKAGES)]
    session.install(*fresh, *as_files(requirements, PACKAGES, WHEELHOUSE))
    check_provenance(session, Path(session.virtualenv.location))


def group(name: str) -> list[str]:
    """Return the root's dependency group `name`."""
    return list(nox.project.dependency_groups(SETTINGS, name))


def everything() -> list[str]:
    """Return what all packages need with every extra, and all their tests' requirements."""
    requirements = []
    for package in PACKAGES.values():
        requirements.append(f"{package.name}[{','.join(package.extras)}]")
        requirements.extend(package.test_requirements)
    return requirements


def run_pytest(session: nox.Session, folder: Path, *options: str) -> None:
    """Run the tests in `folder` from the root, whose settings and conftest hold for them."""
    session.run("pytest", "-q", "-p", "no:cacheprovider", str(folder), *options, *session.posargs)


def build_requirements() -> list[str]:
    """Return what building any of the packages needs."""
    needs = {need for p in PACKAGES.values() for need in p.pyproject["build-system"]["requires"]}
    return sorted(needs)


def build(session: nox.Session, kind: str) -> None:
    """Build the `wheel` or `sdist` of every package into dist/."""
    for package in PACKAGES.values():
        with session.chdir(package.folder):
            session.run("hatchling", "build", "-t", kind, "-d", str(WHEELHOUSE), silent=True)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every package's wheel once, for the other sessions."""
    session.install(*build_requirements())
    shutil.rmtree(WHEELHOUSE, ignore_errors=True)
    build(session, "wheel")


@nox.session(requires=["wheels"])
def distributions(session: nox.Session) -> None:
    """Build the source distributions too, and check, compare and install what was built."""
    session.install(*build_requirements(), "twine>=7,<8")
    build(session, "sdist")
    built = sorted(map(str, [*WHEELHOUSE.glob("*.whl"), *WHEELHOUSE.glob("*.tar.gz")]))
    session.run("twine", "check", "--strict", *built, silent=True)
    session.run("python", str(ROOT / "scripts" / "check_distributions.py"))
    session.install("--reinstall", *(file for file in built if file.endswith(".tar.gz")))
    check_provenance(session, Path(session.virtualenv.location))
    session.run("python", "-c", f"import {', '.join(map(module_of, PACKAGES))}")


@nox.session(python=PYTHONS, requires=["wheels"])
def alone(session: nox.Session) -> None:
    """Install every package into an empty environment of its own, and import its whole face."""
    for package in PACKAGES:
        home = Path(session.create_tmp(), package)
        python = str(home / "bin" / "python")
        session.run_install(
            "uv", "venv", "-q", "--clear", "-p", session.virtualenv.location, str(home)
        )
        wanted = as_files([package], PACKAGES, WHEELHOUSE)
        session.run_install("uv", "pip", "install", "-q", "-p", python, *wanted)
        face = f"import {module_of(package)} as it; [getattr(it, name) for name in it.__all__]"
        session.run(python, "-c", face, external=True)
        check_provenance(session, home)
        if package == "llm-gates" and installed_in(home) != {"llm-core", "llm-gates"}:
            session.error(f"llm-gates brings {sorted(installed_in(home))}, not llm-core alone")


@nox.session(python=PYTHONS, requires=["wheels"])
@nox.parametrize("package", [nox.param(name, id=name) for name in PACKAGES])
def tests(session: nox.Session, package: str) -> None:
    """Test one package with nothing but what it and its tests declare."""
    chosen = PACKAGES[package]
    if session.python not in chosen.pythons:
        session.skip(f"{package} does not promise Python {session.python}")
    install(session, [package, *chosen.test_requirements, *group("test")])
    # Real time is measured once, by `hatch run test`: neither Python nor the wheel changes it.
    run_pytest(session, chosen.folder / "tests", "-m", "not live and not realtime")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and layout with ruff."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(requires=["wheels"])
def types(session: nox.Session) -> None:
    """Check the types of every package and of the repository's own code with mypy, strictly."""
    checked = ("bench", "docs", "repository", "types")
    install(session, [*everything(), *chain.from_iterable(map(group, checked))])
    session.run("mypy")


@nox.session(requires=["wheels"])
def repository(session: nox.Session) -> None:
    """Run the repository's own checks; the examples of the documentation are run by `hatch run test`."""
    install(session, [*everything(), *group("repository")])
    run_pytest(session, ROOT / "tests", "--ignore", str(ROOT / "tests" / "test_readmes.py"))


@nox.session(requires=["wheels"])
def docs(session: nox.Session) -> None:
    """Build the site into site/: a warning is an error, and so is a link to what is not there."""
    extras = [f"{p.name}[{','.join(p.extras)}]" for p in PACKAGES.values()]
    install(session, [*extras, *group("docs")])
    session.run("sphinx-build", "-c", "docs", "-E", "-W", "--keep-going", "-q", ".", "site")
    session.run("python", "scripts/check_links.py", "site")


@nox.session(requires=["wheels"])
def telemetry(session: nox.Session) -> None:
    """Swap the telemetry backend by installing another: the program stays as it is."""
    otel, prometheus = "llm-telemetry-otel", "llm-telemetry-prometheus"
    program = str(ROOT / "scripts" / "telemetry_program.py")
    # What the workspace chose does not count here, where installing chooses.
    # Nothing leaves the machine, and no port is taken that somebody may need.
    session.env.update(
        LLM_TELEMETRY="",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_PROMETHEUS_PORT="0",
    )

    def expect(said: str) -> None:
        output = session.run("python", program, silent=True) or ""
        if said not in output:
            session.error(f"expected {said!r}, got {output!r}")

    install(session, ["llm-metrics"])
    expect("NullTelemetry")
    install(session, [otel])
    expect("OTelTelemetry")
    install(session, [prometheus])
    expect("several telemetry backends are installed and none is chosen")
    session.run("uv", "pip", "uninstall", otel, external=True)
    expect("PrometheusTelemetry")
    session.run("uv", "pip", "uninstall", prometheus, external=True)
    expect("NullTelemetry")


@nox.session(requires=["wheels"], default=False)
def bundle(session: nox.Session) -> None:
    """Write dist/<package>.txt and dist/<package>-<extra>.txt for `pip install -r`: it and its siblings, by address.

    The address is dist/ itself, the web folder it will be copied to, or `git+` and a repository.
    """
    base = (session.posargs or [WHEELHOUSE.as_uri()])[0].rstrip("/")

    def address(name: str) -> str:
        if base.startswith("git+"):
            return f"{base}#subdirectory=packages/{name}"
        return f"{base}/{wheel_of(name, WHEELHOUSE).name}"

    for name, package in PACKAGES.items():
        choices = {name: name, **{f"{name}-{e}": f"{name}[{e}]" for e in package.extras}}
        for file, requirement in choices.items():
            lines = siblings_at(address, [requirement], PACKAGES)
            (WHEELHOUSE / f"{file}.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


@nox.session(requires=["bundle"], default=False)
def installing(session: nox.Session) -> None:
    """Carry out what the READMEs say about installing, with uv and with this Python's own pip."""
    session.run("python", str(ROOT / "scripts" / "try_installing.py"))


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Bump a package's version, write its changelog, commit and tag: `-- llm-gates minor`."""
    session.install(*group("release"))
    session.run("python", str(ROOT / "scripts" / "release.py"), *session.posargs)
