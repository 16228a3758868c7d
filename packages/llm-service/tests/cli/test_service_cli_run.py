"""`llm-service run`: stopped in every way there is, and going on as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_sim import Latency, SimServer
from llm_sim.latency import Constant

COMMAND = ("-m", "llm_service")
ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes the terminal on stdin the one that controls the command."""
needs_sighup = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
RUN = ("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")
KILLS = 10


@pytest.fixture
def slow_sim() -> Iterator[SimServer]:
    """A simulator that takes a tenth of a second for an answer."""
    with SimServer(latency=Latency(first_token=Constant(0.1))) as server:
        yield server


@pytest.fixture
def slow_shell(shell: Any, slow_sim: SimServer) -> Any:
    shell.environment["OPENAI_BASE_URL"] = slow_sim.openai_base_url
    shell.sim = slow_sim
    return shell


def questions(shell: Any, count: int) -> None:
    shell.write("in.jsonl", *[json.dumps({"user": f"question {n}"}) for n in range(count)])


def results_in(path: Path) -> list[dict[str, Any]]:
    """Return the results of a file, without a line that was still being written."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def answers(results: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return what must be the same however often the run was stopped."""
    return [(r["request"]["metadata"]["input_line"], r["content"]) for r in results]


def asked(sim: SimServer) -> list[str]:
    """Return the texts the simulator was asked, in order."""
    return [call.body["input"][-1]["content"] for call in sim.calls()]


def wait_for_answers(shell: Any, process: subprocess.Popen[str], count: int) -> None:
    journal = shell.folder / "out.jsonl.journal"
    while len(results_in(journal)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def wait_for_calls(shell: Any, process: subprocess.Popen[str], count: int) -> None:
    while len(shell.sim.calls()) < count and process.poll() is None:
        time.sleep(0.01)


@pytest.mark.realtime
@pytest.mark.timeout(240)
def test_ten_kills_at_random_moments_lose_and_repeat_nothing(slow_shell: Any) -> None:
    """Real time: the command is killed, so it must really run."""
    shell, count, concurrency = slow_shell, 200, 4
    questions(shell, count)
    moments = random.Random(7)
    finished: set[str] = set()
    kills = 0
    for number in range(KILLS):
        before = len(shell.sim.calls())
        process = shell.start(*RUN, "-c", str(concurrency))
        if number % 4:  # else it is killed while it starts
            wait_for_calls(shell, process, before + 1)
        try:
            process.wait(timeout=moments.uniform(0.0, 0.6))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.communicate()
        repeated = finished.intersection(asked(shell.sim)[before:])
        assert not repeated, f"asked again after they had finished: {repeated}"
        finished.update(r["content"] for r in results_in(shell.folder / "out.jsonl.journal"))

    done = shell(*RUN, "-c", str(concurrency))

    assert done.returncode == 0, done.stderr
    undisturbed = [(n + 1, f"question {n}") for n in range(count)]
    assert answers(results_in(shell.folder / "out.jsonl")) == undisturbed
    assert len(finished) > 0
    assert shell.sim.report().calls <= count + kills * concurrency
    assert max(Counter(asked(shell.sim)).values()) <= kills + 1
    assert shell.files() == ["in.jsonl", "out.jsonl"]


def test_the_same_command_after_the_end_asks_nothing(shell: Any) -> None:
    questions(shell, 3)
    assert shell(*RUN).returncode == 0
    before = shell.sim.report().calls

    done = shell(*RUN)

    assert (done.returncode, shell.sim.report().calls - before) == (0, 0)
    assert "holds all 3 answers" in done.stderr
    assert shell(*RUN, "--restart").returncode == 0
    assert shell.sim.report().calls - before == 3


@pytest.mark.parametrize("output", ["in.jsonl", "./in.jsonl", "link.jsonl"])
def test_a_run_never_writes_over_its_own_input(shell: Any, output: str) -> None:
    questions(shell, 2)
    before = (shell.folder / "in.jsonl").read_bytes()
    (shell.folder / "link.jsonl").symlink_to("in.jsonl")
    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", output, "--restart")
    assert done.returncode == 2
    assert "is the input, too" in " ".join(done.stderr.split())
    assert (shell.folder / "in.jsonl").read_bytes() == before


@pytest.mark.parametrize("order", ["input", "finished"])
def test_a_run_killed_before_its_output_appeared_only_writes_it(shell: Any, order: str) -> None:
    questions(shell, 3)
    assert shell(*RUN).returncode == 0
    output = shell.folder / "out.jsonl"
    written = output.read_bytes()
    (shell.folder / "out.jsonl.journal").write_bytes(written + b'{"torn')
    output.unlink()
    before = shell.sim.report().calls

    done = shell(*RUN, "--order", order)

    assert (done.returncode, shell.sim.report().calls - before) == (0, 0)
    assert output.read_bytes() == written
    assert shell.files() == ["in.jsonl", "out.jsonl"]


def test_lines_added_at_the_end_are_answered_and_nothing_else(shell: Any) -> None:
    questions(shell, 3)
    shell(*RUN)
    before = shell.sim.report().calls
    questions(shell, 5)

    done = shell(*RUN)

    assert done.returncode == 0, done.stderr
    assert shell.sim.report().calls - before == 2
    contents = [content for _, content in answers(results_in(shell.folder / "out.jsonl"))]
    assert contents == [f"question {n}" for n in range(5)]


def test_a_line_that_changed_since_it_was_answered_is_refused(shell: Any) -> None:
    questions(shell, 3)
    shell(*RUN)
    written = (shell.folder / "out.jsonl").read_bytes()
    shell.write("in.jsonl", '{"user": "question 0"}', '{"user": "other"}', '{"user": "question 2"}')

    done = shell(*RUN)

    assert "line 2 is not what was answered in out.jsonl" in shell.one_line(done)
    assert "--restart" in done.stderr
    assert (shell.folder / "out.jsonl").read_bytes() == written
    assert shell(*RUN, "--restart").returncode == 0


def test_another_model_or_fewer_lines_are_refused_too(shell: Any) -> None:
    questions(shell, 3)
    shell(*RUN)
    other = ("run", "in.jsonl", "-m", "gpt-5", "-o", "out.jsonl")
    assert "line 1 is not what was answered" in shell.one_line(shell(*other))
    questions(shell, 2)
    assert "lines that in.jsonl has no longer" in shell.one_line(shell(*RUN))


def test_a_file_of_somebody_else_is_not_replaced_unasked(shell: Any) -> None:
    questions(shell, 2)
    shell.write("out.jsonl", "my notes")
    assert "out.jsonl:1: not written by" in shell.one_line(shell(*RUN))
    assert (shell.folder / "out.jsonl").read_text(encoding="utf-8") == "my notes\n"
    assert shell(*RUN, "--restart").returncode == 0


@pytest.mark.realtime
def test_ctrl_c_lets_calls_in_flight_finish_and_tells_how_to_go_on(slow_shell: Any) -> None:
    """Real time: a signal to a running process."""
    shell = slow_shell
    questions(shell, 100)
    process = shell.start(*RUN, "-c", "4")
    wait_for_answers(shell, process, 4)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)

    kept = len(results_in(shell.folder / "out.jsonl.journal"))
    assert process.returncode == 130, told
    assert f"stopped after {kept} of 100; the same command goes on from there" in told
    assert shell.sim.report().calls == kept, "a call in flight was not drained"
    assert shell(*RUN, "-c", "50").returncode == 0
    assert shell.sim.report().calls == 100


