"""The face of the package: what it exports, its clock, and fakes that fit its Protocols."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import types
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

import llm_core
from llm_core import interfaces
from llm_core import testing as fakes

FITTING: list[tuple[type, object]] = [
    (interfaces.Clock, llm_core.SystemClock()),
    (interfaces.Clock, fakes.ManualClock()),
    (interfaces.Provider, fakes.ScriptedProvider()),
    (interfaces.Permit, fakes.FakePermit()),
    (interfaces.Gate, fakes.OpenGate()),
    (interfaces.Generate, fakes.ScriptedGenerate()),
    (interfaces.StepContext, fakes.SimpleStepContext()),
    (interfaces.PipelineStep, fakes.FunctionStep(len)),
    (interfaces.TelemetryClient, fakes.RecordingTelemetry()),
    (interfaces.TelemetryClient, fakes.TracingTelemetry()),
    (interfaces.TraceSource, fakes.TracingTelemetry()),
    (
        interfaces.PriceBook,
        fakes.FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(1)),
    ),
    (interfaces.ResponseCache, fakes.MemoryCache()),
]


@pytest.mark.parametrize(
    ("protocol", "fake"), FITTING, ids=[type(fake).__name__ for _, fake in FITTING]
)
def test_a_fake_fits_its_interface_and_no_other_thing_does(protocol: type, fake: object) -> None:
    assert isinstance(fake, protocol)
    assert not isinstance(object(), protocol)


def test_every_interface_has_a_fake() -> None:
    assert {protocol.__name__ for protocol, _ in FITTING} == set(interfaces.__all__)


@pytest.mark.parametrize("module", [llm_core, fakes], ids=["llm_core", "llm_core.testing"])
def test_all_is_exactly_what_can_be_imported(module: types.ModuleType) -> None:
    # What a private module defines is shown by the one that imports it.
    homes = (module.__name__, "llm_core._manual_clock")
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and (module is llm_core or getattr(value, "__module__", "") in homes)
    }
    aliases = {"Reply"} if module is fakes else set()
    assert set(module.__all__) == public | aliases
    assert len(module.__all__) == len(set(module.__all__))


def test_what_the_modules_call_public_is_public() -> None:
    private = {
        "Codec",
        "ConstructorOnDemand",
        "Layout",
        "LayoutOnDemand",
        "NOT_JSON",
        "codec_for",
        "require",
        "usable_wait",
    }
    for name, module in vars(llm_core).items():
        if isinstance(module, types.ModuleType) and name not in (
            "conventions",
            "example_call",
            "later",  # which stands for a module of the standard library
            "testing",
            "_manual_clock",  # whose face is `testing`
        ):
            assert set(module.__all__) - private <= set(llm_core.__all__), name


def imported_by(code: str) -> set[str]:
    """Return the modules that a new interpreter has loaded after `code`."""
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    return set(ran.stdout.split())


def test_importing_loads_the_standard_library_only_and_no_event_loop() -> None:
    loaded = imported_by("import llm_core") - imported_by("pass")
    tops = {name.partition(".")[0] for name in loaded}
    assert tops - set(sys.stdlib_module_names) == {"llm_core"}
    assert "asyncio" not in tops
    assert "llm_core.testing" not in loaded


class TestSystemClock:
    def test_it_tells_the_time(self) -> None:
        clock = llm_core.SystemClock()
        assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
        assert clock.now().tzinfo is UTC
        before = time.monotonic_ns()
        assert before <= clock.monotonic_ns() <= time.monotonic_ns()

    async def test_it_sleeps_in_real_time(self) -> None:
        clock = llm_core.SystemClock()
        before = clock.monotonic_ns()
        await clock.sleep(0.01)
        assert clock.monotonic_ns() - before >= 9_000_000

    @pytest.mark.parametrize("seconds", [0, -1])
    async def test_no_time_to_sleep_lets_others_run_once(self, seconds: float) -> None:
        order: list[Any] = []

        async def other() -> None:
            order.append("other")

        task = asyncio.create_task(other())
        await llm_core.SystemClock().sleep(seconds)
        order.append("me")
        await task
        assert order == ["other", "me"]
