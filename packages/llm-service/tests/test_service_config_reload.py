"""Changed settings are taken over while the service runs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_core import GenerationResult, Usage
from llm_core.testing import ManualClock, ScriptedProvider
from llm_service import BaseLLMService, Limits, operation
from llm_service.config import (
    ConfigChange,
    ConfigWatcher,
    LoadedConfig,
    load_config,
    service_options,
    take_over,
)


class Watched:
    """A configuration file, its watcher, and the changes that it told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changes: list[ConfigChange] = []
        self.told = threading.Event()
        self.write("limits: {max_rpm: 1}")
        self.watcher = ConfigWatcher(self.load, self.take, interval_seconds=0.01)

    def load(self) -> LoadedConfig:
        return load_config(self.path, env_file=None, environ={})

    def take(self, change: ConfigChange) -> None:
        self.changes.append(change)
        self.told.set()

    def write(self, text: str) -> None:
        """Replace the file, as editors and config maps do, so that its identity changes as well."""
        new = self.path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, self.path)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path / "llm.yaml")
    yield watched
    watched.watcher.stop()


def test_nothing_is_read_while_nothing_changes(watched: Watched) -> None:
    before = watched.watcher.current
    assert watched.watcher.poll() is None
    assert watched.watcher.current is before


def test_a_changed_file_is_told(watched: Watched) -> None:
    watched.write("limits: {max_rpm: 2}\nmodels: {default: m}")
    change = watched.watcher.poll()
    assert watched.changes == [change]
    assert change is not None
    assert change.reloadable == {"limits", "models"}
    assert (change.before.limits.max_rpm, change.loaded.config.limits.max_rpm) == (1, 2)
    assert watched.watcher.current is change.loaded


def test_a_file_that_says_the_same_is_no_change(watched: Watched) -> None:
    watched.write("# a remark\nlimits: {max_rpm: 1}")
    assert watched.watcher.poll() is None