@pytest.mark.realtime
def test_a_second_ctrl_c_stops_at_once(shell: Any) -> None:
    """Real time: signals to a running process."""
    with SimServer(latency=Latency(first_token=Constant(30.0))) as stuck:
        shell.environment["OPENAI_BASE_URL"] = stuck.openai_base_url
        questions(shell, 5)
        process = shell.start(*RUN, "-c", "2")
        while len(stuck.calls()) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "2 calls in flight may finish within 30 s" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped after 0 of 5" in told
    assert shell.files() == ["in.jsonl"]


@pytest.mark.realtime
def test_a_drain_of_no_seconds_cancels_what_is_in_flight(slow_shell: Any) -> None:
    """Real time: a signal to a running process."""
    shell = slow_shell
    questions(shell, 50)
    process = shell.start(*RUN, "-c", "4", "--drain", "0", "--quiet")
    wait_for_answers(shell, process, 1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 143, told
    assert told.count("\n") == 1


@pytest.mark.realtime
@pytest.mark.parametrize("config", [None, "limits: {max_rpm: 6000}"])
def test_a_terminal_that_goes_away_lets_calls_in_flight_finish(
    slow_shell: Any, config: str | None
) -> None:
    """Real time: a terminal is closed while the command runs on it."""
    pty: Any = pytest.importorskip("pty")
    shell = slow_shell
    questions(shell, 100)
    if config:
        shell.write("llm-service.yaml", config)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *COMMAND, *RUN, "-c", "4"],
        cwd=shell.folder,
        env={**shell.environment, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    while len(results_in(shell.folder / "out.jsonl.journal")) < 4:
        assert process.poll() is None
        os.read(ours, 65536)
    os.close(ours)

    assert process.wait(timeout=30) == 129
    kept = len(results_in(shell.folder / "out.jsonl.journal"))
    assert shell.sim.report().calls == kept, "a call in flight was not drained"
    assert kept < 100


@needs_sighup
@pytest.mark.realtime
def test_hanging_up_without_a_configuration_file_drains_and_tells(slow_shell: Any) -> None:
    """Real time: signals to a running process; the second comes from the shell of a terminal that closes."""
    shell = slow_shell
    questions(shell, 100)
    process = shell.start(*RUN, "-c", "4", start_new_session=True)
    wait_for_answers(shell, process, 4)
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    assert "in flight may finish within 30 s" in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    _, told = process.communicate(timeout=30)

    kept = len(results_in(shell.folder / "out.jsonl.journal"))
    assert process.returncode == 129, told
    assert told == (
        f"llm-service: stopped after {kept} of 100; the same command goes on from there\n"
    )
    assert shell.sim.report().calls == kept, "a call in flight was not drained"


@needs_sighup
@pytest.mark.realtime
def test_hanging_up_with_a_configuration_file_has_it_read_again(slow_shell: Any) -> None:
    """Real time: a signal to a running process, which would wait an hour for its second call."""
    shell = slow_shell
    questions(shell, 10)
    shell.write("llm-service.yaml", "limits: {max_rpm: 1}")
    process = shell.start(*RUN, "-c", "4", start_new_session=True)
    wait_for_answers(shell, process, 1)
    shell.write("llm-service.yaml", "limits: {max_rpm: 6000}")
    process.send_signal(signal.SIGHUP)
    _, told = process.communicate(timeout=30)

    assert process.returncode == 0, told
    assert "SIGHUP: the configuration is read again" in told
    assert "10 of 10 answered" in told


@needs_sighup
@pytest.mark.realtime
def test_under_nohup_hanging_up_changes_nothing(slow_shell: Any) -> None:
    """Real time: a signal to a running process."""
    shell = slow_shell
    questions(shell, 20)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = shell.start(*RUN, "-c", "4")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for_answers(shell, process, 1)
    process.send_signal(signal.SIGHUP)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert "20 of 20 answered" in told


def test_a_resumed_run_tells_what_it_did_itself_and_what_was_done_before(shell: Any) -> None:
    questions(shell, 3)
    shell(*RUN)
    questions(shell, 5)
    answered, now, in_all = shell(*RUN).stderr.splitlines()
    assert answered == "llm-service: 5 of 5 answered"
    assert re.fullmatch(
        r"llm-service: now: 2 in \d+\.\d s \(\d+\.\d/s\); found done before: 3", now
    )
    assert in_all.startswith("llm-service: in all: 5 attempts, ")


@pytest.mark.realtime
def test_a_second_run_beside_the_first_is_refused(slow_shell: Any) -> None:
    """Real time: two processes."""
    shell = slow_shell
    questions(shell, 30)
    process = shell.start(*RUN, "-c", "1")
    wait_for_answers(shell, process, 1)
    second = shell(*RUN)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert "another run is writing it" in shell.one_line(second)


def test_a_run_with_failures_tells_the_reason_of_one_and_what_to_do(shell: Any) -> None:
    lines = ['{"user": "good"}', '{"user": "?", "model": "bad-model", "max_attempts": 1}']
    shell.write("in.jsonl", *lines)
    first = shell(*RUN).stderr.splitlines()
    again = shell(*RUN).stderr.splitlines()
    assert shell(*RUN, "--quiet").stderr.splitlines() == [again[-2]]
    for told, advice in (first[-2:], again[-2:]):
        assert told.startswith("llm-service: line 2: model_not_found: ")
        assert "bad-model" in told
        assert advice == "llm-service: --retry-failed sends again what failed"


def test_failures_can_be_sent_again_alone(shell: Any) -> None:
    lines = ['{"user": "good"}', '{"user": "?", "model": "bad-model", "max_attempts": 1}']
    shell.write("in.jsonl", *lines)
    assert shell(*RUN).returncode == 1
    before = shell.sim.report().calls

    done = shell(*RUN, "--retry-failed")

    assert (done.returncode, shell.sim.report().calls - before) == (1, 0)
    assert "failed: 1 model_not_found" in done.stderr
    assert len(results_in(shell.folder / "out.jsonl")) == 2


def test_order_finished_holds_the_same_answers(shell: Any) -> None:
    questions(shell, 20)
    assert shell(*RUN, "--order", "finished").returncode == 0
    found = answers(results_in(shell.folder / "out.jsonl"))
    assert sorted(found) == [(n + 1, f"question {n}") for n in range(20)]
    assert shell.files() == ["in.jsonl", "out.jsonl"]


def test_csv_columns_are_fields(shell: Any) -> None:
    shell.write(
        "in.csv",
        "user,system,max_output_tokens,sampling.temperature,metadata.id",
        '"two',
        'lines",Be brief.,20,0.5,a1',
        "capital of France?,,,,a2",
    )
    done = shell("run", "in.csv", "-m", "gpt-4o", "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    first, second = results_in(shell.folder / "out.jsonl")
    assert first["request"]["user"] == "two\nlines"
    assert first["request"]["sampling"]["temperature"] == 0.5
    assert first["request"]["metadata"]["id"] == "a1"
    assert (first["request"]["metadata"]["input_line"], first["request"]["max_output_tokens"]) == (
        2,
        20,
    )
    assert (second["content"], second["request"]["system"]) == ("Paris", None)
    assert second["request"]["metadata"]["input_line"] == 4


def test_a_template_makes_the_question_of_columns(shell: Any) -> None:
    shell.write("in.csv", "country;capital", "France;Paris", "Peru;Lima")
    template = "What is the capital of {country}?"
    done = shell(
        "run", "in.csv", "-m", "gpt-5-mini", "-o", "out.jsonl", "--template", template, "-q"
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = results_in(shell.folder / "out.jsonl")
    assert first["content"] == "Paris"
    assert second["content"] == "What is the capital of Peru?"
    assert second["request"]["metadata"]["capital"] == "Lima"


@pytest.mark.parametrize(
    ("lines", "options", "complaint"),
    [
        (["prompt", "x"], [], "in.csv:2: 'prompt' is no field of a request, such as"),
        (["usr", "x"], [], "in.csv:2: 'usr' is no field of a request (did you mean 'user'?)"),
        (["user,system", "a"], [], "in.csv:2: cells: got 1, expected 2 as in the header"),
        (["user,user", "a,b"], [], "in.csv:1: two columns are called 'user'"),
        (["user,", "a,b"], [], "in.csv:1: a column without a name"),
        (["user,seed", "a,x"], [], "in.csv:2: column 'seed': got 'x', expected JSON"),
        (["user", 'a"b"', '"c'], [], "in.csv:3: not CSV"),
        (["user"], [], "in.csv: holds no requests, expected a header and rows"),
        (["a", "x"], ["--template", "{b}"], "got '{b}', expected one of the columns a"),
        (["a", "x"], ["--template", "{a"], "--template: got '{a'"),
        (["a", "x"], ["--template", "{}"], "expected a column's name between the braces"),
        (["a", "x"], ["--template", "{a:d}"], "Unknown format code"),
        (["metadata,metadata.a,user", "1,2,x"], [], "expected a mapping"),
    ],
)
def test_a_bad_table_is_one_line_and_leaves_nothing(
    shell: Any, lines: list[str], options: list[str], complaint: str
) -> None:
    shell.write("in.csv", *lines)
    done = shell("run", "in.csv", "-m", "gpt-5-mini", "-o", "out.jsonl", *options)
    assert complaint in shell.one_line(done)
    assert shell.files() == ["in.csv"]


def test_without_a_default_every_line_names_its_model(shell: Any) -> None:
    shell.write(
        "llm-service.yaml",
        "operations: {small: {model: small}}",
        "models: {aliases: {small: gpt-5-nano}}",
    )
    named = ['{"user": "a", "model": "gpt-5-mini"}', '{"user": "b", "operation_name": "small"}']
    shell.write("in.jsonl", *named)
    done = shell("run", "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    results = results_in(shell.folder / "out.jsonl")
    assert [r["model"] for r in results] == ["gpt-5-mini", "gpt-5-nano"]

    shell.write("in.jsonl", *named, "", '{"user": "c"}', '{"user": "d"}')
    before = len(shell.sim.calls())
    done = shell("run", "in.jsonl", "-o", "new.jsonl")
    assert "in.jsonl:4: no model: name one in the line, give -m MODEL" in shell.one_line(done)
    assert len(shell.sim.calls()) == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--drain", value) for value in ("nan", "-1", "inf", "1e300", "soon")],
        *[("--poll", value) for value in ("nan", "-1", "inf", "0")],
    ],
)
def test_seconds_that_nothing_can_wait_for_are_refused(shell: Any, option: str, value: str) -> None:
    questions(shell, 1)
    line = shell.one_line(shell(*RUN, option, value))
    assert f"Invalid value for '{option}'" in line
    assert shell.files() == ["in.jsonl"]
