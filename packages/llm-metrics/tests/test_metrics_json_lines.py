from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from llm_core import GenerationFinished, TelemetryEvent
from llm_core.example_call import events_of, example_result
from llm_core.testing import ManualClock
from llm_metrics import JsonLinesTelemetry, json_lines_schema
from llm_metrics.rotating_file import RotatingFile


def written(path: Path, events: list[TelemetryEvent], **options: Any) -> list[dict[str, Any]]:
    lines = JsonLinesTelemetry(path, clock=ManualClock(), **options)
    for event in events:
        lines.emit(event)
    lines.close()
    assert (lines.dropped, lines.faults) == (0, 0)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_line_satisfies_the_documented_schema(
    tmp_path: Path, events: list[TelemetryEvent]
) -> None:
    validator = Draft202012Validator(json_lines_schema())
    validator.check_schema(json_lines_schema())
    for contents in (False, True):
        lines = written(tmp_path / f"{contents}.jsonl", events, contents=contents)
        assert [line["event"] for line in lines] == [event.kind for event in events]
        for line in lines:
            assert [error.message for error in validator.iter_errors(line)] == []


def test_the_life_of_a_call_can_be_read_from_its_lines(
    tmp_path: Path, events: list[TelemetryEvent]
) -> None:
    lines = written(tmp_path / "calls.jsonl", events)
    assert {line["trace_id"] for line in lines} == {"a" * 32}
    assert {line["span_id"] for line in lines} == {"b" * 16}
    assert {line["llm_service.operation"] for line in lines} == {"translate"}
    by_event = {line["event"]: line for line in lines}
    assert by_event["attempt_ended"]["cost"] == "0.0002850"
    assert by_event["attempt_ended"]["input_tokens"] == 1000
    assert by_event["step_ended"]["step"] == "strip"
    assert by_event["first_token"]["at"] == "2026-01-01T00:00:00.450000+00:00"
    last = by_event["generation_finished"]
    assert last["success"] is True
    assert last["duration_seconds"] == 0.91
    assert (last["queue_seconds"], last["backoff_seconds"]) == (0.1, 0.2)
    assert last["gen_ai.usage.cache_read.input_tokens"] == 200
    assert last["cost_source"] == "genai-prices@0.2.3"


def test_tokens_stand_under_the_conventions_name_once_per_call(
    tmp_path: Path, events: list[TelemetryEvent]
) -> None:
    lines = written(tmp_path / "calls.jsonl", events)
    assert sum("gen_ai.usage.input_tokens" in line for line in lines) == 1


def test_contents_and_secrets_stay_out_by_default(
    tmp_path: Path, events: list[TelemetryEvent]
) -> None:
    path = tmp_path / "calls.jsonl"
    written(path, events)
    text = path.read_text("utf-8")
    for hidden in ("the question", "the answer", "the raw answer", "sk-abcdef"):
        assert hidden not in text
    assert "slow down, key [redacted]" in text


def test_contents_are_written_on_request_still_without_secrets(
    tmp_path: Path,
) -> None:
    made = example_result(content={"text": "the answer", "password": "hunter22"})
    path = tmp_path / "calls.jsonl"
    lines = written(path, events_of(made), contents=True)
    assert lines[0]["contents"]["request"]["user"] == "the question"
    assert lines[-1]["contents"]["content"] == {"text": "the answer", "password": "[redacted]"}
    assert "hunter22" not in path.read_text("utf-8")


def test_a_program_may_bring_its_own_redaction(
    tmp_path: Path, events: list[TelemetryEvent]
) -> None:
    lines = written(tmp_path / "calls.jsonl", events, redact=lambda line: {"event": line["event"]})
    assert lines[0] == {"event": "generation_started"}


def test_a_call_whose_start_was_missed_takes_its_ids_from_the_result(
    tmp_path: Path, events: list[TelemetryEvent]
) -> None:
    [ended, finished] = written(tmp_path / "calls.jsonl", [events[2], events[-1]])
    assert "trace_id" not in ended
    assert finished["trace_id"] == "a" * 32


