"""`llm-service config`: schema, check and explain."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from llm_core import ConfigurationError
from llm_service import BaseLLMService
from llm_service.cli.config import config
from llm_service.config import InvalidConfig, load_config

GOOD = """\
models: {default: gpt-5-mini}
providers:
  openai: {api_key: env:OPENAI_API_KEY}
limits:
  max_rpm: 500
"""


class Folder:
    """A folder of its own in which the command runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> str:
        (self.path / name).write_text(text, encoding="utf-8")
        return name

    def __call__(self, *arguments: str, **environment: str) -> Result:
        return CliRunner(env={"COLUMNS": "80", **environment}).invoke(
            config, arguments, standalone_mode=False, catch_exceptions=False
        )


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return Folder(tmp_path)


def test_the_schema_accepts_what_is_good_and_refuses_the_rest(command: Folder) -> None:
    done = command("schema")
    schema = json.loads(done.stdout)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid(
        {"limits": {"max_rpm": 5}, "providers": {"openai": {"api_key": "env:K"}}}
    )
    assert not validator.is_valid({"limits": {"max_rmp": 5}})
    assert not validator.is_valid({"providers": {"openai": {"api_key": "sk-1"}}})
    assert schema["$defs"]["RateLimits"]["properties"]["max_rpm"]["description"]


def test_the_schema_says_what_every_key_means(command: Folder) -> None:
    schema = json.loads(command("schema").stdout)
    sections = {"the file": schema, **schema["$defs"]}
    silent = [
        f"{section}.{key}"
        for section, part in sections.items()
        for key, field in part.get("properties", {}).items()
        # A key that holds a section is described by that section.
        if not field.get("description") and "$ref" not in json.dumps(field)
    ]
    assert silent == []


def test_check_is_content_with_a_good_file_and_mentions_missing_secrets(command: Folder) -> None:
    done = command("check", command.write("llm.yaml", GOOD))
    assert (done.return_value, done.stdout) == (0, "llm.yaml: good\n")
    assert done.stderr == "llm.yaml:3: providers.openai.api_key: env:OPENAI_API_KEY is not here\n"
    assert command("check", "llm.yaml", OPENAI_API_KEY="k").stderr == ""


def test_check_mentions_models_that_nobody_is_known_for(command: Folder) -> None:
    done = command("check", command.write("llm.yaml", "models:\n  default: gtp-5\n"))
    assert (done.return_value, done.stdout) == (0, "llm.yaml: good\n")
    assert done.stderr == "llm.yaml:2: models.default: no provider is known for 'gtp-5'\n"


def test_check_mentions_a_key_file_that_holds_none(command: Folder) -> None:
    done = command("check", command.write("llm.yaml", "providers: {openai: {api_key: file:.}}"))
    assert done.return_value == 0
    assert done.stderr.endswith("holds no secret (is a directory)\n")


def test_check_without_a_file_takes_the_one_that_commands_find(command: Folder) -> None:
    with pytest.raises(click.UsageError, match="name a FILE"):
        command("check")
    command.write("llm-service.yaml", "limits: {max_rpm: 5}")
    assert command("check").stdout == "llm-service.yaml: good\n"


def test_check_tells_every_fault_on_a_line(command: Folder) -> None:
    done = command("check", command.write("llm.yaml", "limits: {max_rmp: 5}\nretry: 3\n"))
    assert done.return_value == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "llm.yaml:1: limits.max_rmp: unknown key; did you mean 'max_rpm'?",
        "llm.yaml:2: retry: got 3, expected a mapping",
    ]


FAULTS = {
    "models: {default: gpt-5-mini}\nprices: {overrides: prices.yaml}": "cannot be read",
    "operations: {a: {pipeline: [Nope]}}": "no step is called 'Nope'",
    "providers: {own: {kind: compatible}}": "providers.own.base_url: is missing",
    "telemetry: {backends: [hotel]}": "no backend is called 'hotel'; did you mean 'otel'?",
    "models: {default: opnai/gpt-5}": "did you mean 'openai/gpt-5'?",
    "cache: {ttl_seconds: 1e300}": "expected at most 1000000000",
    "providers: {a/b: {kind: openai}}": "expected a name without '/'",
    "": "",
    GOOD: "",
}


