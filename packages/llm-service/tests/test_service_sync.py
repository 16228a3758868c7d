"""Sync callers: scripts, threads, notebooks, nested calls, forks."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llm_core import CacheMode, CachePolicy, ErrorType, StreamResult
from llm_core.testing import OpenGate, RecordingTelemetry, ScriptedProvider
from llm_service import BaseLLMService, Limits, MemoryResponseCache
from llm_sim import SimServer


def echo_service(**options: Any) -> BaseLLMService:
    return BaseLLMService(model="m", provider=ScriptedProvider(), **options)


def test_a_script_calls_without_a_loop() -> None:
    with echo_service() as service:
        assert service.generate_sync("hello").content == "hello"


async def test_a_notebook_calls_although_its_loop_is_running() -> None:
    service = echo_service()
    assert service.generate_sync("hello").content == "hello"
    service.close()


def test_many_threads_share_one_service_and_its_limit() -> None:
    running = most = 0
    lock = threading.Lock()

    async def answer(request: Any) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        await asyncio.sleep(0.001)
        with lock:
            running -= 1
        return str(request.messages[-1].text)

    provider = ScriptedProvider([answer])
    with (
        BaseLLMService(model="m", provider=provider, max_concurrent_requests=2) as service,
        ThreadPoolExecutor(8) as pool,
    ):
        texts = [str(n) for n in range(40)]
        results = list(pool.map(service.generate_sync, texts))
    assert [r.content for r in results] == texts
    assert most == 2


def test_a_sync_call_inside_an_async_operation_does_not_deadlock() -> None:
    class Nested(BaseLLMService):
        async def outer(self) -> str:
            inner = self.generate_sync("inner")
            return f"outer of {inner.content}"

        def outer_sync(self) -> str:
            return self._portal.run(self.outer)

    with Nested(model="m", provider=ScriptedProvider()) as service:
        assert service.outer_sync() == "outer of inner"


def test_a_sync_call_that_would_wait_for_a_slot_of_the_loop_that_it_blocks_fails_at_once() -> None:
    started, over = threading.Event(), asyncio.Event()

    async def hold_the_slot(_: Any) -> str:
        started.set()
        await over.wait()
        return "x"

    provider = ScriptedProvider([hold_the_slot])
    with BaseLLMService(model="m", provider=provider, max_concurrent_requests=1) as service:

        async def nested() -> Any:
            result = service.generate_sync("inner")
            over.set()
            return result

        with ThreadPoolExecutor(1) as pool:
            outer = pool.submit(service.generate_sync, "outer")
            assert started.wait(5)
            inner = service.run_sync(nested)
            assert outer.result(5).success
    assert inner.error.type is ErrorType.GATE_TIMEOUT
    assert "await the async method there" in inner.error.message


def test_a_sync_call_does_not_wait_for_a_slot_of_its_operation_either() -> None:
    def ask_again(_: Any) -> str:
        return str(service.generate_sync("inner", operation_name="narrow").error.type)

    narrow = {"operation:narrow": Limits(max_concurrent_requests=1)}
    provider = ScriptedProvider([ask_again])
    with BaseLLMService(model="m", provider=provider, limits=narrow) as service:
        result = service.generate_sync("outer", operation_name="narrow", deadline_seconds=20)
    assert result.content == "gate_timeout"
    assert result.timestamps.total_seconds < 10


def test_a_provider_that_calls_its_service_by_a_sync_method_gets_a_failure() -> None:
    def ask_again(_: Any) -> str:
        return str(service.generate_sync("inner").error.type)

    provider = ScriptedProvider([ask_again])
    with BaseLLMService(model="m", provider=provider, max_concurrent_requests=1) as service:
        assert service.generate_sync("outer").content == "gate_timeout"


def test_a_pipeline_step_may_call_its_service_by_a_sync_method() -> None:
    def ask_again(text: str) -> str:
        return f"{text}, {service.generate_sync('inner').content}"

    with echo_service(max_concurrent_requests=1) as service:
        result = service.generate_sync("outer", pipeline=[ask_again])
    assert result.content == "outer, inner"


def test_a_step_that_asks_the_same_again_does_not_wait_for_itself() -> None:
    keep = CachePolicy(mode=CacheMode.USE)

    def ask_again(_: Any) -> str:
        return str(service.generate_sync("?", cache=keep).success) if provider.calls < 2 else "x"

    class Counting(ScriptedProvider):
        @property
        def calls(self) -> int:
            return len(self.requests)

    provider = Counting([ask_again])
    with BaseLLMService(model="m", provider=provider, cache=MemoryResponseCache()) as service:
        assert service.generate_sync("?", cache=keep).content == "True"


async def test_a_coroutine_that_blocks_its_own_loop_gets_a_failure_too() -> None:
    over = asyncio.Event()

    async def hold_the_slot(_: Any) -> str:
        await over.wait()
        return "x"

    provider = ScriptedProvider([hold_the_slot])
    service = BaseLLMService(model="m", provider=provider, max_concurrent_requests=1)
    outer = asyncio.create_task(service.generate("outer"))
    await asyncio.sleep(0)
    inner = service.generate_sync("inner")
    over.set()
    assert (await outer).success
    assert inner.error.type is ErrorType.GATE_TIMEOUT
    await service.aclose()


async def test_a_sync_call_that_stops_others_waits_at_the_gates_for_90_seconds_at_most() -> None:
    over, gate = asyncio.Event(), OpenGate()

    async def answer(request: Any) -> str:
        if request.messages[-1].text == "outer":
            await over.wait()
        return "x"

    service = BaseLLMService(model="m", provider=ScriptedProvider([answer]), gate=gate)
    service.generate_sync("alone")
    outer = asyncio.create_task(service.generate("outer"))
    await asyncio.sleep(0)
    service.generate_sync("inner")
    service.generate_sync("inner", deadline_seconds=5)
    service.generate_sync("inner", deadline_seconds=500)
    over.set()
    await outer
    await service.aclose()
    *others, short, long = [permit.timeout for permit in gate.permits]
    assert others == [None, None, 90.0]
    assert short is not None
    assert short <= 5
    assert long == 90.0


def test_a_stream_inside_a_call_that_holds_the_only_slot_gets_a_failure() -> None:
    def ask_again(_: Any) -> str:
        last = list(service.stream_sync("inner"))[-1]
        assert isinstance(last, StreamResult)
        return str(last.result.error.type)

    provider = ScriptedProvider([ask_again])
    with BaseLLMService(model="m", provider=provider, max_concurrent_requests=1) as service:
        assert service.generate_sync("outer").content == "gate_timeout"


@pytest.mark.parametrize(
    ("function", "error"), [(lambda: 1 / 0, ZeroDivisionError), (int, TypeError)]
)
def test_what_makes_no_coroutine_is_raised_to_the_caller(function: Any, error: type) -> None:
    with echo_service() as service:
        with pytest.raises(error):
            service.run_sync(function)
        assert service.generate_sync("still works").success


def test_context_variables_are_carried_over() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    seen = []

    def answer(_: Any) -> str:
        seen.append(user.get())
        return "x"

    user.set("anna")
    with BaseLLMService(model="m", provider=ScriptedProvider([answer])) as service:
        service.generate_sync("?")
    assert seen == ["anna"]


def test_closing_closes_provider_and_telemetry_and_may_be_repeated() -> None:
    provider, telemetry = ScriptedProvider(), RecordingTelemetry()
    service = BaseLLMService(model="m", provider=provider, telemetry=telemetry)
    service.generate_sync("x")
    service.close()
    service.close()
    assert provider.closed
    assert telemetry.closed
    assert not [t for t in threading.enumerate() if t.name == "llm-service portal"]


async def test_async_with_closes_too() -> None:
    provider = ScriptedProvider()
    async with BaseLLMService(model="m", provider=provider) as service:
        assert (await service.generate("x")).content == "x"
    assert provider.closed


def test_a_service_that_nobody_closed_lets_the_program_end_quietly() -> None:
    program = (
        "from llm_core.testing import ScriptedProvider\n"
        "from llm_service import BaseLLMService\n"
        "service = BaseLLMService(model='m', provider=ScriptedProvider())\n"
        "print(service.generate_sync('hello').content)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_worker_starts_a_loop_of_its_own() -> None:
    program = (
        "import os, sys\n"
        "from llm_core.testing import ScriptedProvider\n"
        "from llm_service import BaseLLMService\n"
        "service = BaseLLMService(model='m', provider=ScriptedProvider())\n"
        "service.generate_sync('parent')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    good = service.generate_sync('child').content == 'child'\n"
        "    os._exit(0 if good else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0


QUIET_PROGRAMS = {
    "a stream that was not read to its end": """
