"""RedisGateSet: forks, and servers that are silent, restarted, empty, read-only or out of time."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from llm_core import GateTimeout
from llm_gates import ConcurrencyGate, RedisGateSet, RedisUnavailable, RpmGate, TpmGate
from llm_gates.redis_script import redis_client

Make = Callable[..., RedisGateSet]


def rpm(limit: int, seconds: float = 60) -> RpmGate:
    return RpmGate(limit, per_seconds=seconds, guard_seconds=0)


def passes(gates: RedisGateSet, *, timeout: float = 0.1, **options: Any) -> bool:
    try:
        with gates.admit_sync(timeout=timeout, **options):
            return True
    except GateTimeout:
        return False


def carried() -> None:
    """Wait in real time until corrections have travelled."""
    time.sleep(0.06)


class Server:
    """A Redis server of the test's own, which may be killed, emptied and paused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis_client(self.url)()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--save", "", "--bind", "127.0.0.1"]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
            except redis.RedisError:
                assert time.monotonic() < deadline
            else:
                return
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (package redis-server): no server to be killed")
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()
    server.client.close()


# ---------------------------------------------------------------------------- forks
def in_child(work: Callable[[], Any]) -> Any:
    """Run `work` in a forked child and return what it returns."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(work()))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    return answers.get()


@pytest.fixture
def prefix(redis_url: str) -> Iterator[str]:
    name = f"llm-gates-test-{uuid.uuid4().hex[:8]}"
    yield name
    cleaner = redis_client(redis_url)()
    for key in cleaner.scan_iter(match=f"{{{name}}}*"):
        cleaner.delete(key)
    cleaner.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestFork:
    def test_a_child_shares_the_limits_by_itself(self, redis_url: str, prefix: str) -> None:
        with RedisGateSet(rpm(3), prefix=prefix, url=redis_url) as gates:
            assert passes(gates)

            def work() -> list[bool]:
                return [passes(gates, timeout=1) for _ in range(2)]

            assert in_child(work) == [True, True]
            assert not passes(gates)

    def test_a_child_has_leases_of_its_own(self, redis_url: str, prefix: str) -> None:
        with RedisGateSet(ConcurrencyGate(3), prefix=prefix, url=redis_url) as gates:
            with gates.admit_sync():

                def work() -> tuple[int, int, bool]:
                    before = gates.snapshot().in_flight
                    with gates.admit_sync(timeout=2), gates.admit_sync(timeout=2):
                        used = gates.snapshot().limits[0].used
                        facts = before, int(used), passes(gates)
                    gates.close()
                    return facts

                assert in_child(work) == (0, 3, False)
            carried()
            assert passes(gates)

    def test_permits_of_the_parent_are_not_the_childs_to_give_back(
        self, redis_url: str, prefix: str
    ) -> None:
        limits = ConcurrencyGate(1), TpmGate(100, guard_seconds=0)
        with RedisGateSet(*limits, prefix=prefix, url=redis_url) as gates:
            permit = gates.admit_sync(tokens=100)
            permit.__enter__()

            def work() -> None:
                permit.settle(tokens=1)
                permit.cancel()
                permit.release()
                gates.close()

            in_child(work)
            assert not passes(gates, tokens=0)
            permit.release()
            assert passes(gates, tokens=0, timeout=2)
            assert not passes(gates, tokens=1)

    def test_a_child_is_safe_whatever_the_parent_was_doing(
        self, redis_url: str, prefix: str
    ) -> None:
        gate = rpm(1_000_000)
        stop = threading.Event()
        with RedisGateSet(gate, ConcurrencyGate(4), prefix=prefix, url=redis_url) as gates:

            def flood() -> None:
                while not stop.is_set():
                    passes(gates, timeout=5)

            threads = [threading.Thread(target=flood) for _ in range(4)]
            for thread in threads:
                thread.start()

            def work() -> bool:
                with gates:
                    return passes(gates, timeout=5)

            assert all(in_child(work) for _ in range(10))
            stop.set()
            for thread in threads:
                thread.join(10)

    def test_a_child_that_ends_gives_its_slots_back_at_once(
        self, redis_url: str, prefix: str
    ) -> None:
        with RedisGateSet(ConcurrencyGate(1), prefix=prefix, url=redis_url) as gates:

            def work() -> bool:
                return passes(gates, timeout=2)

            assert in_child(work)
            assert passes(gates, timeout=1)

    def test_a_child_knows_the_limit_that_was_changed(self, redis_url: str, prefix: str) -> None:
        gate = rpm(5)
        with RedisGateSet(gate, prefix=prefix, url=redis_url) as gates:
            gate.set_limit(2)
            assert passes(gates)

            def work() -> tuple[int, list[bool]]:
                before = gate.limit
                gate.set_limit(3)
                return before, [passes(gates) for _ in range(3)]

            assert in_child(work) == (2, [True, True, False])


def test_a_program_that_ends_gives_its_slots_back_at_once(redis_url: str, prefix: str) -> None:
    code = (
        "from llm_gates import ConcurrencyGate, RedisGateSet\n"
        f"gates = RedisGateSet(ConcurrencyGate(1), prefix={prefix!r}, url={redis_url!r})\n"
        "with gates.admit_sync():\n"
        "    pass\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
    with RedisGateSet(ConcurrencyGate(1), prefix=prefix, url=redis_url) as gates:
        assert passes(gates)


# -------------------------------------------------------------------------- silence
def test_a_server_that_accepts_and_never_answers_is_an_error_within_two_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with RedisGateSet(rpm(5), prefix="p", url=url) as gates:
            began = time.monotonic()
            with pytest.raises(RedisUnavailable, match="does not answer"):
                passes(gates, timeout=30)
            assert time.monotonic() - began < 2
            # From now on it is tried in the background, and nobody waits for that.
            began = time.monotonic()
            for _ in range(20):
                with pytest.raises(RedisUnavailable):
                    passes(gates, timeout=30)
            assert time.monotonic() - began < 0.5


def test_a_paused_server_makes_a_local_share_stand_in_until_it_answers(server: Server) -> None:
    with RedisGateSet(
        rpm(8), ConcurrencyGate(8), prefix="p", url=server.url, on_lost="local", local_share=0.5
    ) as gates:
        assert passes(gates)
        server.client.execute_command("CLIENT", "PAUSE", "2500", "ALL")
        began = time.monotonic()
        assert [passes(gates, timeout=2) for _ in range(5)] == [True] * 4 + [False]
        assert time.monotonic() - began < 2
        assert gates.lost
        deadline = time.monotonic() + 10
        while gates.lost and time.monotonic() < deadline:
            passes(gates)
            time.sleep(0.05)
        assert passes(gates, timeout=2)


def test_those_who_wait_for_long_are_told_when_the_server_is_killed(server: Server) -> None:
    with RedisGateSet(rpm(1), prefix="p", url=server.url) as gates:
        assert passes(gates)
        failed: list[bool] = []

        def wait() -> None:
            with pytest.raises(RedisUnavailable), gates.admit_sync():
                pass
            failed.append(True)

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        carried()
        server.kill()
        for thread in threads:
            thread.join(5)
        assert failed == [True] * 3


# ------------------------------------------------------------- a server without memory
def test_a_restart_between_two_calls_is_not_noticed(server: Server) -> None:
    with RedisGateSet(rpm(100), prefix="p", url=server.url) as gates:
        assert passes(gates)
        carried()
        server.kill()
        server.start()
        assert passes(gates)
        assert not gates.lost


def test_slots_that_are_held_count_again_after_a_restart(server: Server) -> None:
    one, two = (
        RedisGateSet(ConcurrencyGate(2), prefix="p", url=server.url, lease_seconds=1.2)
        for _ in range(2)
    )
    with one, two, one.admit_sync():
        server.kill()
        server.start()
        time.sleep(0.6)
        with two.admit_sync(timeout=1):
            assert not passes(two)


def test_an_emptied_server_learns_at_the_next_call_what_is_held(server: Server) -> None:
    with (
        RedisGateSet(ConcurrencyGate(2), prefix="p", url=server.url) as gates,
        gates.admit_sync(),
    ):
        server.client.flushall()
        with gates.admit_sync(timeout=1):
            carried()
            assert not passes(gates)


def test_a_server_that_has_lost_the_script_gets_it_again(server: Server) -> None:
    with RedisGateSet(rpm(100), prefix="p", url=server.url) as gates:
        assert passes(gates)
        server.client.script_flush()
        assert passes(gates)
        assert not gates.lost


def test_a_replica_that_refuses_to_write_is_a_lost_server(server: Server) -> None:
    with RedisGateSet(rpm(100), prefix="p", url=server.url) as gates:
        assert passes(gates)
        server.client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(RedisUnavailable, match="read only"):
            passes(gates)
        server.client.execute_command("REPLICAOF", "NO", "ONE")
        deadline = time.monotonic() + 5
        while gates.lost and time.monotonic() < deadline:
            time.sleep(0.02)
        assert passes(gates)


# ------------------------------------------------------------------------- the clock
async def test_a_clock_that_is_set_back_stops_nobody(make: Make) -> None:
    gates = make(rpm(5, 0.3), ConcurrencyGate(1))
    async with gates.admit():
        pass
    script = gates._turnstile.courier._script
    client = script.make_client()
    an_hour = 3_600_000_000
    # As if all that is there had been written an hour later than the clock says now.
    client.hincrby(f"{script.prefix}:clock", "latest", an_hour)
    for place in (1, 2):
        state = f"{script.prefix}:{place}:state"
        if client.exists(state):
            client.hincrby(state, "at", an_hour)
    client.close()
    began = time.monotonic()
    for _ in range(12):
        async with gates.admit(timeout=5):
            pass
    assert 0.55 <= time.monotonic() - began < 3


# ----------------------------------------------------------- answers that went missing
class Deaf:
    """A server that does what it is told, whose answers are lost on the way for a while."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.deaf = False

    def register_script(self, source: str) -> Callable[..., Any]:
        script = self.inner.register_script(source)

        def call(**words: Any) -> Any:
            answer = script(**words)
            if self.deaf:
                raise ConnectionError("the answer was lost")
            return answer

        return call

    def close(self) -> None:
        """Stay open: the inner client is the test's."""


