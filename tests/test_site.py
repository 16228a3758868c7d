"""What the site is made of, without making it: that takes half a minute, and `nox -s docs` does it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))


def load(path: str) -> ModuleType:
    """Import the file at `path` of the repository, which is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_name_of_a_package(package: str) -> None:
    page = ROOT / "docs" / "reference" / f"{package}.md"
    assert page.is_file(), f"{package} has no page; write one like docs/reference/llm-core.md"
    text = load("docs/generated.py").fill_in(page.read_text("utf-8"))
    module = importlib.import_module(package.replace("-", "_"))
    entries = {line.split("::")[1].split(".")[-1] for line in text.splitlines() if "::" in line}
    assert set(module.__all__) <= entries


def test_the_reference_has_every_key_of_the_configuration() -> None:
    text = load("docs/generated.py").fill_in("<!-- configuration -->")
    assert "| `max_concurrent_requests` | integer, ≥ 1 |" in text
    assert "| `limits` | [LimitsConfig](#limitsconfig) |" in text


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("there.html", ""),
        ("there.html#place", ""),
        ("#top", ""),
        ("https://example.org/nothing", ""),
        ("gone.html", "gone.html is not there"),
        ("there.html#gone", "there.html#gone: there is no such place"),
    ],
)
def test_a_dead_link_of_the_site_is_named(
    link: str,
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "index.html").write_text(f'<h1 id="top">x</h1><a href="{link}">x</a>')
    (tmp_path / "there.html").write_text('<p id="place">x</p>')
    monkeypatch.setattr(sys, "argv", ["check_links.py", str(tmp_path)])
    assert load("scripts/check_links.py").main() == bool(complaint)
    assert complaint in capsys.readouterr().out
