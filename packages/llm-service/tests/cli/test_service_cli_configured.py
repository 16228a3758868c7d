"""The commands with a configuration: what it sets, and what goes above it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from llm_sim import Constant, Latency, SimServer

MODELS = "models: {default: quick, aliases: {quick: openai/gpt-5-mini}}"


def config(shell: Any, *lines: str, name: str = "llm-service.yaml") -> str:
    written: str = shell.write(name, *lines)
    return written


def asked(shell: Any, *arguments: str) -> dict[str, Any]:
    """Return the result of a question as JSON."""
    done = shell("ask", "What is the capital of France?", "--json", *arguments)
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def answers(shell: Any, name: str = "out.jsonl") -> list[dict[str, Any]]:
    text = (shell.folder / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_ask_takes_the_default_model_and_its_alias_from_the_file_in_the_folder(shell: Any) -> None:
    config(shell, MODELS)
    result = asked(shell)
    assert (result["content"], result["provider"], result["model"]) == (
        "Paris",
        "openai",
        "gpt-5-mini",
    )


def test_a_model_on_the_command_line_may_be_an_alias_and_goes_above_the_operations(
    shell: Any,
) -> None:
    config(
        shell,
        "models: {default: gpt-5, aliases: {small: openai/gpt-5-nano}}",
        "operations: {ask: {model: gpt-5-mini}}",
    )
    assert asked(shell)["model"] == "gpt-5-mini"
    assert asked(shell, "-m", "small")["model"] == "gpt-5-nano"


def test_config_names_another_file(shell: Any) -> None:
    config(shell, "models: {default: gpt-5}")
    other = config(shell, "models: {default: gpt-5-nano}", name="other.yaml")
    assert asked(shell, "--config", other)["model"] == "gpt-5-nano"


def test_a_variable_goes_before_the_file(shell: Any) -> None:
    config(shell, "models: {default: gpt-5}")
    shell.environment["LLM_SERVICE_MODEL"] = "gpt-5-nano"
    assert asked(shell)["model"] == "gpt-5-nano"


def test_a_command_without_any_model_says_where_to_name_one(shell: Any) -> None:
    line = shell.one_line(shell("ask", "?"))
    assert "no model" in line
    assert "LLM_SERVICE_MODEL" in line


@pytest.mark.parametrize(
    "command",
    [["ask", "?"], ["chat"], ["run", "in.jsonl", "-o", "out.jsonl"], ["models", "--offline"]],
)
def test_a_wrong_configuration_is_one_line_that_tells_where_all_faults_are(
    shell: Any, command: list[str]
) -> None:
    shell.write("in.jsonl", '{"user": "?"}')
    config(shell, "limits: {max_rmp: 5}", "modell: x")
    line = shell.one_line(shell(*command))
    assert "llm-service.yaml:1: limits.max_rmp: unknown key; did you mean 'max_rpm'?" in line
    assert "1 more: llm-service config check llm-service.yaml" in line


def test_a_configuration_that_is_not_there_is_one_line(shell: Any) -> None:
    assert "none.yaml" in shell.one_line(shell("ask", "?", "--config", "none.yaml"))


def test_keys_and_addresses_of_providers_come_from_the_file(shell: Any) -> None:
    with SimServer({"default": "echo"}, api_keys=["right"]) as guarded:
        config(
            shell,
            "models: {default: local/some-model}",
            "providers:",
            f"  local: {{kind: compatible, base_url: '{guarded.openai_base_url}', api_key: env:MINE}}",
        )
        shell.environment["MINE"] = "right"
        assert asked(shell)["success"]
        del shell.environment["MINE"]
        assert "MINE" in shell.one_line(shell("ask", "?"))


def test_a_fallback_of_the_file_answers_when_the_model_cannot(shell: Any) -> None:
    shell.environment["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    config(
        shell,
        "models: {default: gpt-5, fallbacks: [{model: spare/gpt-5-mini}]}",
        f"providers: {{spare: {{kind: compatible, base_url: '{shell.sim.openai_base_url}'}}}}",
        "retry: {max_attempts: 1}",
    )
    result = asked(shell)
    assert (result["content"], result["degraded"]["reason"]) == ("Paris", "fallback_model")


def test_attempts_on_the_command_line_go_above_the_files(shell: Any) -> None:
    shell.environment["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    config(shell, MODELS, "retry: {max_attempts: 3, initial_seconds: 0.001}")
    assert len(asked(shell)["attempts"]) == 3
    assert len(asked(shell, "--attempts", "2")["attempts"]) == 2


def test_prices_of_the_file_are_in_the_cost(shell: Any) -> None:
    shell.write(
        "mine.yaml",
        "prices:",
        "  - {provider: openai, model: gpt-5-mini,",
        "     per_million_tokens: {input: 1000000, output: 0}}",
    )
    config(shell, MODELS, "prices: {overrides: mine.yaml}")
    result = asked(shell)
    assert float(result["cost"]["amount"]) == result["usage"]["input_tokens"]
    shown = json.loads(shell("prices", "quick", "--json").stdout)
    assert shown["quick"]["input"] == "1000000"


def test_a_deadline_for_the_chat_comes_from_its_operation(shell: Any) -> None:
    with SimServer({"default": "echo"}, latency=Latency(first_token=Constant(5.0))) as slow:
        shell.environment["OPENAI_BASE_URL"] = slow.openai_base_url
        config(shell, MODELS, "operations: {chat: {deadline_seconds: 0.3}}")
        done = shell("chat", stdin="Hello\n")
    assert done.returncode == 1
    assert "timeout_deadline" in done.stderr


def test_run_answers_identical_lines_once_if_the_file_wants_a_cache(shell: Any) -> None:
    config(shell, MODELS, "cache: {mode: use}")
    shell.write("in.jsonl", *['{"user": "the same"}'] * 5)
    done = shell("run", "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert sum(len(result["attempts"]) for result in answers(shell)) == 1


def test_run_keeps_the_limits_of_the_file_and_options_go_above_them(shell: Any) -> None:
    config(shell, MODELS, "limits: {providers: {openai: {max_concurrent_requests: 1}}}")
    shell.write("in.jsonl", *[json.dumps({"user": f"q {n}"}) for n in range(8)])
    with SimServer({"default": "echo"}, latency=Latency(first_token=Constant(0.05))) as slow:
        shell.environment["OPENAI_BASE_URL"] = slow.openai_base_url
        assert shell("run", "in.jsonl", "-o", "one.jsonl").returncode == 0
        assert _most_at_once(answers(shell, "one.jsonl")) == 1
        assert shell("run", "in.jsonl", "-o", "four.jsonl", "-c", "4").returncode == 0
        assert _most_at_once(answers(shell, "four.jsonl")) > 1


def _most_at_once(results: list[dict[str, Any]]) -> int:
    times = [attempt["timestamps"] for result in results for attempt in result["attempts"]]
    return max(
        sum(
            one["started"] < other["ended"] and other["started"] <= one["started"]
            for other in times
        )
        for one in times
    )


@pytest.mark.realtime
def test_limits_that_change_in_the_file_hold_for_a_run_that_is_under_way(shell: Any) -> None:
    """Real time: a file that a running process watches."""
    config(shell, MODELS, "limits: {max_rpm: 2}")
    shell.write("in.jsonl", *[json.dumps({"user": f"q {n}"}) for n in range(8)])
    process = shell.start("run", "in.jsonl", "-o", "out.jsonl")
    journal = shell.folder / "out.jsonl.journal"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    config(shell, MODELS, "limits: {max_rpm: 1000}")
    _, told = process.communicate(timeout=40)
    assert process.returncode == 0, told
    assert len(answers(shell)) == 8


def test_run_refuses_to_go_on_under_another_configured_model(shell: Any) -> None:
    shell.write("in.jsonl", '{"user": "?"}')
    config(shell, "models: {default: gpt-5}")
    assert shell("run", "in.jsonl", "-o", "out.jsonl").returncode == 0
    config(shell, "models: {default: gpt-5-mini}")
    assert "--restart" in shell.one_line(shell("run", "in.jsonl", "-o", "out.jsonl"))


def test_doctor_tries_the_configured_providers_and_names_a_key_that_is_missing(shell: Any) -> None:
    config(
        shell,
        MODELS,
        f"providers: {{local: {{kind: compatible, base_url: '{shell.sim.openai_base_url}'}},",
        "            openai: {api_key: env:MINE}}",
    )
    done = shell("doctor", "--json")
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert found["local"]["said"] == "answers"
    assert found["openai"]["state"] == "faulty"
    assert "MINE" in found["openai"]["said"] + found["openai"]["advice"]


def test_doctor_tells_where_the_default_model_is_named_and_who_answers(shell: Any) -> None:
    config(shell, MODELS)
    told = json.loads(shell("doctor", "--offline", "--json").stdout)
    said = {finding["subject"]: finding["said"] for finding in told}
    assert said["llm-service.yaml:1"] == "quick, answered by openai"


def test_doctor_knows_the_telemetry_that_the_configuration_chooses(shell: Any) -> None:
    del shell.environment["LLM_TELEMETRY"]
    config(shell, "telemetry: {backends: jsonl}")
    told = json.loads(shell("doctor", "--offline", "--json").stdout)
    found = {finding["subject"]: finding for finding in told}
    assert (found["telemetry"]["state"], found["telemetry"]["said"]) == ("works", "jsonl")
