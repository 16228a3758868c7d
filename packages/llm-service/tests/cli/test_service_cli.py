"""The `llm-service` command, against a simulator on this machine."""

from __future__ import annotations

import json
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest

from llm_core import ConfigurationError
from llm_service.cli.app import commands
from llm_service.cli.model_names import corrected_name


def test_ask_prints_the_answer_alone(shell: Any) -> None:
    done = shell("ask", "What is the capital of France?", "-m", "gpt-5-mini")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Paris\n", "")


def test_ask_reads_the_question_from_a_pipe(shell: Any) -> None:
    done = shell("ask", "-m", "gpt-5-mini", stdin="What is the capital of France?\n")
    assert done.stdout == "Paris\n"


def test_ask_without_a_question_says_so(shell: Any) -> None:
    assert "no question" in shell.one_line(shell("ask", "-m", "gpt-5-mini"))


def test_ask_can_print_the_whole_result(shell: Any) -> None:
    done = shell("ask", "capital of France?", "-m", "gpt-5-mini", "--json")
    result = json.loads(done.stdout)
    assert (result["content"], result["success"], len(result["attempts"])) == ("Paris", True, 1)


def test_the_model_may_come_from_the_environment_file(shell: Any) -> None:
    shell.write(".env", "OPENAI_API_KEY=from-file")
    del shell.environment["OPENAI_API_KEY"]
    done = shell("ask", "capital of France?", "-m", "openai/gpt-5-mini")
    assert (done.returncode, done.stdout) == (0, "Paris\n")


def test_the_environment_file_may_name_the_default_model(shell: Any) -> None:
    shell.write(".env", "LLM_SERVICE_MODEL=gpt-5-mini")
    done = shell("ask", "What is the capital of France?")
    assert (done.returncode, done.stdout) == (0, "Paris\n"), done.stderr


def test_a_missing_key_is_one_line_that_names_the_variable(shell: Any) -> None:
    del shell.environment["OPENAI_API_KEY"]
    shell.write("in.jsonl", '{"user": "?"}')
    for command in (["ask", "?"], ["run", "in.jsonl", "-o", "out.jsonl"]):
        said = shell.one_line(shell(*command, "-m", "gpt-5-mini"))
        assert said.endswith("set OPENAI_API_KEY in the environment or .env")
    assert not (shell.folder / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("no-such-model", ""),
        ("gtp-5-mini", "did you mean 'gpt-5-mini'? "),
        ("opnai/gpt-5-mini", "did you mean 'openai/gpt-5-mini'? "),
        ("fsat", "did you mean 'fast'? "),
    ],
)
def test_an_unknown_model_is_one_line_that_says_what_to_type(
    shell: Any, model: str, meant: str
) -> None:
    shell.write("llm-service.yaml", "models: {aliases: {fast: gpt-5-mini}}")
    shell.write("in.jsonl", '{"user": "?"}')
    said = (
        f"llm-service: no provider is known for model {model!r}; {meant}'llm-service models' lists names; "
        "else type PROVIDER/MODEL, with one of the providers anthropic, ollama, openai or of llm-service.yaml"
    )
    for command in (
        ["ask", "?", "-m", model],
        ["chat", "-m", model],
        ["run", "in.jsonl", "-o", "out.jsonl", "-m", model],
        ["run", "in.jsonl", "-o", "out.jsonl", "-m", model, "--batch"],
        ["prices", model],
    ):
        assert shell.one_line(shell(*command)) == said


def test_a_missing_key_of_a_line_names_the_variable_and_no_code(shell: Any) -> None:
    shell.write("in.jsonl", '{"user": "?", "model": "claude-haiku-4-5"}')
    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")
    assert "set ANTHROPIC_API_KEY in the environment or .env\n" in done.stderr


@pytest.mark.parametrize("options", [[], ["--batch"]])
def test_a_model_of_a_line_that_nobody_knows_is_told_in_the_same_words(
    shell: Any, options: list[str]
) -> None:
    shell.write("in.jsonl", '{"user": "?", "model": "gtp-5"}')
    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl", *options)
    assert "did you mean 'gpt-5'? 'llm-service models' lists names" in done.stderr
    assert "registry" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("claud-sonnet-4-5", ["claude-sonnet-4-5"]),
        ("gpt5-mini", ["gpt-5-mini"]),
        ("Opus", ["claude-opus-4-5", "claude-opus-4-6"]),
        ("clever", ["clever-one"]),
        ("x", []),
        ("other/gpt-5", []),
    ],
)
def test_names_are_corrected_by_what_they_are_most_like(typed: str, meant: list[str]) -> None:
    assert corrected_name(typed, ["anthropic", "openai"], aliases=["clever-one"]) == meant