def test_a_failed_call_says_why(tmp_path: Path) -> None:
    made = example_result(success=False, trace_id=None)
    failed = replace(made, error=made.attempts[0].error)
    event = GenerationFinished(request_id="call-1", at_ns=0, result=failed)
    [line] = written(tmp_path / "calls.jsonl", [event])
    assert line["error.type"] == "rate_limited"
    assert (line["status_code"], line["retry_after_seconds"]) == (429, 0.2)
    assert "trace_id" not in line


def test_a_stream_takes_the_lines_and_stays_open(events: list[TelemetryEvent]) -> None:
    stream = io.StringIO()
    lines = JsonLinesTelemetry(stream=stream)
    lines.emit(events[0])
    lines.close()
    assert json.loads(stream.getvalue())["request_id"] == "call-1"
    assert not stream.closed


def test_standard_error_is_the_default(
    events: list[TelemetryEvent], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = JsonLinesTelemetry()
    lines.emit(events[0])
    lines.close()
    assert json.loads(capsys.readouterr().err)["event"] == "generation_started"


def test_what_cannot_be_written_is_counted(tmp_path: Path, events: list[TelemetryEvent]) -> None:
    (tmp_path / "file").write_text("in the way")
    lines = JsonLinesTelemetry(tmp_path / "file" / "calls.jsonl")
    lines.emit(events[0])
    lines.close()
    assert lines.faults == 1


def test_calls_that_never_finish_are_forgotten_at_last(
    tmp_path: Path, events: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_metrics import json_lines

    monkeypatch.setattr(json_lines, "_CALLS_REMEMBERED", 1)
    started = [replace(events[0], request_id="old"), events[0]]
    lines = written(tmp_path / "calls.jsonl", [*started, replace(events[2], request_id="old")])
    assert "trace_id" not in lines[-1]


class TestRotation:
    def test_a_full_file_is_put_aside_and_the_oldest_go(self, tmp_path: Path) -> None:
        file = RotatingFile(tmp_path / "log" / "x.jsonl", max_bytes=10, keep=2)
        for line in ("aaaaaa", "bbbbbb", "cccccc", "dddddd"):
            file.write(line)
        file.close()
        found = {p.name: p.read_text() for p in (tmp_path / "log").iterdir()}
        assert found == {"x.jsonl": "dddddd\n", "x.jsonl.1": "cccccc\n", "x.jsonl.2": "bbbbbb\n"}

    def test_nothing_is_put_aside_if_nothing_is_kept(self, tmp_path: Path) -> None:
        file = RotatingFile(tmp_path / "x.jsonl", max_bytes=10, keep=0)
        for line in ("aaaaaa", "bbbbbb"):
            file.write(line)
        file.close()
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"x.jsonl": "bbbbbb\n"}

    def test_nothing_stays_in_a_buffer_that_a_forked_process_would_write_again(
        self, tmp_path: Path
    ) -> None:
        file = RotatingFile(tmp_path / "x.jsonl")
        file.write("line")
        assert (tmp_path / "x.jsonl").read_text() == "line\n"
        file.close()

    def test_a_file_that_is_there_is_continued(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text("before\n")
        file = RotatingFile(tmp_path / "x.jsonl", max_bytes=10)
        file.write("after")
        file.close()
        assert (tmp_path / "x.jsonl.1").read_text() == "before\n"

    @pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"keep": -1}])
    def test_impossible_settings_are_refused(self, tmp_path: Path, wrong: dict[str, int]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RotatingFile(tmp_path / "x", **wrong)


def test_half_a_surrogate_pair_is_written_as_its_escape(
    tmp_path: Path, events: list[TelemetryEvent]
) -> None:
    finished = events[-1]
    assert isinstance(finished, GenerationFinished)
    broken = replace(finished, result=replace(finished.result, model="m\ud800"))
    (line,) = written(tmp_path / "calls.jsonl", [broken])
    assert line["gen_ai.response.model"] == "m\ud800"