events = service.stream_sync("one two three four")
next(events)
""",
    "a stream that was not read to its end before its service was closed": """
events = service.stream_sync("one two three four")
next(events)
service.close()
""",
    "a stream that is garbage on the loop's own thread": """
import gc

class Box: pass

async def collect():
    gc.collect()

box = Box()
box.itself = box
box.events = service.stream_sync("one two three four")
next(box.events)
del box
service.run_sync(collect)
assert service.generate_sync("still works").success
""",
}


@pytest.mark.parametrize("program", QUIET_PROGRAMS.values(), ids=QUIET_PROGRAMS)
def test_an_abandoned_stream_neither_hangs_nor_warns(program: str) -> None:
    start = (
        "from llm_core.testing import ScriptedProvider\n"
        "from llm_service import BaseLLMService\n"
        "service = BaseLLMService(model='m', provider=ScriptedProvider())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", start + program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("end", ["", "service.close()", "asyncio.run(service.aclose())"])
def test_event_loops_and_sync_calls_in_turn_leave_nothing_open(end: str) -> None:
    program = f"""
import asyncio, sys
from llm_providers import OpenAIProvider
from llm_service import BaseLLMService

service = BaseLLMService(model="m", provider=OpenAIProvider("key", sys.argv[1]))
for _ in range(2):
    assert asyncio.run(service.generate("?")).success
    assert service.generate_sync("?").success
{end}
"""
    with SimServer() as sim:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, sim.openai_base_url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_sync_stream_takes_what_is_there_in_one_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    with BaseLLMService(model="m", provider=ScriptedProvider([" ".join(["w"] * 500)])) as service:
        trips = 0
        begin = service._portal._begin

        def counted(loop: Any, function: Any) -> Any:
            nonlocal trips
            trips += 1
            return begin(loop, function)

        monkeypatch.setattr(service._portal, "_begin", counted)
        events = list(service.stream_sync("?"))
    assert len(events) > 500
    assert 0 < trips < 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_worker_has_the_slots_that_its_parent_uses() -> None:
    program = """
