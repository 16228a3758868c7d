"""Looking that ends at Ctrl-C, whatever it waits for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from typing import Any

import pytest

from llm_service.cli.letting_go import run_letting_go


def test_what_the_work_returns_and_raises_arrives() -> None:
    async def add(*numbers: int) -> int:
        return await asyncio.to_thread(sum, numbers)

    async def fail() -> None:
        await asyncio.to_thread(lambda: 1 / 0)

    async def time_out() -> None:
        raise TimeoutError("of the work, not of the wait")

    assert run_letting_go(lambda: add(1, 2)) == 3
    with pytest.raises(ZeroDivisionError):
        run_letting_go(fail)
    with pytest.raises(TimeoutError, match="of the work"):
        run_letting_go(time_out)


@pytest.mark.realtime
@pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")
def test_an_interrupt_waits_neither_for_the_loop_nor_for_its_threads() -> None:
    """Real time: a signal to this process."""
    free = threading.Event()
    began = threading.Barrier(3)

    def hold() -> None:
        began.wait()
        free.wait(30)

    async def work() -> None:
        thread = asyncio.ensure_future(asyncio.to_thread(hold))
        # Holds the loop, as an import does.
        await asyncio.sleep(0)
        hold()
        await thread

    def interrupt() -> None:
        began.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    since = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_letting_go(work)
        assert time.monotonic() - since < 10
    finally:
        free.set()


@pytest.mark.realtime
@pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")
@pytest.mark.parametrize("command", ["doctor", "models"])
def test_a_command_that_looks_ends_at_ctrl_c(shell: Any, command: str) -> None:
    """Real time: a signal to a process that waits for a server which takes calls and never answers."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        shell.environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        process = shell.start(command)
        caller, _ = silent.accept()
        since = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
        caller.close()
    assert process.returncode == 130
    assert told.endswith("llm-service: interrupted\n")
    # The five seconds of a check would be over later; the rest is for a machine that is busy.
    assert time.monotonic() - since < 3
