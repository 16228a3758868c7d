"""Signals to the command, wherever they meet it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_core.testing import ScriptedProvider
from llm_service import BaseLLMService
from llm_service.cli.answering import Answering
from llm_service.cli.interrupts import Interrupted, interrupts_raised, on_interrupt
from llm_service.cli.journal import Journal
from llm_service.cli.request_file import RequestFile

pytestmark = pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")


RUN = ("run", "in.jsonl", "-m", "gpt-5-mini", "-o", "out.jsonl")
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


class Unheard(Exception):
    """A signal that would have ended the process."""


@pytest.fixture
def unheard() -> Iterator[None]:
    """Let a signal that the command leaves to the system end one test in place of all."""

    def fail(number: int, _: object) -> None:
        raise Unheard(signal.Signals(number).name)

    before = {name: signal.signal(signal.Signals[name], fail) for name in EXIT_CODES}
    yield
    for name, handler in before.items():
        signal.signal(signal.Signals[name], handler)


def signal_while_reading(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lines = RequestFile._lines

    def interrupted(self: RequestFile) -> Iterator[str]:
        for line in lines(self):
            yield line
            signal.raise_signal(signal.Signals[name])

    monkeypatch.setattr(RequestFile, "_lines", interrupted)


def signal_while_writing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write = Journal._write_in_order

    def interrupted(self: Journal, target: Path) -> None:
        write(self, target)
        signal.raise_signal(signal.Signals[name])

    monkeypatch.setattr(Journal, "_write_in_order", interrupted)


def interrupt_this_thread() -> None:
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@pytest.mark.realtime
async def test_an_interrupt_wakes_a_waiting_loop_whichever_thread_the_system_gives_it_to() -> None:
    """Real time: a signal to a thread."""
    told = asyncio.Event()
    numbers = []

    def tell(number: signal.Signals) -> None:
        numbers.append(number)
        told.set()

    began = time.monotonic()
    with on_interrupt(tell):
        threading.Thread(target=interrupt_this_thread).start()
        # Nothing else wakes the loop before this time is over.
        await asyncio.wait({asyncio.ensure_future(told.wait())}, timeout=10)
    assert numbers == [signal.SIGINT]
    assert time.monotonic() - began < 5


async def test_the_handlers_of_before_are_back_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with on_interrupt(lambda number: None):
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.realtime
@pytest.mark.parametrize("reloads", [True, False])
async def test_hanging_up_reloads_where_there_is_something_to_reload(reloads: bool) -> None:
    """Real time: a signal to this process, whose terminal, if it has one, is still there."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    reload = (lambda: heard.put_nowait("reload")) if reloads else None
    with on_interrupt(lambda number: heard.put_nowait(number.name), reload=reload):
        os.kill(os.getpid(), signal.SIGHUP)
        told = await asyncio.wait_for(heard.get(), 10)
    assert told == ("reload" if reloads else "SIGHUP")


async def test_a_signal_that_is_ignored_as_under_nohup_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with on_interrupt(lambda number: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("unheard")
@pytest.mark.parametrize("name", EXIT_CODES)
def test_a_run_that_is_stopped_while_it_reads_says_so(
    shell: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shell.write("in.jsonl", '{"user": "a"}', '{"user": "b"}')
    before = shell.sim.report().calls
    with monkeypatch.context() as patched:
        signal_while_reading(patched, name)
        done = shell(*RUN)
    assert done.returncode == EXIT_CODES[name]
    assert done.stderr == (
        "llm-service: stopped while reading in.jsonl, before anything was sent; "
        "the same command starts again\n"
    )
    assert shell.files() == ["in.jsonl"]
    assert shell.sim.report().calls == before
    assert shell(*RUN).returncode == 0


@pytest.mark.usefixtures("unheard")
@pytest.mark.parametrize("name", EXIT_CODES)
@pytest.mark.parametrize("option", ["", "--restart"])
def test_a_run_that_is_stopped_while_it_writes_says_how_to_go_on(
    shell: Any, monkeypatch: pytest.MonkeyPatch, name: str, option: str
) -> None:
    shell.write("in.jsonl", '{"user": "a"}', '{"user": "b"}')
    with monkeypatch.context() as patched:
        signal_while_writing(patched, name)
        done = shell(*RUN, *option.split())
    calls = shell.sim.report().calls
    assert done.returncode == EXIT_CODES[name]
    how = f"the same command{' without --restart' if option else ''} goes on from there"
    assert done.stderr == f"llm-service: stopped after 2 of 2, while writing out.jsonl; {how}\n"
    assert shell.files() == ["in.jsonl", "out.jsonl.journal"]
    assert shell(*RUN).returncode == 0
    assert shell.sim.report().calls == calls
    assert shell.files() == ["in.jsonl", "out.jsonl"]


@pytest.mark.usefixtures("unheard")
def test_hanging_up_a_run_that_has_a_configuration_file_stops_no_reading(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.write("in.jsonl", '{"user": "a"}')
    shell.write("llm-service.yaml", "limits: {max_rpm: 6000}")
    signal_while_reading(monkeypatch, "SIGHUP")
    assert shell(*RUN).returncode == 0


@pytest.mark.usefixtures("unheard")
async def test_what_is_answered_already_is_skipped_only_until_an_interrupt() -> None:
    read = 0

    def answered() -> Iterator[Any]:
        nonlocal read
        for read in range(1, 100_001):
            if read == 10:
                signal.raise_signal(signal.SIGTERM)
            yield read

    journal: Any = SimpleNamespace(index=SimpleNamespace(answers=lambda item: True))
    answering = Answering(
        BaseLLMService(model="m", provider=ScriptedProvider([]), telemetry="none"),
        answered(),
        journal,
        in_flight=1,
        drain_seconds=30,
        on_result=lambda: None,
        say=lambda text: None,
    )
    await answering.run()
    assert answering.stopped_by == signal.SIGTERM
    assert read < 10_000


@pytest.mark.usefixtures("unheard")
def test_the_shells_own_hangup_does_not_cut_the_closing_words_short() -> None:
    with interrupts_raised():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Unheard):
        signal.raise_signal(signal.SIGTERM)


def test_a_pipe_as_the_file_is_refused_as_it_can_be_read_but_once(shell: Any) -> None:
    os.mkfifo(shell.folder / "in.jsonl")
    assert "a device or pipe" in shell.one_line(shell(*RUN))