import asyncio, os, sys
from llm_core.testing import ScriptedProvider
from llm_service import BaseLLMService

async def answer(request):
    if request.messages[-1].text == "hang":
        await asyncio.Event().wait()
    return "x"

async def main():
    provider = ScriptedProvider([answer])
    service = BaseLLMService(model="m", provider=provider, max_concurrent_requests=1)
    call = asyncio.create_task(service.generate("hang"))
    await asyncio.sleep(0.01)
    assert len(service._in_flight) == 1
    child = os.fork()
    if child == 0:
        good = service.snapshot().in_flight == 0
        good = good and service.generate_sync("?", deadline_seconds=5).success
        os._exit(0 if good else 1)
    status = os.waitpid(child, 0)[1]
    assert service.snapshot().in_flight == 1
    await service.aclose(drain_seconds=0)
    await call
    return os.waitstatus_to_exitcode(status)

sys.exit(asyncio.run(main()))
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize(
    "gate",
    [
        "ConcurrencyGate(1)",
        "GateSet(RpmGate(2), TpmGate(10_000), ConcurrencyGate(1))",
        "KeyedGates(lambda key: ConcurrencyGate(1), parent=RpmGate(2))",
    ],
)
def test_a_forked_worker_has_the_slots_of_a_gate_of_the_callers_own(gate: str) -> None:
    program = f"""
import os, signal, sys, threading
from llm_core.testing import ScriptedProvider
from llm_gates import ConcurrencyGate, GateSet, KeyedGates, RpmGate, TpmGate
from llm_service import BaseLLMService

called, done = threading.Event(), threading.Event()

async def answer(request):
    if request.messages[-1].text == "hang":
        called.set()
        done.wait()
    return "x"

service = BaseLLMService(model="m", provider=ScriptedProvider([answer]), gate={gate})
caller = threading.Thread(target=service.generate_sync, args=["hang"])
caller.start()
called.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    good = service.snapshot().in_flight == 0
    good = good and service.generate_sync("?", deadline_seconds=5).success
    state = service.snapshot().gates["*"]
    good = good and state.in_flight == 0
    sent = [limit.used for limit in state.limits if limit.name == "rpm"]
    os._exit(0 if good and sent in ([], [2]) else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
good = service.snapshot().gates["*"].in_flight == 1
done.set()
caller.join()
good = good and service.generate_sync("?").success
sys.exit(status or not good)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program], timeout=40, check=False
    )
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_worker_cannot_read_on_where_its_parent_was_reading() -> None:
    program = """
