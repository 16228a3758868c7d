from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_core import ConfigurationError
from llm_core.testing import RecordingTelemetry
from llm_metrics import (
    JsonLinesTelemetry,
    NullTelemetry,
    TelemetryFanOut,
    choose_telemetry,
    installed_telemetry,
)
from llm_metrics import selection as module

MODULE = """
from llm_core.testing import RecordingTelemetry

class Blue(RecordingTelemetry):
    closings = []

    def close(self, timeout=None):
        self.closings.append(timeout)

def broken():
    raise RuntimeError("no collector")

def wrong():
    return 42
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that installs a distribution offering backends, and nothing else there is."""
    (tmp_path / "backend_under_test.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    ours: set[str] = set()

    def install(distribution: str, **backends: str) -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8"
        )
        lines = [f"{name} = backend_under_test:{target}" for name, target in backends.items()]
        text = "\n".join(["[llm_metrics.telemetry]", *lines])
        (folder / "entry_points.txt").write_text(text, encoding="utf-8")
        ours.add(distribution)

    every = module._entry_points
    monkeypatch.setattr(
        module, "_entry_points", lambda: [p for p in every() if p.dist and p.dist.name in ours]
    )
    yield install
    sys.modules.pop("backend_under_test", None)


def names_of(telemetry: object) -> list[str]:
    assert isinstance(telemetry, TelemetryFanOut)
    telemetry.close()
    return [type(backend).__name__ for backend in telemetry.backends]


def test_with_nothing_installed_and_nothing_asked_there_is_none(install: Any) -> None:
    assert isinstance(choose_telemetry(environ={}), NullTelemetry)


def test_the_only_one_installed_is_taken(install: Any) -> None:
    install("llm-telemetry-blue", blue="Blue")
    assert installed_telemetry() == {"blue": "llm-telemetry-blue 1.0"}
    assert names_of(choose_telemetry(environ={})) == ["Blue"]


def test_several_installed_and_none_chosen_is_an_error_that_lists_them(install: Any) -> None:
    install("llm-telemetry-blue", blue="Blue")
    install("llm-telemetry-red", red="broken")
    with pytest.raises(ConfigurationError) as caught:
        choose_telemetry(environ={})
    for word in ("blue (llm-telemetry-blue 1.0)", "red (llm-telemetry-red 1.0)", "LLM_TELEMETRY"):
        assert word in str(caught.value)


def test_the_environment_chooses_and_only_the_chosen_one_is_imported(install: Any) -> None:
    install("llm-telemetry-blue", blue="Blue")
    install("llm-telemetry-red", red="broken")
    assert names_of(choose_telemetry(environ={"LLM_TELEMETRY": " blue "})) == ["Blue"]
    sys.modules.pop("backend_under_test")
    assert isinstance(choose_telemetry(environ={"LLM_TELEMETRY": "none"}), NullTelemetry)
    assert "backend_under_test" not in sys.modules


def test_several_may_be_chosen(install: Any, tmp_path: Path) -> None:
    install("llm-telemetry-blue", blue="Blue")
    environ = {"LLM_TELEMETRY_JSONL_PATH": str(tmp_path / "x.jsonl")}
    assert names_of(choose_telemetry("blue,jsonl", environ=environ)) == [
        "Blue",
        JsonLinesTelemetry.__name__,
    ]
    assert names_of(choose_telemetry(["jsonl", "jsonl"], environ={})) == ["JsonLinesTelemetry"]


def test_the_argument_goes_before_the_environment(install: Any) -> None:
    install("llm-telemetry-blue", blue="Blue")
    assert isinstance(choose_telemetry("none", environ={"LLM_TELEMETRY": "blue"}), NullTelemetry)


def test_an_empty_choice_is_none_at_all(install: Any) -> None:
    install("llm-telemetry-blue", blue="Blue")
    assert names_of(choose_telemetry(environ={"LLM_TELEMETRY": " , "})) == ["Blue"]


def test_a_backend_may_be_given_itself() -> None:
    backend = RecordingTelemetry()
    chosen = choose_telemetry(backend)
    assert isinstance(chosen, TelemetryFanOut)
    assert chosen.backends == (backend,)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("broken", "RuntimeError: no collector"),
        ("wrong", "got 42, expected a TelemetryClient"),
        ("missing", "AttributeError"),
    ],
)
def test_a_broken_backend_is_an_error_that_names_it(install: Any, target: str, said: str) -> None:
    install("llm-telemetry-red", red=target)
    with pytest.raises(ConfigurationError) as caught:
        choose_telemetry("red", environ={})
    for word in ("'red'", "llm-telemetry-red 1.0", f"backend_under_test:{target}", said):
        assert word in str(caught.value)


def test_those_made_before_a_broken_one_are_closed(install: Any) -> None:
    install("telemetry-two", blue="Blue", red="broken")
    with pytest.raises(ConfigurationError, match="'red'"):
        choose_telemetry("blue,red")
    assert sys.modules["backend_under_test"].Blue.closings == [0]


def test_an_unknown_name_is_an_error_that_lists_what_there_is(install: Any) -> None:
    install("llm-telemetry-blue", blue="Blue")
    with pytest.raises(ConfigurationError, match="got 'otel', expected one of blue, jsonl, none"):
        choose_telemetry("otel", environ={})


def test_none_beside_a_backend_is_a_contradiction(install: Any) -> None:
    with pytest.raises(ConfigurationError, match="'none' alone"):
        choose_telemetry("none,jsonl", environ={})


def test_the_program_reads_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TELEMETRY", "none")
    assert isinstance(choose_telemetry(), NullTelemetry)


def test_importing_loads_no_third_party_module() -> None:
    code = (
        "import sys; before = set(sys.modules); import llm_metrics, llm_metrics.debug; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    loaded = set(ran.stdout.split()) - set(sys.stdlib_module_names)
    assert loaded == {"llm_core", "llm_metrics"}
