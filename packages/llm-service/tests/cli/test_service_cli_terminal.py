"""What a person at a terminal sees: answers as they come, a bar, a prompt, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llm_service.cli import progress
from llm_service.cli.tally import Tally
from llm_sim import Latency, SimServer
from llm_sim.latency import Constant

pty: Any = pytest.importorskip("pty")


class Terminal:
    """A command on a terminal of 80 columns; everything it shows is kept."""

    def __init__(self, shell: Any, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**shell.environment, "TERM": "xterm", "LINES": "24"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llm_service", *arguments],
            cwd=shell.folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def read_until(self, *texts: str, seconds: float = 30.0) -> None:
        """Read until `texts` were shown, one after the other."""
        pattern = ".*".join(map(re.escape, texts))
        end = time.monotonic() + seconds
        while not re.search(pattern, self.shown, re.DOTALL):
            assert time.monotonic() < end, self.shown
            assert self._read(), f"{texts!r} were never shown: {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        while self._read():
            pass
        code = self.process.wait(timeout=30)
        os.close(self._ours)
        return code

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], 30)
        try:
            more = os.read(self._ours, 65536) if ready else b""
        except OSError:  # Linux says so when the other side is closed
            more = b""
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", more.decode(errors="replace"))
        return bool(more)


@pytest.fixture
def slow_shell(shell: Any) -> Iterator[Any]:
    with SimServer(latency=Latency(first_token=Constant(0.1))) as slow:
        shell.environment["OPENAI_BASE_URL"] = slow.openai_base_url
        shell.sim = slow
        yield shell


def test_ask_streams_and_says_what_it_took(shell: Any) -> None:
    terminal = Terminal(shell, "ask", "capital of France?", "-m", "gpt-5-mini")
    assert terminal.end() == 0
    answer, footer = terminal.shown.split("\r\n")[:2]
    assert answer == "Paris"
    assert re.fullmatch(r"gpt-5-mini · \d+ tokens in, 1 out · \d+\.\d s · \$0\.0000\d\d", footer)
    assert shell.sim.calls()[-1].streamed


def test_run_shows_a_bar_with_rate_tokens_and_cost(slow_shell: Any) -> None:
    lines = [json.dumps({"user": f"question {n}"}) for n in range(40)]
    slow_shell.write("in.jsonl", *lines)
    terminal = Terminal(slow_shell, "run", "in.jsonl", "-m", "gpt-5-mini", "-o", "o", "-c", "4")
    assert terminal.end() == 0
    assert re.search(r"\d+/40 +\d+\.\d/s +\S+ +\d+ tok, \$0\.000\d+", terminal.shown)
    assert "40 of 40 answered" in terminal.shown


@pytest.mark.realtime
def test_a_conversation_at_a_terminal(shell: Any) -> None:
    """Real time: a terminal, and Ctrl-C while an answer comes."""
    rules = [{"contains": "slow", "reply": {"text": "late", "delay_seconds": 30}}]
    with SimServer({"rules": rules, "default": "echo"}) as sim:
        shell.environment["OPENAI_BASE_URL"] = sim.openai_base_url
        terminal = Terminal(shell, "chat", "-m", "gpt-5-mini")
        terminal.read_until("/exit ends", "> ")
        terminal.type("slow\n")
        while not sim.calls():
            time.sleep(0.02)
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("the turn is forgotten", "> ")
        terminal.type("again\n")
        terminal.read_until("again\r\nagain", "tokens in", "> ")
        terminal.type("\x04")
        assert terminal.end() == 0
        assert len(sim.calls()[-1].body["input"]) == 1


def test_without_a_terminal_a_line_tells_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    tally = Tally()
    with progress.run_progress(tally, 40, quiet=False) as update:
        tally.results = tally.succeeded = 10
        update()
        assert capsys.readouterr().err == ""
        now[0] += progress.LINE_SECONDS
        tally.results = 20
        update()
        update()
    assert capsys.readouterr().err == "llm-service: 20 of 40, 0.7/s, 30 s left, 0 tok, 10 failed\n"
