"""Signals to the command, wherever they meet it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from llm_service.cli.interrupts import on_interrupt

pytestmark = pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")


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
