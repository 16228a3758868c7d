"""Running pipelines: sync and async alike, recorded, degrading instead of throwing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from llm_core import (
    ConfigurationError,
    DegradedReason,
    ErrorType,
    OutputError,
    ProviderError,
    StepContext,
)
from llm_core.testing import ManualClock
from llm_pipeline import (
    ConvertToDict,
    ExtractValue,
    JsonLoad,
    Outcome,
    Pipeline,
    PipelineResult,
    RangeValidation,
    Step,
    Transform,
)


class Shout:
    """A step without any base class."""

    name = "shout"

    def run(self, content: str, context: StepContext) -> str:
        return content.upper()


class AsyncShout:
    name = "async shout"

    async def run(self, content: str, context: StepContext) -> str:
        await asyncio.sleep(0)
        return content.upper()


async def later(text: str) -> str:
    await asyncio.sleep(0)
    return text + "!"


def refuse(content: Any) -> Any:
    raise OutputError("not this")


def run(pipeline: Pipeline[Any, Any], content: Any, mode: str) -> PipelineResult[Any]:
    """Run the pipeline in sync or in async code."""
    if mode == "sync":
        return pipeline.run_sync(content)
    return asyncio.run(_run(pipeline, content))


async def _run(pipeline: Pipeline[Any, Any], content: Any) -> PipelineResult[Any]:
    return await pipeline.run(content)


both = pytest.mark.parametrize("mode", ["sync", "async"])


@both
def test_steps_functions_and_async_functions_run_in_order(mode: str) -> None:
    result = run(Pipeline([str.strip, later, Shout(), AsyncShout(), len]), " hi ", mode)
    assert result.success
    assert result.content == 3
    assert [step.step for step in result.steps] == ["strip", "later", "shout", "async shout", "len"]
    assert [step.after for step in result.steps] == ["hi", "hi!", "HI!", "HI!", 3]


@both
def test_a_failed_step_stops_and_leaves_the_last_good_value(mode: str) -> None:
    result = run(Pipeline([str.strip, refuse, len]), " hi ", mode)
    assert not result.success
    assert result.content == "hi"
    assert result.last_good == "hi"
    assert result.raw_content == " hi "
    assert result.error is not None
    assert result.error.type is ErrorType.OUTPUT_INVALID
    assert result.degraded is not None
    assert result.degraded.reason is DegradedReason.LAST_GOOD_VALUE
    assert [step.success for step in result.steps] == [True, False]


@both
def test_a_failed_step_may_be_skipped(mode: str) -> None:
    result = run(Pipeline([Transform(refuse, on_error="skip"), str.upper]), "hi", mode)
    assert result.success
    assert result.content == "HI"
    assert result.steps[0].skipped
    assert not result.steps[0].success
    assert result.degraded is not None
    assert result.degraded.reason is DegradedReason.LAST_GOOD_VALUE
    assert result.error is not None


@both
def test_a_failed_step_may_have_a_fallback(mode: str) -> None:
    result = run(Pipeline([Transform(refuse, fallback="?"), str.upper]), "hi", mode)
    assert result.success
    assert result.content == "?"
    assert result.degraded is not None
    assert result.degraded.reason is DegradedReason.FALLBACK_VALUE


def test_none_is_a_fallback() -> None:
    result = Pipeline([Transform(refuse, fallback=None)]).run_sync("hi")
    assert result.success
    assert result.content is None


def test_a_fallback_needs_a_value_and_a_value_needs_a_fallback() -> None:
    with pytest.raises(ValueError, match="fallback: missing"):
        Transform(len, on_error="fallback")
    with pytest.raises(ValueError, match="on_error is 'skip'"):
        Transform(len, on_error="skip", fallback=1)


def test_the_more_serious_degradation_is_the_one_told() -> None:
    steps = [ConvertToDict(), Transform(refuse, fallback={"a": 2})]
    result = Pipeline(steps).run_sync('{"a": 1')
    assert result.degraded is not None
    assert result.degraded.reason is DegradedReason.FALLBACK_VALUE
    assert result.lossy
    assert result.truncated


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("v"), ErrorType.OUTPUT_INVALID),
        (KeyError("k"), ErrorType.OUTPUT_INVALID),
        (ZeroDivisionError(), ErrorType.OUTPUT_INVALID),
        (StopIteration(), ErrorType.INTERNAL),
        (RecursionError(), ErrorType.INTERNAL),
        (OSError("disk"), ErrorType.INTERNAL),
    ],
)
def test_foreign_exceptions_become_errors(error: Exception, expected: ErrorType) -> None:
    def step(content: Any) -> Any:
        raise error

    result = Pipeline([step]).run_sync("x")
    assert result.error is not None
    assert result.error.type is expected
    assert result.error.exception == type(error).__name__


def test_an_exception_that_cannot_be_shown_is_survived() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def step(content: Any) -> Any:
        raise Odd

    result = Pipeline([step]).run_sync("x")
    assert result.error is not None
    assert "Odd" in result.error.message


def test_interrupts_pass() -> None:
    def step(content: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline([step]).run_sync("x")


async def test_cancellation_passes() -> None:
    started = asyncio.Event()

    async def step(content: Any) -> Any:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(Pipeline([step]).run("x"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_async_step_in_a_sync_run_inside_a_loop_says_what_to_do() -> None:
    result = Pipeline([later]).run_sync("x")
    assert not result.success
    assert result.error is not None
    assert "run_awaitable" in result.error.message


async def test_an_async_step_in_a_sync_run_goes_through_the_portal() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def wait_for(awaitable: Any) -> Any:
        return await awaitable

    def portal(awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(wait_for(awaitable), loop).result(5)

    try:
        result = Pipeline([later, AsyncShout()]).run_sync("x", run_awaitable=portal)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert result.content == "X!"


def test_a_failing_async_step_fails_in_a_sync_run_too() -> None:
    async def step(content: Any) -> Any:
        raise ValueError("later")

    result = Pipeline([step]).run_sync("x")
    assert not result.success
    assert result.error is not None
    assert "later" in result.error.message


def test_large_contents_are_recorded_by_reference() -> None:
    content = {"big": ["x"] * 1000}
    result = Pipeline([Transform(lambda data: data)]).run_sync(content)
    assert result.raw_content is content
    assert result.steps[0].before is content
    assert result.steps[0].after is content


def test_durations_come_from_the_clock() -> None:
    clock = ManualClock()

    def slow(content: Any) -> Any:
        clock.advance(2)
        return content

    result = Pipeline([slow, slow], clock=clock).run_sync("x")
    assert [step.duration_seconds for step in result.steps] == [2.0, 2.0]
    assert result.duration_seconds == 4.0


def test_an_observer_is_told_of_each_step_and_cannot_break_the_run() -> None:
    seen: list[str] = []

    def observe(step: Any) -> None:
        seen.append(step.step)
        raise RuntimeError("observer")

    steps = [str.strip, Transform(refuse, fallback=1), refuse, len]
    result = Pipeline(steps).run_sync("x", on_step=observe)
    assert seen == ["strip", "refuse", "refuse"]
    assert not result.success


def test_a_pipeline_may_be_part_of_another() -> None:
    inner = Pipeline([str.strip, str.upper])
    result = Pipeline([inner, len]).run_sync(" hi ")
    assert result.content == 2
    assert len(result.steps) == 3


def test_an_empty_pipeline_gives_its_input() -> None:
    assert Pipeline().run_sync("x").unwrap() == "x"


def test_a_step_class_instead_of_a_step_is_explained() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean ConvertToDict\(\)"):
        Pipeline([ConvertToDict])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match=r"steps\[1\]: got 3"):
        Pipeline([len, 3])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="expected a list of steps"):
        Pipeline(3)  # type: ignore[arg-type]


def test_types_may_be_steps() -> None:
    assert Pipeline([int, float, str]).run_sync("3").content == "3.0"


def test_then_adds_a_step_and_leaves_the_old_pipeline() -> None:
    first = Pipeline.of(ConvertToDict())
    second = first.then(ExtractValue("a")).then(RangeValidation(minimum=1))
    assert len(first) == 1
    assert second.run_sync('{"a": 3}').unwrap() == 3
    assert repr(second) == "Pipeline(['ConvertToDict', 'ExtractValue', 'RangeValidation'])"


@pytest.mark.parametrize(
    "given",
    [
        Pipeline([str.upper]),
        [str.upper],
        str.upper,
        Transform(str.upper),
        Pipeline([str.upper]).steps,
    ],
)
def test_wrap_takes_whatever_stands_for_a_pipeline(given: Any) -> None:
    assert Pipeline.wrap(given).run_sync("x").content == "X"


def test_wrap_takes_nothing_and_configuration() -> None:
    assert Pipeline.wrap(None).run_sync("x").content == "x"
    assert (
        Pipeline.wrap(["ConvertToDict", {"ExtractValue": "$.a"}]).run_sync('{"a": 1}').content == 1
    )
    assert Pipeline.wrap("ConvertToDict").run_sync("[1, 2]").content == [1, 2]
    assert Pipeline.wrap({"ExtractValue": "a"}).run_sync({"a": 1}).content == 1
    assert Pipeline.wrap(["ConvertToDict", len]).run_sync("[1, 2]").content == 2


def test_results_can_be_chained() -> None:
    result = Pipeline([str.strip]).run_sync(" 3 ")
    assert result.map(int).unwrap() == 3
    assert result.map(int).last_good == 3
    following = result.and_then(lambda text: Pipeline([int, lambda n: n + 1]).run_sync(text))
    assert following.unwrap() == 4
    assert [step.step for step in following.steps] == ["strip", "int", "<lambda>"]
    assert following.raw_content == " 3 "


def test_chaining_never_throws_and_keeps_failures() -> None:
    result = Pipeline([str.strip]).run_sync(" x ")
    failed = result.map(int)
    assert not failed.success
    assert failed.content == "x"
    assert failed.steps[-1].step == "int"
    assert failed.map(str).success is False
    assert failed.and_then(lambda _: result) is failed
    assert not result.and_then(lambda _: 1 / 0).success  # type: ignore[arg-type, return-value]
    assert failed.or_else(lambda _: result) is result
    assert result.or_else(lambda _: failed) is result
    assert failed.unwrap_or(7) == 7
    assert result.unwrap_or(7) == "x"
    with pytest.raises(ProviderError):
        failed.unwrap()
    with pytest.raises(ProviderError, match="without a recorded error"):
        PipelineResult[int](success=False).unwrap()


def test_results_round_trip_through_json() -> None:
    result = Pipeline([ConvertToDict(), ExtractValue("a")]).run_sync("{'a': [1]}")
    assert PipelineResult.from_dict(result.to_dict()) == result


def test_a_step_of_ones_own_takes_few_lines() -> None:
    class Halve(Step[int, int]):
        def run(self, content: int, context: StepContext) -> int | Outcome:
            if content % 2:
                raise OutputError(f"{content!r} is odd")
            return Outcome(content // 2, trail={"was": content})

    result = Pipeline([Halve()]).run_sync(4)
    assert result.content == 2
    assert result.steps[0].step == "Halve"
    assert result.steps[0].trail == {"was": 4}
    assert not Pipeline([Halve()]).run_sync(3).success


def test_a_step_without_run_fails() -> None:
    result = Pipeline([Step()]).run_sync(1)
    assert result.error is not None
    assert "has no run method" in result.error.message


def test_a_fallback_does_not_carry_one_runs_changes_into_the_next() -> None:
    pipeline = Pipeline([JsonLoad(fallback={"rows": []})])
    pipeline.run_sync("no").content["rows"].append(1)
    assert pipeline.run_sync("no").content == {"rows": []}
    extract = Pipeline([ExtractValue("a", default=[])])
    extract.run_sync({}).content.append(1)
    assert extract.run_sync({}).content == []


def test_a_chained_failure_says_that_the_value_is_the_last_good_one() -> None:
    failed = Pipeline([str.strip]).run_sync(" x ").map(int)
    assert failed.degraded is not None
    assert failed.degraded.reason is DegradedReason.LAST_GOOD_VALUE
    assert failed.degraded.error is failed.error


def test_chaining_survives_functions_that_return_no_result_or_raise() -> None:
    result = Pipeline([str.strip]).run_sync(" 3 ")
    wrong = result.and_then(int)  # type: ignore[arg-type]
    assert wrong.error is not None
    assert "int returned a int, expected a PipelineResult" in wrong.error.message
    failed = Pipeline([JsonLoad()]).run_sync("no")
    assert "ZeroDivisionError" in str(failed.or_else(lambda _: 1 / 0).error)  # type: ignore[arg-type, return-value]


def test_what_was_made_up_for_stays_known_along_the_chain() -> None:
    first = Pipeline([JsonLoad(fallback="3")]).run_sync("no")
    chained = first.and_then(lambda text: Pipeline([int]).run_sync(text))
    assert chained.unwrap() == 3
    assert chained.error is first.error
