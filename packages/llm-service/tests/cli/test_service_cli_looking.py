"""`models`, `prices`, `stats`, `doctor` and `completion`: commands that look and change nothing."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import click
import pytest

from llm_core import ErrorInfo, ErrorType
from llm_providers import CAPABILITIES, OllamaProvider
from llm_service.cli import checks
from llm_service.cli.app import COMMANDS, commands
from llm_service.cli.checks import Finding, State
from llm_service.cli.stats import Distribution
from llm_service.cli.tally import Tally, shown_cost, shown_count
from llm_sim import SimServer


def result(**changes: Any) -> dict[str, Any]:
    """Return a result as `run` writes it, as far as `stats` reads it."""
    return {
        "success": True,
        "model": "gpt-5-mini",
        "timestamps": {"requested": 0, "completed": 2_000_000_000},
        "attempts": [{"timestamps": {"started": 0, "ended": 1_000_000_000, "first_token": None}}],
        "backoff": {"gate_wait_seconds": 0.5, "backoff_seconds": 0.0},
        "usage": {"input_tokens": 10, "output_tokens": 5},
        "cost": {"amount": "0.25", "currency": "USD", "status": "priced"},
        "request": {"tenant": "acme"},
        **changes,
    }


FAILED = result(
    success=False,
    error={"type": "overloaded"},
    usage=None,
    cost={"amount": None, "status": "unpriced"},
    timestamps={"requested": 0, "completed": 4_000_000_000},
    attempts=[],
    model=None,
)


def test_stats_add_up_calls_failures_tokens_cost_and_durations(shell: Any) -> None:
    degraded = result(degraded={"reason": "stale_cache"}, cached=True)
    shell.write("out.jsonl", *map(json.dumps, (result(), degraded, FAILED)))
    done = shell("stats", "out.jsonl", "--json", "--by", "model")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert (found["calls"], found["succeeded"], found["failures"]) == (3, 2, {"overloaded": 1})
    assert (found["degraded"], found["cached"]) == ({"stale_cache": 1}, 1)
    assert (found["input_tokens"], found["output_tokens"]) == (20, 10)
    assert found["cost"] == {"USD": "0.50"}
    assert found["seconds"]["total"] == {"p50": 2.0, "p95": 4.0, "p99": 4.0}
    assert found["seconds"]["provider"]["p99"] == 1.0
    assert found["seconds"]["gate_wait"]["p50"] == 0.5
    assert found["seconds"]["first_token"]["p50"] is None
    assert {name: part["calls"] for name, part in found["by_model"].items()} == {
        "gpt-5-mini": 2,
        "-": 1,
    }


def test_stats_for_people_fit_80_columns(shell: Any) -> None:
    lines = map(json.dumps, (result(), FAILED))
    done = shell("stats", "-", "--by", "tenant", stdin="\n".join(lines) + "\n\n")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for words in ("succeeded", "1 (50.0%)", "overloaded", "$0.25", "gate wait", "acme"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("nonsense", "in.jsonl:1: not JSON"), ('{"user": "?"}', "in.jsonl:1: not a result")],
)
def test_stats_of_something_else_name_the_line(shell: Any, line: str, complaint: str) -> None:
    shell.write("in.jsonl", line)
    assert complaint in shell.one_line(shell("stats", "in.jsonl"))
    assert "none.jsonl" in shell.one_line(shell("stats", "none.jsonl"))


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = Distribution()
    assert values.percentile(50) is None
    for seconds in range(100, 0, -1):
        values.add(float(seconds))
    assert [values.percentile(percent) for percent in (0, 1, 50, 95, 100)] == [1, 1, 50, 95, 100]
    values.add(0.5)
    assert values.percentile(0) == 0.5


def test_a_cost_is_never_a_silent_zero() -> None:
    tally = Tally()
    assert shown_cost(tally) == "0"
    tally.add(result(cost={"amount": None, "status": "unpriced"}))
    assert shown_cost(tally) == "no price known"
    tally.add(result())
    tally.add(result(cost={"amount": "120", "currency": "EUR", "status": "priced"}))
    assert shown_cost(tally) == "≥ 120.00 EUR + $0.250000"
    assert [shown_count(n) for n in (9_999, 12_345, 4_100_000)] == ["9999", "12.3k", "4.1M"]


def test_models_are_listed_and_their_families_told(shell: Any) -> None:
    done = shell("models", "gpt-5*")
    assert done.returncode == 0, done.stderr
    assert "openai/gpt-5-mini" in done.stdout
    assert "openai/gpt-5-pro*" in done.stdout
    assert "claude" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_names_of_models_are_whole_in_80_columns_and_longer_ones_as_well(shell: Any) -> None:
    offline = shell("models", "--offline").stdout
    assert max(map(len, offline.splitlines())) <= 80
    words = offline.split()
    for family in CAPABILITIES:
        assert f"{family.provider}/{family.pattern}" in words
    tuned = "gpt-4.1-2025-04-14-of-an-organisation-with-a-long-name-and-for-an-experiment"
    with SimServer(models=[tuned]) as sim:
        shell.environment["OPENAI_BASE_URL"] = sim.openai_base_url
        assert f"openai/{tuned}" in shell("models", "gpt-4.1-*").stdout.split()


def test_a_pattern_that_no_model_fits_says_so(shell: Any) -> None:
    done = shell("models", "zzz*", "--offline")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "llm-service: no model's name fits 'zzz*'\n"


def test_models_offline_are_the_families_alone(shell: Any) -> None:
    before = len(shell.sim.calls())
    found = json.loads(shell("models", "--offline", "--json", "--provider", "anthropic").stdout)
    assert found["models"] == []
    assert {family["provider"] for family in found["families"]} == {"anthropic"}
    assert len(shell.sim.calls()) == before


def test_a_vendor_that_cannot_be_asked_is_told_and_the_rest_shown(shell: Any) -> None:
    with SimServer(api_keys=["right"]) as guarded:
        shell.environment["OPENAI_BASE_URL"] = guarded.openai_base_url
        done = shell("models")
        quiet = shell("--quiet", "models", "--provider", "openai")
    assert done.returncode == quiet.returncode == 1
    assert done.stderr.startswith("llm-service: openai: authentication: ")
    assert "claude-" in done.stdout
    assert quiet.stderr == done.stderr
    assert "expected one of anthropic, ollama, openai" in shell.one_line(
        shell("models", "--provider", "nobody")
    )


def test_prices_are_told_per_million_tokens_with_their_source(shell: Any) -> None:
    done = shell("prices", "gpt-4o", "openai/no-such-model")
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("gpt-4o"))
    assert line.split()[:4] == ["gpt-4o", "2.5", "1.25", "10"]
    assert "(unpriced)" in done.stdout
    standard = json.loads(shell("prices", "gpt-4o", "--json", "--at", "2026-11-01").stdout)
    batch = json.loads(shell("prices", "gpt-4o", "--json", "--tier", "batch").stdout)
    assert (standard["gpt-4o"]["output"], batch["gpt-4o"]["output"]) == ("10", "5")


def test_ones_own_prices_come_first(shell: Any) -> None:
    shell.write(
        "own.yaml",
        "prices:",
        "  - provider: openai",
        "    model: gpt-4o",
        "    per_million_tokens: {input: 1, output: 3}",
        "    currency: EUR",
    )
    shell.environment["LLM_PRICE_OVERRIDES"] = "own.yaml"
    done = shell("prices", "gpt-4o")
    assert "3 EUR" in done.stdout, done
    assert "override" in done.stdout
    shell.environment["LLM_PRICE_OVERRIDES"] = "none.yaml"
    assert "none.yaml" in shell.one_line(shell("prices", "gpt-4o"))


def test_prices_of_nothing_or_of_nobodys_model_are_one_line(shell: Any) -> None:
    assert "no model" in shell.one_line(shell("prices"))
    assert "no-such-model" in shell.one_line(shell("prices", "no-such-model"))


def test_an_update_that_fails_keeps_the_old_prices(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics: Any = importlib.import_module("llm_metrics")
    outcomes = iter([metrics.UpdateOutcome.KEPT, metrics.UpdateOutcome.UPDATED])

    def update() -> Any:
        reason = "no network"
        return metrics.PriceUpdate(outcome=next(outcomes), version="1", models=9, reason=reason)

    monkeypatch.setattr(metrics, "update_prices", update)
    kept = shell("prices", "--update")
    assert (kept.returncode, kept.stderr) == (
        1,
        "llm-service: prices kept, 1, 9 models: no network\n",
    )
    assert shell("prices", "gpt-4o", "--update", "--quiet")[::2] == (0, "")


def findings(shell: Any, *options: str) -> dict[str, dict[str, str]]:
    done = shell("doctor", "--json", *options)
    return {finding["subject"]: finding for finding in json.loads(done.stdout)}


def test_doctor_finds_nothing_wrong_with_a_good_set_up(shell: Any) -> None:
    shell.environment["LLM_SERVICE_MODEL"] = "gpt-5-mini"
    done = shell("doctor")
    assert done.returncode == 0, done.stdout
    assert "all that is configured works" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    found = findings(shell)
    assert found["openai"]["said"] == "answers"
    assert found["anthropic"]["state"] == "absent"
    assert "ANTHROPIC_API_KEY" in found["anthropic"]["said"]
    assert found["LLM_SERVICE_MODEL"]["said"] == "gpt-5-mini, answered by openai"
    assert "agrees" in found["clock"]["said"]


def test_doctor_finds_a_wrong_key_and_never_prints_it(shell: Any) -> None:
    shell.environment["OPENAI_API_KEY"] = "sk-very-secret-indeed"
    with SimServer(api_keys=["right"]) as guarded:
        shell.environment["OPENAI_BASE_URL"] = guarded.openai_base_url
        done = shell("doctor")
    assert done.returncode == 1
    assert "check the key" in done.stdout
    assert "1 configured and not working" in done.stdout
    assert "very-secret" not in done.stdout


def test_doctor_finds_what_cannot_be_reached_and_hides_passwords(shell: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    shell.environment.update(
        {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "OLLAMA_HOST": f"http://127.0.0.1:{port}",
            "REDIS_URL": f"redis://:hidden@127.0.0.1:{port}/0",
            "LLM_SERVICE_MODEL": "no-such-model",
        }
    )
    done = shell("doctor")
    found = findings(shell)
    assert done.returncode == 1
    for subject in ("openai", "ollama", "Redis", "LLM_SERVICE_MODEL"):
        assert found[subject]["state"] == "faulty", found[subject]
    assert "hidden" not in done.stdout + json.dumps(found)
    shell.environment["REDIS_URL"] = "redis://:hidden@127.0.0.1:99999/0"
    found = findings(shell, "--offline")
    assert (found["Redis"]["state"], found["Redis"]["said"]) == (
        "faulty",
        "REDIS_URL holds no URL",
    )


def test_doctor_reads_the_configuration(shell: Any) -> None:
    assert findings(shell, "--offline")["file"]["state"] == "absent"
    shell.write("llm-service.yaml", "limits:", "  max_rpm: 5")
    assert findings(shell, "--offline")["file"]["said"] == "llm-service.yaml is good"
    shell.write("llm-service.yaml", "modell: gpt-5-mini", "moddel: x")
    found = findings(shell, "--offline")["file"]
    assert found["state"] == "faulty"
    assert "llm-service.yaml:1" in found["said"]
    assert found["advice"] == "llm-service config check llm-service.yaml"


def test_doctor_reads_which_telemetry_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics: Any = importlib.import_module("llm_metrics")

    def look(chosen: str, *installed: str) -> tuple[State, str]:
        monkeypatch.setattr(metrics, "installed_telemetry", lambda: dict.fromkeys(installed, "x"))
        (found,) = checks.telemetry({"LLM_TELEMETRY": chosen})
        return found.state, found.said

    assert look("") == (State.WORKS, "none")
    assert look("", "otel") == (State.WORKS, "otel")
    assert look("jsonl, otel", "otel", "prometheus") == (State.WORKS, "jsonl, otel")
    assert look("", "otel", "prometheus")[0] is State.FAULTY
    assert look("nobody") == (State.FAULTY, "no backend is called 'nobody'")


def test_doctor_offline_sends_nothing(shell: Any) -> None:
    before = len(shell.sim.calls())
    shell.environment["REDIS_URL"] = "redis://127.0.0.1:1"
    found = findings(shell, "--offline")
    assert len(shell.sim.calls()) == before
    assert found["Redis"]["said"] == "127.0.0.1:1, not tried"
    assert found["openai"]["said"] == "ready, not tried"


async def test_doctor_reaches_a_redis_that_listens_also_without_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}"
        (found,) = await checks.services({"REDIS_URL": url}, offline=False)
    assert found.state is State.WORKS


def test_doctor_names_every_package_of_the_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    def package(name: str, *requires: str) -> Any:
        return SimpleNamespace(name=name, version="1.0", requires=list(requires) or None)

    there = [
        package("llm-telemetry-otel", "opentelemetry-sdk<2", "llm-core<0.2,>=0.1"),
        package("llm-core"),
        package("llm-ollama", "llm>=0.23"),
        package("llm-core"),
    ]
    monkeypatch.setattr(checks, "distributions", lambda: there)
    (said,) = [finding.said for finding in checks.packages() if finding.subject == "toolkit"]
    assert said == "llm-core 1.0, llm-telemetry-otel 1.0"


def test_doctor_says_how_many_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    resource: Any = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert [f.advice for f in checks.limits()] == ["ulimit -n 1024"]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, 0))
    assert "no limit" in next(iter(checks.limits())).said
    monkeypatch.setitem(sys.modules, "resource", None)
    assert checks.limits() == []


class FakeSound:
    """Stands in for the package sounddevice, on a machine with a speaker and no microphone."""

    PortAudioError = RuntimeError

    @staticmethod
    def query_devices(*, kind: str) -> dict[str, str]:
        if kind == "input":
            raise ValueError("no input device")
        return {"name": "speaker of the test"}


def test_doctor_names_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound)
    assert [(f.subject, f.state, f.said) for f in checks.devices()] == [
        ("microphone", State.ABSENT, "none found"),
        ("speaker", State.WORKS, "speaker of the test"),
    ]


def test_doctor_says_what_sound_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(checks.importlib, "import_module", refuse)
    assert [f.advice for f in checks.devices()] == [
        "apt-get install libportaudio2, or your system's PortAudio"
    ]


@pytest.mark.parametrize(("behind", "words"), [(60.0, "60 s behind"), (-60.0, "60 s ahead")])
async def test_a_wrong_clock_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, behind: float, words: str
) -> None:
    monkeypatch.setattr(checks, "_seconds_behind", lambda urls: behind)
    (found,) = await checks.clock({"OPENAI_API_KEY": "x"}, offline=False)
    assert (found.state, words in found.said) == (State.FAULTY, True)


async def test_a_clock_that_nobody_tells_is_not_compared() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    bases = {"OPENAI_BASE_URL": "no address", "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}"}
    environment = {"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "x", **bases}
    (found,) = await checks.clock(environment, offline=False)
    assert "not compared" in found.said


class BrokenRegistry:
    """A registry whose providers are somebody else's and fail in their own ways."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def get(self, name: str) -> Any:
        if isinstance(self._provider, Exception):
            raise self._provider
        return self._provider