async def test_corrections_whose_answer_was_lost_count_once(make: Make) -> None:
    watcher = make(TpmGate(100, guard_seconds=0))
    script = watcher._turnstile.courier._script
    client = script.make_client()
    line = Deaf(client)
    prefix = script.prefix.strip("{}")
    with RedisGateSet(TpmGate(100, guard_seconds=0), prefix=prefix, client=lambda: line) as gates:
        async with gates.admit(tokens=60) as first, gates.admit(tokens=40):
            line.deaf = True
            first.settle(tokens=30)
            await asyncio.sleep(0.3)
            assert gates.lost
            line.deaf = False
            await asyncio.sleep(0.6)
            assert not gates.lost
        with pytest.raises(GateTimeout):
            await watcher.admit(tokens=31, timeout=0.1).__aenter__()
        async with watcher.admit(tokens=30, timeout=1):
            pass
    client.close()


def test_a_thread_with_nothing_to_do_ends_and_begins_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_gates.courier._IDLE_SECONDS", 0.1)
    gates = make(rpm(100), TpmGate(100, guard_seconds=0))
    with gates.admit_sync(tokens=100) as permit:
        time.sleep(0.4)
        assert gates._turnstile.courier._thread is None
        permit.settle(tokens=10)
    carried()
    assert passes(gates, tokens=90, timeout=1)
