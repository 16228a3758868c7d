"""`llm-service run --batch`: submitted once, waited for over restarts, collected at half the price."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_sim import SimServer

RUN = ("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")
BATCH = (*RUN, "--batch", "--batch-size", "4", "--poll", "0.1")


@pytest.fixture
def patient_sim() -> Iterator[SimServer]:
    """A simulator whose batches take three seconds."""
    with SimServer(batch_seconds=3.0) as server:
        yield server


@pytest.fixture
def patient_shell(shell: Any, patient_sim: SimServer) -> Any:
    shell.environment["OPENAI_BASE_URL"] = patient_sim.openai_base_url
    shell.sim = patient_sim
    return shell


def questions(shell: Any, count: int) -> None:
    shell.write("in.jsonl", *[json.dumps({"user": f"question {n}"}) for n in range(count)])


def results(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def submitted(sim: SimServer) -> int:
    return sum((c.method, c.path) == ("POST", "/v1/batches") for c in sim.calls())


def _seconds_of(times: dict[str, int]) -> float:
    return (times["ended"] - times["started"]) / 1e9


def test_answers_come_in_the_order_of_the_file_at_half_the_price(shell: Any) -> None:
    questions(shell, 6)
    batch = shell(*BATCH)
    assert batch.returncode == 0, batch.stderr
    found = results(shell.folder)
    assert [r["content"] for r in found] == [f"question {n}" for n in range(6)]
    assert "requests submitted to openai" in batch.stderr
    halved = sum(Decimal(r["cost"]["amount"]) for r in found)

    shell(*RUN, "--restart")

    assert halved * 2 == sum(Decimal(r["cost"]["amount"]) for r in results(shell.folder))
    assert shell.files() == ["in.jsonl", "out.jsonl"]


def test_a_result_has_the_one_attempt_that_its_batch_was(shell: Any) -> None:
    questions(shell, 2)
    done = shell(*BATCH)
    for result in results(shell.folder):
        (attempt,) = result["attempts"]
        assert (attempt["number"], attempt["provider"], attempt["model"]) == (
            1,
            "openai",
            result["model"],
        )
        assert (attempt["usage"], attempt["cost"]) == (result["usage"], result["cost"])
        times = attempt["timestamps"]
        assert times["started"] < times["ended"] == result["timestamps"]["completed"]
    assert "2 attempts" in done.stderr


@pytest.mark.realtime
def test_a_killed_run_goes_on_waiting_for_the_same_batches(patient_shell: Any) -> None:
    """Real time: the command is killed while it waits for its batches."""
    shell = patient_shell
    questions(shell, 6)
    process = shell.start(*BATCH)
    ledger = shell.folder / "out.jsonl.batches"
    while not ledger.exists() or len(ledger.read_bytes().splitlines()) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()

    assert "give --batch to collect them" in shell.one_line(shell(*RUN))
    done = shell(*BATCH)

    assert done.returncode == 0, done.stderr
    assert [r["content"] for r in results(shell.folder)] == [f"question {n}" for n in range(6)]
    assert min(_seconds_of(r["attempts"][0]["timestamps"]) for r in results(shell.folder)) > 2
    assert submitted(shell.sim) == 2
    assert shell.files() == ["in.jsonl", "out.jsonl"]


@pytest.mark.realtime
def test_ctrl_c_leaves_the_batches_at_the_vendor(patient_shell: Any) -> None:
    """Real time: a signal to a running process."""
    shell = patient_shell
    questions(shell, 3)
    process = shell.start(*BATCH)
    while not (shell.folder / "out.jsonl.batches").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130, told
    assert "1 batch goes on at the vendor" in told
    assert "stopped after 0 of 3; the same command goes on from there" in told
    shell.write("in.jsonl", '{"user": "other"}', '{"user": "question 1"}', '{"user": "question 2"}')
    time.sleep(3)
    assert "its lines have changed" in shell.one_line(shell(*BATCH, "--quiet"))


@pytest.mark.parametrize(
    ("line", "model", "complaint"),
    [
        ('{"user": "?", "fallback_value": 1}', "gpt-5-mini", "line 1: pipeline and fallback_value"),
        ('{"user": "?"}', "llama3.2", "ollama has no batch API"),
        ('{"user": "?"}', "no-such-model", "no-such-model"),
        ('{"user": "?", "model": "no-such-model"}', "gpt-5-mini", "no-such-model"),
    ],
)
def test_what_no_batch_can_do_is_one_line(
    shell: Any, line: str, model: str, complaint: str
) -> None:
    shell.write("in.jsonl", line)
    done = shell("run", "in.jsonl", "-m", model, "-o", "out.jsonl", "--batch")
    assert complaint in shell.one_line(done)
    assert shell.files() == ["in.jsonl"]


@pytest.mark.parametrize(
    ("last", "complaint"),
    [
        ({"model": "llama3.2"}, "--batch: line 6: ollama has no batch API"),
        ({"model": "no-such-model"}, "--batch: line 6: no provider is known for model"),
        ({"model": "claude-sonnet-4-5"}, "--batch: line 6: "),
        ({"fallback_value": 1}, "--batch: line 6: pipeline and fallback_value"),
    ],
)
def test_everything_is_checked_before_anything_is_submitted(
    shell: Any, last: dict[str, Any], complaint: str
) -> None:
    lines = [{"user": f"question {n}"} for n in range(5)]
    shell.write("in.jsonl", *map(json.dumps, [*lines, {"user": "?", **last}]))
    before = submitted(shell.sim)
    assert complaint in shell.one_line(shell(*BATCH))
    assert submitted(shell.sim) == before
    assert shell.files() == ["in.jsonl"]


def test_every_line_of_a_batch_may_name_its_own_model(shell: Any) -> None:
    shell.write(
        "llm-service.yaml",
        "operations: {small: {model: small}}",
        "models: {aliases: {small: gpt-5-nano}}",
    )
    lines = [{"user": "a", "model": "gpt-5-mini"}, {"user": "b", "operation_name": "small"}]
    shell.write("in.jsonl", *map(json.dumps, lines))
    done = shell("run", "in.jsonl", "-o", "out.jsonl", "--batch", "--poll", "0.1")
    assert done.returncode == 0, done.stderr
    assert [r["model"] for r in results(shell.folder)] == ["gpt-5-mini", "gpt-5-nano"]


def test_a_request_that_no_batch_can_hold_fails_alone(shell: Any) -> None:
    hot = {"user": "?", "sampling": {"temperature": 0.5}}
    lines = ['{"user": "a"}', json.dumps(hot), '{"user": "b"}']
    shell.write("in.jsonl", *lines)
    done = shell(*BATCH)
    assert done.returncode == 1, done.stderr
    assert [r["content"] for r in results(shell.folder)] == ["a", None, "b"]