class Unlisted:
    """A provider that answers, but has no list of models."""

    async def list_models(self) -> Any:
        raise ErrorInfo.of(
            ErrorType.MODEL_NOT_FOUND, "no such page", status_code=404
        ).to_exception()


@pytest.mark.parametrize(
    ("provider", "state", "said"),
    [
        (RuntimeError("broken"), State.FAULTY, "RuntimeError: broken"),
        (Unlisted(), State.WORKS, "answers, but lists no models (model_not_found)"),
        (object(), State.WORKS, "ready, not tried"),
    ],
)
async def test_foreign_providers_cannot_break_the_doctor(
    provider: Any, state: State, said: str
) -> None:
    registry: Any = BrokenRegistry(provider)
    found = await checks._provider(registry, "other", {}, offline=False)
    assert (found.state, found.said) == (state, said)


async def test_an_ollama_nobody_configured_is_no_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    registry: Any = BrokenRegistry(OllamaProvider(f"http://127.0.0.1:{port}"))
    found = await checks._provider(registry, "ollama", {}, offline=False)
    assert (found.state, found.advice) == (State.ABSENT, "ollama serve")
    await registry.get("ollama").aclose()


def test_advice_never_sends_anybody_to_an_index_for_our_own_packages() -> None:
    told: list[Finding] = [*checks.extras(), *asyncio.run(checks.providers({}, offline=True))]
    assert not [finding for finding in told if "pip install llm-" in finding.advice]
    assert not [finding for finding in told if "pip install 'llm-" in finding.advice]