def test_a_name_that_several_providers_answer_for_is_told_with_all_of_them(shell: Any) -> None:
    shell.write(
        "llm-service.yaml",
        "providers:",
        *[
            f"  {name}: {{kind: compatible, base_url: 'http://127.0.0.1:1/v1', patterns: ['own-*']}}"
            for name in ("here", "there")
        ],
    )
    said = shell.one_line(shell("ask", "?", "-m", "own-1"))
    assert said.endswith("expected one of here/own-1, there/own-1")


def test_a_failed_call_is_told_on_stderr_and_by_the_exit_code(shell: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    shell.environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
    done = shell("ask", "?", "-m", "gpt-5-mini", "--attempts", "1")
    assert done.returncode == 1
    assert "connection" in done.stderr
    assert done.stdout == ""


def test_run_writes_one_result_a_line_in_the_order_of_the_file(shell: Any) -> None:
    lines = [json.dumps({"user": f"question {n}"}) for n in range(30)]
    shell.write("in.jsonl", *lines, "")

    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")

    assert done.returncode == 0, done.stderr
    written = (shell.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["content"] for line in written] == [f"question {n}" for n in range(30)]
    assert "30 of 30 answered" in done.stderr


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (['{"user": "good"}', "not json"], "in.jsonl:2: not JSON"),
        (['{"user": "good"}', "", "[1, 2]"], "in.jsonl:3: got [1, 2], expected a JSON object"),
        (['{"prompt": "x"}'], "in.jsonl:1: 'prompt' is no field of a request"),
        (['{"system": "no question"}'], "in.jsonl:1: GenerationRequest.user: got None"),
        ([""], "in.jsonl: holds no requests"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_sent(
    shell: Any, lines: list[str], complaint: str
) -> None:
    shell.write("in.jsonl", *lines)
    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")
    assert complaint in shell.one_line(done)
    assert [path.name for path in shell.folder.iterdir()] == ["in.jsonl"]


def test_a_file_that_is_not_there_is_named(shell: Any) -> None:
    done = shell("run", "none.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")
    assert shell.one_line(done) == "llm-service: none.jsonl: no such file"


def test_a_file_that_is_no_text_is_named(shell: Any) -> None:
    (shell.folder / "in.jsonl").write_bytes(b"\xff\xfe\x00")
    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")
    assert "in.jsonl:1: not UTF-8 text" in shell.one_line(done)


def test_an_output_folder_that_is_not_there_is_named(shell: Any) -> None:
    shell.write("in.jsonl", '{"user": "?"}')
    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "none/out.jsonl")
    assert "none/out.jsonl: its folder does not exist" in shell.one_line(done)


def test_run_tells_by_its_exit_code_that_a_request_failed(shell: Any) -> None:
    shell.write("in.jsonl", '{"user": "?", "model": "no-such-model"}', '{"user": "good"}')
    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")
    assert done.returncode == 1
    assert "1 of 2 answered" in done.stderr
    assert len((shell.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_the_demo_gets_every_capital_right_and_fits_80_columns(shell: Any) -> None:
    examples = Path(__file__).parents[4] / "examples"
    done = shell("demo", "--examples", str(examples))
    assert done.returncode == 0, done.stderr
    assert "50 of 50 right" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_demo_works_in_any_folder(shell: Any) -> None:
    done = shell("demo", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert "50 of 50 right" in done.stdout


def test_a_quiet_demo_has_its_table_and_nothing_on_stderr(shell: Any) -> None:
    examples = Path(__file__).parents[4] / "examples"
    done = shell("demo", "-q", "--examples", str(examples))
    assert (done.returncode, done.stderr) == (0, "")
    assert "50 of 50 right" in done.stdout


def test_the_demo_imports_the_sdk_before_the_first_call_which_would_else_seem_slow(
    shell: Any,
) -> None:
    examples = Path(__file__).parents[4] / "examples"
    for path in examples.glob("*.*"):
        (shell.folder / path.name).write_bytes(path.read_bytes())
    geography = (examples / "geography.py").read_text(encoding="utf-8")
    watched = geography.replace(
        "return await self", 'assert "openai" in __import__("sys").modules; return await self'
    )
    shell.write("geography.py", watched)
    done = shell.spawn("demo", "--examples", ".")
    assert done.returncode == 0, done.stderr
    assert watched != geography


def test_telemetry_that_is_not_there_is_one_line_in_every_command_that_calls(shell: Any) -> None:
    shell.environment["LLM_TELEMETRY"] = "nobody"
    shell.write("in.jsonl", '{"user": "?"}')
    examples = Path(__file__).parents[4] / "examples"
    for command in (
        ["demo", "--examples", str(examples)],
        ["ask", "?", "-m", "gpt-5-mini"],
        ["chat", "-m", "gpt-5-mini"],
        ["run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl"],
    ):
        assert "telemetry: got 'nobody'" in shell.one_line(shell(*command))


def test_a_configuration_error_of_any_command_is_one_line(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: click.Context) -> None:
        raise ConfigurationError("two\nlines")

    monkeypatch.setattr(commands, "invoke", refuse)
    assert shell.one_line(shell("models")) == "llm-service: two lines"


def test_the_demo_fails_when_an_answer_is_wrong(shell: Any) -> None:
    examples = Path(__file__).parents[4] / "examples"
    folder = shell.folder / "examples"
    folder.mkdir()
    for path in examples.glob("*.*"):
        text = path.read_text(encoding="utf-8").replace("reply: Paris", "reply: Lyon")
        (folder / path.name).write_text(text, encoding="utf-8")
    done = shell("demo", "--examples", "examples")
    assert done.returncode == 1
    assert "49 of 50 right" in done.stdout


def test_a_port_that_is_taken_is_one_line(shell: Any) -> None:
    examples = Path(__file__).parents[4] / "examples"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = shell("demo", "--examples", str(examples), "--port", str(port))
    assert str(port) in shell.one_line(done)


def test_a_demo_without_examples_says_where_it_looked(shell: Any) -> None:
    assert "nowhere: no geography.py" in shell.one_line(shell("demo", "--examples", "nowhere"))


def test_help_and_version_are_there(shell: Any) -> None:
    assert "ask" in shell("--help").stdout
    assert version("llm-service") in shell("--version").stdout


@pytest.mark.parametrize("arguments", [[], ["config"]])
def test_a_command_that_is_left_out_is_answered_with_the_list(
    shell: Any, arguments: list[str]
) -> None:
    done = shell(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert "Commands:" in lines
    assert max(map(len, lines)) <= 80
    assert not any(line.endswith("...") for line in lines if not line.startswith("Usage:"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["completion"], "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish; try"),
        (["run"], "Missing argument 'FILE'; try 'llm-service run --help'"),
        (["run", "in"], "Missing option '-o' / '--output'; try 'llm-service run --help'"),
        (["ask", "--modle", "x"], "Did you mean '--model'? Try 'llm-service ask --help'"),
        (["ask"], "on standard input; try 'llm-service ask --help'"),
        (["ask", "?"], "in llm-service.yaml; try 'llm-service ask --help'"),
        (
            ["ask", "?", "--temperature", "nan"],
            "nan is not a number up to 1e+09; try 'llm-service ask --help'",
        ),
        (["models", "--provider", "x"], "openai; try 'llm-service models --help'"),
        (["config", "check"], "set LLM_SERVICE_CONFIG; try 'llm-service config check --help'"),
        (["rnu"], "no command is called 'rnu'; did you mean 'run'? Try 'llm-service --help'"),
        (["sing"], "no command is called 'sing'; try 'llm-service --help'"),
    ],
)
def test_what_was_typed_wrongly_ends_with_where_to_read_how_it_is_right(
    shell: Any, arguments: list[str], said: str
) -> None:
    assert said in shell.one_line(shell(*arguments))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "--env-file keys: no such file; try 'llm-service {} --help'"),
        (b"\xff\xfe", "keys: not UTF-8 text (byte 0)"),
    ],
)
def test_an_environment_file_that_cannot_be_used_is_one_line(
    shell: Any, content: bytes | None, said: str
) -> None:
    if content is not None:
        (shell.folder / "keys").write_bytes(content)
    for command in (["ask", "?"], ["models"], ["config", "explain"]):
        line = shell.one_line(shell(*command, "--env-file", "keys"))
        name = command[0] if command[0] != "config" else "config explain"
        assert line == f"llm-service: {said.format(name)}"


def test_a_table_of_results_that_is_no_text_is_one_line(shell: Any) -> None:
    (shell.folder / "out.jsonl").write_bytes(b"\xff\n")
    said = shell.one_line(shell("stats", "out.jsonl"))
    assert said == "llm-service: out.jsonl:1: not UTF-8 text (byte 0)"