def test_what_needs_a_restart_is_logged_and_not_taken_over(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.write("limits: {max_rpm: 1}\nretry: {max_attempts: 9}")
    change = watched.watcher.poll()
    assert change is not None
    assert (change.reloadable, change.needs_restart) == (frozenset(), {"retry"})
    assert watched.changes == []
    assert "need a restart: retry" in caplog.text


def test_other_fallbacks_need_a_restart(watched: Watched) -> None:
    watched.write("limits: {max_rpm: 1}\nmodels: {fallbacks: [{model: b}]}")
    change = watched.watcher.poll()
    assert change is not None
    assert change.needs_restart == {"models.fallbacks"}


def test_a_broken_file_changes_nothing_until_it_is_mended(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.write("limits: {max_rmp: 2}")
    assert watched.watcher.poll() is None
    assert "did you mean 'max_rpm'" in caplog.text
    assert watched.watcher.current.config.limits.max_rpm == 1
    watched.write("limits: {max_rpm: 2}")
    assert watched.watcher.poll() is not None
    assert watched.watcher.current.config.limits.max_rpm == 2


def test_the_watcher_outlives_whatever_a_load_raises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(tmp_path / "llm.yaml")
    faults: list[Exception] = [PermissionError(13, "Permission denied"), ValueError("no")]

    def load() -> LoadedConfig:
        if faults:
            raise faults.pop()
        return watched.load()

    watcher = ConfigWatcher(load, watched.take, current=watched.load(), interval_seconds=3600)
    watched.write("limits: {max_rpm: 2}")
    watcher.start(on_signal=False)
    for _ in range(3):
        watcher.reload()
    assert watched.told.wait(10)
    watcher.stop()
    assert watched.changes[0].loaded.config.limits.max_rpm == 2
    assert "not taken over: ValueError('no')" in caplog.text
    assert "Permission denied" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_watches_and_answers_sighup_once_it_starts(tmp_path: Path) -> None:
    script = tmp_path / "forks.py"
    script.write_text(FORKS)
    ended = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout.split(), ended.returncode) == (["5", "6"], 0), ended.stderr


FORKS = """
import os, signal, sys, threading
from pathlib import Path
from llm_service.config import ConfigWatcher, load_config

file, heard, told = Path("llm.yaml"), [], threading.Event()
file.write_text("limits: {max_rpm: 1}")

def take(change):
    print(change.loaded.config.limits.max_rpm, flush=True)
    told.set()

signal.signal(signal.SIGHUP, lambda *_: heard.append(1))
watcher = ConfigWatcher(lambda: load_config(file, env_file=None, environ={}), take, interval_seconds=3600)
watcher.start()
if child := os.fork():
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
watcher.start()
file.write_text("limits: {max_rpm: 5}")
watcher.reload()
assert told.wait(10)
told.clear()
file.write_text("limits: {max_rpm: 6}")
os.kill(os.getpid(), signal.SIGHUP)
assert told.wait(10)
watcher.stop()
os.kill(os.getpid(), signal.SIGHUP)
assert heard == [1, 1], heard
"""


def test_a_file_that_is_gone_for_a_moment_changes_nothing(watched: Watched) -> None:
    watched.path.unlink()
    assert watched.watcher.poll() is None
    watched.write("limits: {max_rpm: 3}")
    assert watched.watcher.poll() is not None


def test_a_changed_price_file_is_a_change_of_prices(watched: Watched) -> None:
    prices = watched.path.with_name("prices.yaml")
    prices.write_text("prices: []")
    watched.write("prices: {overrides: prices.yaml}")
    watched.watcher.poll()
    prices.write_text("prices: [{provider: p, model: m, per_request: 1}]")
    change = watched.watcher.poll()
    assert change is not None
    assert change.reloadable == {"prices"}


def test_the_watcher_outlives_a_failing_receiver(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(tmp_path / "llm.yaml")

    def fail(change: ConfigChange) -> None:
        raise RuntimeError("no")

    watcher = ConfigWatcher(watched.load, fail)
    watched.write("limits: {max_rpm: 2}")
    assert watcher.poll() is not None
    assert caplog.records[-1].levelno == logging.ERROR


def test_the_thread_notices_a_changed_file(watched: Watched) -> None:
    watched.watcher.start(on_signal=False)
    watched.watcher.start(on_signal=False)
    watched.write("limits: {max_rpm: 2}")
    assert watched.told.wait(10)
    watched.watcher.stop()
    watched.watcher.stop()


def test_whoever_holds_the_watcher_can_have_it_read_at_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "llm.yaml")
    watcher = ConfigWatcher(
        lambda: load_config(watched.path, env_file=None, environ={"LLM_SERVICE_MAX_RPM": "5"}),
        watched.take,
        current=watched.load(),
        interval_seconds=3600,
    )
    watcher.start(on_signal=False)
    watcher.reload()
    assert watched.told.wait(10)
    watcher.stop()
    assert watched.changes[0].loaded.config.limits.max_rpm == 5


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_sighup_reloads_at_once_and_still_reaches_the_handler_before(tmp_path: Path) -> None:
    watched, heard = Watched(tmp_path / "llm.yaml"), []
    variables = {"LLM_SERVICE_MAX_RPM": "5"}
    # Only the environment differs: without the signal nothing would be noticed.
    watcher = ConfigWatcher(
        lambda: load_config(watched.path, env_file=None, environ=variables),
        watched.take,
        current=watched.load(),
        interval_seconds=3600,
    )
    before = signal.signal(signal.SIGHUP, lambda number, frame: heard.append(number))
    try:
        ours = signal.getsignal(signal.SIGHUP)
        watcher.start()
        os.kill(os.getpid(), signal.SIGHUP)
        assert watched.told.wait(10)
        watcher.stop()
        assert signal.getsignal(signal.SIGHUP) is ours
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard == [signal.SIGHUP]
    assert watched.changes[0].loaded.config.limits.max_rpm == 5


def test_a_receiver_may_stop_the_watcher(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "llm.yaml")
    stopped = threading.Event()

    def stop(change: ConfigChange) -> None:
        watcher.stop()
        stopped.set()

    watcher = ConfigWatcher(watched.load, stop, interval_seconds=0.01)
    watcher.start()
    watched.write("limits: {max_rpm: 2}")
    assert stopped.wait(10)
    watcher.stop()


Changed = Callable[[str], ConfigChange]


@pytest.fixture
def changed(watched: Watched) -> Changed:
    def changed(text: str) -> ConfigChange:
        watched.write(text)
        change = watched.watcher.poll()
        assert change is not None
        return change

    return changed


async def test_a_running_service_takes_over_limits_models_and_aliases(
    watched: Watched, changed: Changed
) -> None:
    options = service_options(watched.watcher.current.config)
    registry, provider = options["registry"], ScriptedProvider()
    registry.register("mine", provider)
    clock = ManualClock()
    async with BaseLLMService(**options | {"model": "mine/a", "clock": clock}) as service:
        await service.generate("first")
        full = await service.generate("second", deadline_seconds=1)
        assert not full.success
        text = "limits: {max_rpm: 3}\nmodels: {default: big, aliases: {big: mine/b}}"
        take_over(changed(text), service, registry=registry)
        assert (await service.generate("third")).model == "b"
        assert (await service.generate("fourth", model="big")).model == "b"
        assert (await service.generate("fifth", model="mine/a", deadline_seconds=1)).success


async def test_the_limits_of_single_models_are_taken_over(
    watched: Watched, changed: Changed
) -> None:
    options = service_options(
        changed("limits: {max_rpm: 5, models: {a: {max_rpm: 1}}}").loaded.config
    )
    service = BaseLLMService(
        provider=ScriptedProvider(name="p"), clock=ManualClock(), **options | {"telemetry": "none"}
    )
    async with service:
        assert (await service.generate("?", model="a")).success
        assert not (await service.generate("?", model="a", deadline_seconds=1)).success
        take_over(changed("limits: {max_rpm: 5, models: {a: {max_rpm: 2}}}"), service)
        assert (await service.generate("?", model="a", deadline_seconds=1)).success
        assert not (await service.generate("?", model="a", deadline_seconds=1)).success
        take_over(changed("limits: {max_rpm: 5}"), service)
        assert (await service.generate("?", model="a", deadline_seconds=1)).success


async def test_without_a_new_default_the_model_stays(watched: Watched, changed: Changed) -> None:
    async with BaseLLMService(model="m", provider=ScriptedProvider()) as service:
        take_over(changed("limits: {max_rpm: 1}\nmodels: {aliases: {x: y}}"), service)
        assert (await service.generate("?")).model == "m"


def test_prices_are_taken_over(watched: Watched, changed: Changed) -> None:
    prices = watched.path.with_name("prices.yaml")
    template = "prices: [{{provider: p, model: m, per_request: {}}}]"
    prices.write_text(template.format(1))
    change = changed("prices: {overrides: prices.yaml}")
    with BaseLLMService(**service_options(change.loaded.config)) as service:
        book = service_options(change.loaded.config)["price_book"]
        prices.write_text(template.format(25))
        again = watched.watcher.poll()
        assert again is not None
        take_over(again, service, price_book=book)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert book.price(Usage(), provider="p", model="m", at=when).amount == 25


def test_limits_of_an_operation_change_without_a_restart(watched: Watched) -> None:
    watched.write("operations: {triage: {limits: {max_rpm: 5}}}")
    watched.watcher.poll()
    options = service_options(watched.watcher.current.config)
    with BaseLLMService(**options, provider=ScriptedProvider(), model="any") as service:
        watched.write("operations: {triage: {limits: {max_rpm: 7}}}")
        change = watched.watcher.poll()
        assert change is not None
        assert (change.reloadable, change.needs_restart) == (
            frozenset({"operations.limits"}),
            frozenset(),
        )
        take_over(change, service)
        assert service.snapshot().gates["operation:triage"].limit("rpm").limit == 7

        watched.write("limits: {max_rpm: 9}")
        gone = watched.watcher.poll()
        assert gone is not None
        take_over(gone, service)
        assert service.snapshot().gates["operation:triage"].limits == ()


def test_limits_in_the_code_hold_again_when_none_are_configured(
    watched: Watched, changed: Changed
) -> None:
    class Desk(BaseLLMService):
        @operation(limits=Limits(max_rpm=3))
        async def triage(self) -> GenerationResult[str]:
            return await self.generate("?")

    def limit() -> object:
        return desk.snapshot().gates["operation:triage"].limit("rpm").limit

    configured = changed("operations: {triage: {limits: {max_rpm: 5}}}").loaded.config
    with Desk(**service_options(configured), provider=ScriptedProvider(), model="any") as desk:
        assert desk.triage.sync().success
        assert limit() == 5
        take_over(changed("limits: {max_rpm: 9}"), desk)
        assert limit() == 3
        take_over(changed("operations: {triage: {limits: {max_rpm: 6}}}"), desk)
        assert limit() == 6


def test_limits_in_the_code_hold_also_where_the_first_call_comes_after_the_configured_ones_went(
    watched: Watched, changed: Changed
) -> None:
    class Desk(BaseLLMService):
        @operation(limits=Limits(max_rpm=3))
        async def triage(self) -> GenerationResult[str]:
            return await self.generate("?")

    configured = changed("operations: {triage: {limits: {max_rpm: 5}}}").loaded.config
    with Desk(**service_options(configured), provider=ScriptedProvider(), model="any") as desk:
        take_over(changed("limits: {max_rpm: 9}"), desk)
        assert desk.triage.sync().success
        assert desk.snapshot().gates["operation:triage"].limit("rpm").limit == 3


def test_an_alias_that_an_operation_or_a_fallback_goes_by_needs_a_restart(
    changed: Changed,
) -> None:
    text = """
models: {{default: fast, aliases: {{fast: {}, other: {}}}, fallbacks: [{{model: fast}}]}}
operations: {{triage: {{model: fast}}, none: {{deadline_seconds: 5}}}}
"""
    changed(text.format("a/one", "a/other"))
    assert changed(text.format("a/one", "a/another")).needs_restart == frozenset()
    assert changed(text.format("a/two", "a/another")).needs_restart == {
        "models.fallbacks",
        "operations",
    }


def test_another_model_of_an_operation_needs_a_restart(watched: Watched) -> None:
    watched.write("operations: {triage: {limits: {max_rpm: 5}}}")
    watched.watcher.poll()
    watched.write("operations: {triage: {limits: {max_rpm: 5}, model: gpt-5-mini}}")
    change = watched.watcher.poll()
    assert change is not None
    assert (change.reloadable, change.needs_restart) == (frozenset(), frozenset({"operations"}))