@pytest.mark.parametrize(("text", "told"), FAULTS.items())
def test_check_accepts_what_a_service_can_be_made_from(
    command: Folder, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    done = command("check", command.write("llm.yaml", text))
    assert (done.return_value, told in done.stderr) == (1 if told else 0, True)
    if told:
        with pytest.raises(InvalidConfig) as caught:
            BaseLLMService.from_config("llm.yaml")
        assert str(caught.value) == done.stderr.strip()
    else:
        BaseLLMService.from_config("llm.yaml").close()


@pytest.mark.parametrize("names", ["hotel", "", "none,jsonl"])
def test_check_refuses_telemetry_that_the_environment_cannot_choose(
    command: Folder, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    monkeypatch.setenv("LLM_TELEMETRY", names)
    done = command("check", command.write("llm.yaml", GOOD))
    with pytest.raises(ConfigurationError) as caught:
        BaseLLMService.from_config("llm.yaml")
    assert (done.return_value, done.stderr) == (1, f"{caught.value}\n")


@pytest.mark.parametrize("subcommand", [["check", "llm.yaml"], ["explain"]])
def test_a_malformed_line_of_an_env_file_is_told_once(
    command: Folder, caplog: pytest.LogCaptureFixture, subcommand: list[str]
) -> None:
    command.write("llm.yaml", "limits: {max_rpm: 5}")
    command.write(".env", "LLM_SERVICE_MAX_TPM=9\n\n\nthis is: none\nA=1\n")
    done = command(*subcommand)
    assert done.stderr.count(".env") == 1
    assert "llm-service: .env:4: not NAME=value, left out\n" in done.stderr
    caplog.clear()
    load_config(environ={})
    assert [record.getMessage() for record in caplog.records] == [
        ".env:4: not NAME=value, left out"
    ]


@pytest.mark.parametrize("subcommand", ["check", "explain"])
def test_a_file_that_is_not_there_cannot_be_looked_at(command: Folder, subcommand: str) -> None:
    done = CliRunner().invoke(config, [subcommand, "none.yaml"], standalone_mode=False)
    assert isinstance(done.exception, click.ClickException)
    assert "none.yaml: cannot be read" in done.exception.format_message()


def test_explain_shows_values_and_origins_in_80_columns(command: Folder) -> None:
    command.write(".env", "LLM_SERVICE_MAX_TPM=9\n")
    command.write("llm.yaml", GOOD)
    done = command("explain", "llm.yaml", OPENAI_API_KEY="sk-verysecret")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [
        ["setting", "value", "from"],
        ["models.default", "gpt-5-mini", "llm.yaml:1"],
        ["providers.openai.api_key", "env:OPENAI_API_KEY", "(set)", "llm.yaml:3"],
        ["limits.max_rpm", "500", "llm.yaml:5"],
        ["limits.max_tpm", "9", "LLM_SERVICE_MAX_TPM", "in", ".env"],
    ]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_explain_folds_what_is_longer_than_a_line(command: Folder) -> None:
    key = f"/{'long/' * 20}key"
    text = f"providers: {{openai: {{api_key: 'file:{key}'}}}}\noperations: {{{'o' * 60}: {{max_attempts: 2}}}}"
    done = command("explain", command.write("llm.yaml", text))
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    begin, end = lines[0].index("value"), lines[0].index("from")
    values = "".join(line[begin:end].strip() for line in lines[1:])
    assert values.replace(" ", "") == f"file:{key}(missing)2"


def test_explain_finds_the_file_and_writes_json(command: Folder) -> None:
    command.write("llm-service.yaml", "retry: {max_attempts: 2}")
    done = command("explain", "--json", LLM_SERVICE_MAX_RPM="5")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"name": "limits.max_rpm", "value": 5, "origin": "LLM_SERVICE_MAX_RPM"},
        {"name": "retry.max_attempts", "value": 2, "origin": "llm-service.yaml:1"},
    ]


def test_explain_can_show_the_defaults(command: Folder) -> None:
    assert "nothing is set" in command("explain").stderr
    told = [json.loads(line) for line in command("explain", "--all", "--json").stdout.splitlines()]
    assert {"name": "cache.mode", "value": "off", "origin": "default"} in told


def test_it_is_a_part_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "llm.yaml").write_text("retry: {max_attempts: 0}")
    done = subprocess.run(
        [sys.executable, "-m", "llm_service", "config", "check", "llm.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    expected = "llm.yaml:1: retry.max_attempts: got 0, expected 1 or more\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