def test_every_command_says_in_the_list_what_its_help_begins_with(shell: Any) -> None:
    context = click.Context(commands)
    listed = shell("--help").stdout
    for name, row in COMMANDS.items():
        command = commands.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert row.summary in " ".join(listed.split())
        shown = shell(name, "--help")
        assert shown.returncode == 0
        assert max(map(len, shown.stdout.splitlines())) <= 80, name


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: Any, name: str) -> None:
    done = shell("completion", name)
    assert "_LLM_SERVICE_COMPLETE" in done.stdout
    assert "llm-service" in done.stdout


def test_bash_completes_commands_and_options(shell: Any) -> None:
    shell.environment |= {"_LLM_SERVICE_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    shell.environment["COMP_WORDS"] = "llm-service do"
    assert shell.spawn().stdout == "plain,doctor\n"
    shell.environment |= {"COMP_WORDS": "llm-service run --ord", "COMP_CWORD": "2"}
    assert shell.spawn().stdout == "plain,--order\n"
    shell.environment |= {"COMP_WORDS": "llm-service rnu --ord"}
    assert shell.spawn()[1:] == ("\n", "")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("prices: {overrides: none.yaml}", "cannot be read"),
        ("operations: {a: {pipeline: [Nope]}}", "no step is called 'Nope'"),
        ("providers: {own: {kind: compatible}}", "base_url: is missing"),
        ("telemetry: {backends: hotel}", "no backend is called 'hotel'"),
        ("models: {default: opnai/x}", "did you mean 'openai/x'?"),
    ],
)
def test_doctor_finds_what_cannot_work(shell: Any, config: str, said: str) -> None:
    shell.write("llm-service.yaml", config)
    done = shell("doctor", "--offline", "--json")
    (found,) = [f for f in json.loads(done.stdout) if f["state"] == "faulty"]
    assert (done.returncode, found["area"], found["subject"]) == (1, "configuration", "file")
    assert found["said"].startswith("llm-service.yaml:1: ")
    assert said in found["said"]


