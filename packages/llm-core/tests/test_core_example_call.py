from __future__ import annotations

import json
from dataclasses import replace

from llm_core import AttemptTimestamps, GenerationResult
from llm_core.example_call import EXAMPLE_TRACE, events_of, example_result


def test_the_example_is_a_call_of_two_attempts_that_adds_up() -> None:
    result = example_result()
    first, second = result.attempts
    assert (first.success, second.success) == (False, True)
    assert result.timestamps.total_seconds == 0.91
    assert result.overhead_seconds is not None
    assert round(result.overhead_seconds, 9) == 0.01
    assert (result.usage, result.cost) == (second.usage, second.cost)
    assert result.trace_id == EXAMPLE_TRACE.trace_id


def test_fields_can_be_changed() -> None:
    assert example_result(content="Bern").content == "Bern"


def test_it_survives_json() -> None:
    result = example_result()
    written = json.loads(json.dumps(result.to_dict()))
    assert GenerationResult.from_dict(written) == result


def test_its_life_is_told_in_order() -> None:
    events = events_of(example_result())
    assert [event.kind for event in events] == [
        "generation_started",
        "attempt_started",
        "attempt_ended",
        "attempt_started",
        "first_token",
        "attempt_ended",
        "step_ended",
        "generation_finished",
    ]
    assert [event.at_ns for event in events] == sorted(event.at_ns for event in events)


def test_an_attempt_that_the_gates_refused_was_never_started() -> None:
    made = example_result()
    refused = replace(made.attempts[0], timestamps=AttemptTimestamps(enqueued=0, ended=5))
    kinds = [event.kind for event in events_of(replace(made, attempts=(refused,), steps=()))]
    assert kinds == ["generation_started", "attempt_ended", "generation_finished"]
