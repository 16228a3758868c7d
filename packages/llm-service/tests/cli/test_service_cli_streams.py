"""Standard streams that are full, closed or gone, and outputs that are no files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_service.cli.tally import Tally, shown_duration

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX sets the streams up")

ASK = "ask hello -m gpt-5-mini"
CLOSED = "llm-service: standard output: Bad file descriptor\n"
COMMANDS = ["models --offline", "stats results.jsonl", ASK, f"{ASK} --stream", "--help"]
"""Tables by rich, texts whole and in pieces, and what click prints by itself."""


def sh(shell: Any, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which $LLM is the command."""
    (shell.folder / "results.jsonl").write_text('{"success": true}\n', encoding="utf-8")
    return subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=shell.folder,
        env={**shell.environment, "LLM": f"{sys.executable} -m llm_service"},
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_gone_is_told_by_the_exit_code_alone(shell: Any, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "llm_service", *command.split()],
            cwd=_with_results(shell),
            env=shell.environment,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full disk at hand")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_behind_stdout_is_one_line(shell: Any, command: str) -> None:
    done = sh(shell, f"$LLM {command} > /dev/full")
    assert (done.returncode, done.stderr) == (
        2,
        "llm-service: standard output: No space left on device\n",
    )


@pytest.mark.parametrize(
    ("script", "code", "out", "told"),
    [
        (f"$LLM {ASK} <&-", 0, "hello\n", ""),
        (f"$LLM {ASK} >&-", 2, "", CLOSED),
        (f"$LLM {ASK} --stream >&-", 2, "", CLOSED),
        ("$LLM models --offline >&-", 2, "", CLOSED),
        ("$LLM stats results.jsonl >&-", 2, "", CLOSED),
        ("$LLM stats --json results.jsonl >&-", 2, "", CLOSED),
        ("$LLM --help >&-", 2, "", CLOSED),
        ("$LLM chat -m gpt-5-mini </dev/null >&-", 0, "", ""),
        ("$LLM run in.jsonl -m gpt-5-mini -o out.jsonl >&-", 0, "", "1 of 1 answered"),
        ("$LLM chat -m gpt-5-mini <&-", 0, "", ""),
        ("$LLM ask -m gpt-5-mini <&-", 2, "", "no question: "),
        ("$LLM say <&-", 2, "", "no text: "),
        ("$LLM stats - <&-", 0, "calls", ""),
        ("$LLM ask hello -m nobody 2>&-", 2, "", ""),
    ],
)
def test_of_streams_that_are_closed_only_an_answer_fails_that_nobody_gets(
    shell: Any, script: str, code: int, out: str, told: str
) -> None:
    shell.write("in.jsonl", '{"user": "hello"}')
    done = sh(shell, script)
    assert done.returncode == code, done
    assert done.stdout.startswith(out)
    assert "Traceback" not in done.stderr
    assert told in done.stderr


def test_schemas_images_and_configurations_may_come_out_of_pipes(shell: Any) -> None:
    shell.write("llm.yaml", "models: {default: gpt-5-mini}")
    shell.write("schema.json", '{"type": "object", "properties": {}}')
    done = subprocess.run(
        [
            "/bin/bash",
            "-c",
            f"{sys.executable} -m llm_service ask '{{}}' --config <(cat llm.yaml) --schema <(cat schema.json)",
        ],
        cwd=shell.folder,
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "{}\n"), done


def test_what_a_terminal_has_no_letters_for_is_printed_as_an_escape(shell: Any) -> None:
    shell.environment["PYTHONIOENCODING"] = "latin-1"
    done = sh(shell, "$LLM ask 'é € 1' -m gpt-5-mini | od -An -c")
    assert done.stdout.split() == ["351", "\\", "u", "2", "0", "a", "c", "1", "\\n"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&1 | true"])
def test_a_run_does_not_stop_because_nobody_reads_how_it_goes(shell: Any, stderr: str) -> None:
    shell.write("in.jsonl", '{"user": "hello"}')
    sh(shell, f"$LLM run in.jsonl -m gpt-5-mini -o out.jsonl {stderr}")
    assert shell.files() == ["in.jsonl", "out.jsonl", "results.jsonl"]


def test_an_output_that_is_no_file_is_refused_and_left_as_it_is(shell: Any) -> None:
    shell.write("in.jsonl", '{"user": "hello"}')
    pipe = shell.folder / "pipe"
    os.mkfifo(pipe)
    done = shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "pipe")
    assert shell.one_line(done) == (
        "llm-service: pipe: a device or pipe, expected the name of a file"
    )
    assert pipe.is_fifo()
    assert shell.files() == ["in.jsonl", "pipe"]


def test_of_a_link_the_file_is_written_that_it_leads_to(shell: Any) -> None:
    shell.write("in.jsonl", '{"user": "hello"}')
    (shell.folder / "far").mkdir()
    (shell.folder / "out.jsonl").symlink_to("far/answers.jsonl")
    assert shell("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl").returncode == 0
    assert (shell.folder / "out.jsonl").is_symlink()
    assert "hello" in (shell.folder / "far" / "answers.jsonl").read_text(encoding="utf-8")


def test_a_disk_that_becomes_full_is_one_line_and_loses_nothing(shell: Any) -> None:
    lines = [f'{{"user": "{"long " * 400}{number}"}}' for number in range(40)]
    shell.write("in.jsonl", *lines)
    run = "run in.jsonl -m gpt-5-mini -o out.jsonl -c 1"
    # No file may grow beyond 64 blocks of 512 or 1024 bytes.
    # A coverage tool could not write its own file either, and would say so.
    full = sh(shell, f"ulimit -f 64; unset COVERAGE_PROCESS_CONFIG; $LLM {run}")
    before = shell.sim.report().calls
    assert full.returncode == 2
    assert full.stderr == (
        "llm-service: out.jsonl: cannot be written: File too large; the same command goes on from there\n"
    )
    done = shell(*run.split())
    assert done.returncode == 0
    assert "found done before: " in done.stderr
    assert shell.sim.report().calls - before < 40


def test_the_lines_of_totals_fit_80_columns_however_much_was_done() -> None:
    tally = Tally()
    usage = {"input_tokens": 987_654_321, "output_tokens": 123_456_789}
    cost = {"amount": "12345.67", "currency": "USD", "status": "priced"}
    tally.add({"success": True, "usage": usage, "cost": cost, "attempts": [{}]})
    tally.add({"success": True, "usage": {"input_tokens": 1}})
    tally.results = tally.succeeded = tally.attempts = 1_000_000
    tally.failures["model_not_found"] = 3
    for before in (0, 400_000):
        lines = tally.lines(1_000_000, seconds=123_456.0, before=before)
        assert max(len(f"llm-service: {line}") for line in lines) <= 80
        assert lines[-1] == "failed: 3 model_not_found"
        assert "(4.9/s)" in lines[1] if before else "(8.1/s)" in lines[0]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (99.9, "99.9 s"), (100, "1 min 40 s"), (123_456, "34 h 17 min")],
)
def test_durations_are_told_as_people_say_them(seconds: float, shown: str) -> None:
    assert shown_duration(seconds) == shown


def _with_results(shell: Any) -> Path:
    (shell.folder / "results.jsonl").write_text('{"success": true}\n', encoding="utf-8")
    folder: Path = shell.folder
    return folder