@pytest.mark.parametrize(
    ("begun", "completed"),
    [
        ("cle", ["clever"]),
        ("own-", ["own-model", "own-priced"]),
        ("gpt-4o-mini-tr", ["gpt-4o-mini-transcribe"]),
        ("local/", ["local/own-priced"]),
        ("openai/gpt-4o-mini-tr", ["openai/gpt-4o-mini-transcribe"]),
        ("loc", ["local/"]),
        ("nobody", []),
    ],
)
def test_models_are_completed(shell: Any, begun: str, completed: list[str]) -> None:
    shell.write("prices.yaml", "prices: [{provider: local, model: own-priced, per_request: 1}]")
    shell.write(
        "llm-service.yaml",
        "models: {default: own-model, aliases: {clever: claude-sonnet-4-5}}",
        "providers: {local: {kind: compatible, base_url: 'http://127.0.0.1:1/v1', patterns: own-*}}",
        "prices: {overrides: prices.yaml}",
    )
    shell.environment |= {
        "_LLM_SERVICE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"llm-service ask -m {begun}",
        "COMP_CWORD": "3",
    }
    done = shell.spawn()
    assert done.stdout.split() == [f"plain,{name}" for name in completed]
    assert done.stderr == ""


@pytest.mark.parametrize("config", ["models: {default: opnai/x}", "prices: {overrides: none.yaml}"])
def test_models_are_completed_where_the_configuration_is_wrong(shell: Any, config: str) -> None:
    shell.write("llm-service.yaml", config)
    shell.environment |= {
        "_LLM_SERVICE_COMPLETE": "bash_complete",
        "COMP_WORDS": "llm-service ask -m gpt-4o-mini-tr",
        "COMP_CWORD": "3",
    }
    assert shell.spawn() == (0, "plain,gpt-4o-mini-transcribe\n", "")


@pytest.mark.realtime
def test_a_reader_that_goes_away_is_no_traceback(shell: Any) -> None:
    """Real time: two processes and a pipe."""
    process = shell.start("models", "--offline", "--json")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (141, "")


def test_the_list_of_commands_imports_none_of_them() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from llm_service.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith(('llm_service.cli.', 'rich', 'llm_sim'))))"
    )
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "['llm_service.cli.app', 'llm_service.cli.console']"