import os, signal, sys
from llm_core.testing import ScriptedProvider
from llm_service import BaseLLMService

service = BaseLLMService(model="m", provider=ScriptedProvider())
events = service.stream_sync("one two three")
next(events)
child = os.fork()
if child == 0:
    signal.alarm(10)
    try:
        list(events)
    except RuntimeError as error:
        good = "begun before a fork" in str(error) and service.generate_sync("?").success
        os._exit(0 if good else 1)
    os._exit(2)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(status or list(events)[-1].kind != "result")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program], timeout=40, check=False
    )
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_worker_knows_the_limits_of_an_operation_and_what_was_sent() -> None:
    program = """
import os, sys
from llm_core.testing import ScriptedProvider
from llm_service import BaseLLMService, Limits

service = BaseLLMService(
    model="m", provider=ScriptedProvider(), max_rpm=7, limits={"operation:sum": Limits(max_rpm=5)}
)
assert service.generate_sync("x", operation_name="sum").success
child = os.fork()
if child == 0:
    gates = service.snapshot().gates
    used = {name: (gate.limits[0].used, gate.limits[0].limit) for name, gate in gates.items()}
    service.set_rate_limits(max_rpm=2)
    good = service.generate_sync("x").success
    slow = service.generate_sync("x", deadline_seconds=0.2)
    os._exit(0 if used == EXPECTED and good and not slow.success else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    expected = "{'scripted/m': (1, 7), 'operation:sum': (1, 5)}"
    done = subprocess.run(
        [sys.executable, "-c", program.replace("EXPECTED", expected)], timeout=40, check=False
    )
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_worker_that_is_forked_while_a_thread_holds_every_lock_does_not_hang() -> None:
    program = """
import gc, os, signal, sys, threading
from llm_core import CacheMode, CachePolicy, ErrorInfo, ErrorType
from llm_core.testing import ScriptedProvider
from llm_metrics import PriceBook
from llm_service import BaseLLMService, HedgePolicy, MemoryResponseCache, RetryPolicy
from llm_providers import OpenAIProvider, ProviderRegistry

busy = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
registry = ProviderRegistry({
    "scripted": ScriptedProvider([busy, "x"]),
    "openai": OpenAIProvider(api_key="k"),
})
service = BaseLLMService(
    model="scripted/m", registry=registry, max_rpm=1000, cache=MemoryResponseCache(), hedge=HedgePolicy(),
    retry=RetryPolicy(initial_seconds=0), price_book=PriceBook(), telemetry="none",
)
keep = CachePolicy(mode=CacheMode.USE)
assert service.generate_sync("parent", cache=keep).success

kinds = type(threading.Lock()), type(threading.RLock())
own = [
    thing for thing in gc.get_objects()
    if type(thing).__module__.startswith("llm_")
]
slots = lambda kind: [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
locks = {
    id(lock): lock
    for thing in own
    for name in [*getattr(thing, "__dict__", ()), *slots(type(thing))]
    if isinstance(lock := getattr(thing, name, None), kinds)
}
assert len(locks) > 8, locks
held = threading.Event()

def hold():
    for lock in locks.values():
        lock.acquire()
    held.set()
    threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    again = service.generate_sync("parent", cache=keep)
    fresh = service.generate_sync("child", cache=keep)
    good = again.cached and fresh.success and [row.calls for row in service.usage.rows()] == [2]
    registry.get("openai").check()
    service.snapshot()
    os._exit(0 if good else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(status, flush=True)
os._exit(status and 1)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
