from __future__ import annotations

import functools
import json
import logging
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_core import (
    EventTimestamps,
    GenerationFinished,
    GenerationResult,
    InvalidValue,
    TelemetryEvent,
)
from llm_core.example_call import example_result
from llm_metrics.debug import ResponseLog, explain, timed


class TestTimed:
    def test_a_function_is_timed_and_works_as_before(self) -> None:
        seen: list[tuple[str, float]] = []
        ticks = iter([1.0, 1.5])

        @timed(report=lambda name, seconds: seen.append((name, seconds)), clock=ticks.__next__)
        def double(number: int) -> int:
            """Double it."""
            return 2 * number

        assert double(21) == 42
        assert double.__doc__ == "Double it."
        [(name, seconds)] = seen
        assert name.endswith("double")
        assert seconds == 0.5

    async def test_a_coroutine_function_is_timed_until_it_is_done(self) -> None:
        seen: list[float] = []
        ticks = iter([1.0, 4.0])

        @timed(report=lambda _, seconds: seen.append(seconds), clock=ticks.__next__)
        async def fail() -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await fail()
        assert seen == [3.0]

    def test_without_parentheses_it_says_so_in_the_debug_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        @timed
        def nothing() -> None:
            pass

        nothing()
        assert caplog.records == []
        with caplog.at_level(logging.DEBUG, logger="llm_metrics.debug"):
            nothing()
        assert "nothing took" in caplog.text

    def test_a_generator_is_timed_from_its_first_item_to_its_end(self) -> None:
        seen: list[float] = []
        ticks = iter([1.0, 4.0])

        @timed(report=lambda _, seconds: seen.append(seconds), clock=ticks.__next__)
        def echo() -> Generator[int, int, str]:
            got = yield 1
            yield got
            return "done"

        items = echo()
        assert (next(items), items.send(7)) == (1, 7)
        assert seen == []
        with pytest.raises(StopIteration, match="done"):
            next(items)
        assert seen == [3.0]

    async def test_an_async_generator_is_timed_until_it_is_closed(self) -> None:
        seen: list[float] = []
        ticks = iter([1.0, 4.0])
        closed: list[bool] = []

        @timed(report=lambda _, seconds: seen.append(seconds), clock=ticks.__next__)
        async def count() -> AsyncGenerator[int, None]:
            try:
                for number in range(10):
                    yield number
            finally:
                closed.append(True)

        items = count()
        assert [await anext(items), await anext(items)] == [0, 1]
        await items.aclose()
        assert (seen, closed) == ([3.0], [True])

    def test_a_callable_without_a_name_is_named_by_its_repr(self) -> None:
        seen: list[str] = []
        double = timed(report=lambda name, _: seen.append(name))(functools.partial(pow, 2))
        assert double(3) == 8
        assert "partial" in seen[0]


class TestExplain:
    def test_a_calls_timeline_is_drawn_to_scale(self, result: GenerationResult[Any]) -> None:
        assert explain(result, columns=53).splitlines() == [
            "translate call-1  gpt-5-mini-2025-08-07 by openai",
            "ok in 910.0 ms  0.0002850 USD",
            "queue 1 (rpm)       ▒▒··················     100.0 ms",
            "call 1 rate_limited ··█·················      50.0 ms",
            "back-off 1          ···░░░░░············     200.0 ms",
            "call 2 ok           ·······████████████·     500.0 ms",
            "refine strip        ··················▓▓      50.0 ms",
            "our own                                       10.0 ms",
            "▒ queue  █ call  ░ back-off  ▓ refine",
        ]

    def test_steps_that_were_not_timed_are_drawn_together(self) -> None:
        assert "refine              ····" in explain(example_result(steps=()))

    def test_a_failure_without_attempts_is_still_explained(self) -> None:
        made = example_result()
        nothing = EventTimestamps(requested_at=made.timestamps.requested_at, requested=5)
        failed = replace(
            made,
            success=False,
            error=made.attempts[0].error,
            attempts=(),
            steps=(),
            timestamps=nothing,
            model=None,
            provider=None,
            operation_name=None,
        )
        assert explain(failed).splitlines()[:2] == [
            "call call-1  no model by nobody",
            "failed (rate_limited), unfinished  0.0002850 USD",
        ]

    def test_it_fits_the_terminal(self, result: GenerationResult[Any]) -> None:
        long = replace(
            result.attempts[1], waited_for="output tokens per minute of the whole tenant"
        )
        for columns in (120, 80, 60, 40):
            drawn = explain(replace(result, attempts=(long,)), columns=columns).splitlines()
            assert {len(line) for line in drawn[2:-1]} == {columns}
        assert "…" in drawn[2]

    def test_a_terminal_that_is_too_narrow_is_refused(self, result: GenerationResult[Any]) -> None:
        with pytest.raises(InvalidValue, match="columns"):
            explain(result, columns=39)

    def test_helper_calls_and_failed_steps_say_what_they_are(self) -> None:
        made = example_result()
        reask = replace(made.attempts[1], purpose="reask")
        bad = replace(made.steps[0], success=False)
        drawn = explain(replace(made, attempts=(reask,), steps=(bad,)))
        assert "call 2 reask ok" in drawn
        assert "refine strip failed" in drawn


class TestResponseLog:
    def test_a_result_is_a_file_without_secrets(
        self, tmp_path: Path, events: list[TelemetryEvent]
    ) -> None:
        log = ResponseLog(tmp_path / "responses")
        for event in events:
            log.emit(event)
        log.close()
        [path] = (tmp_path / "responses").iterdir()
        assert path.name == "call-1.json"
        data = json.loads(path.read_text("utf-8"))
        assert data["content"] == "the answer"
        assert data["raw"] == {"id": "resp-1", "api_key": "[redacted]"}
        assert "sk-abcdef" not in path.read_text("utf-8")

    def test_only_the_newest_files_stay(
        self, tmp_path: Path, result: GenerationResult[Any]
    ) -> None:
        log = ResponseLog(tmp_path, keep=2)
        for name in ("a", "b", "a", "c"):
            log.emit(GenerationFinished(request_id=name, at_ns=0, result=result))
        assert {path.name for path in tmp_path.iterdir()} == {"a.json", "c.json"}

    def test_an_id_of_the_callers_cannot_lead_out_of_the_folder(
        self, tmp_path: Path, result: GenerationResult[Any]
    ) -> None:
        log = ResponseLog(tmp_path / "in")
        for name in ("../../etc/x", "..", ""):
            log.emit(GenerationFinished(request_id=name, at_ns=0, result=result))
        assert {p.name for p in (tmp_path / "in").iterdir()} == {"_.._etc_x.json", "call.json"}
        assert {p.name for p in tmp_path.iterdir()} == {"in"}

    def test_keeping_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidValue, match="keep"):
            ResponseLog(tmp_path, keep=0)
