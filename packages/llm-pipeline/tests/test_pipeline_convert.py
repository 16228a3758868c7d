"""ConvertToDict: rungs, verdicts, provenance, policy, re-asking, partial values."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from llm_core import DegradedReason, ErrorInfo, ErrorType, FinishReason, GenerationRequest
from llm_pipeline import ConvertToDict, NoValue, Partial, Pipeline, RunContext, convert
from llm_pipeline.testing import ScriptedGenerate


@pytest.mark.parametrize(
    ("text", "rung", "lossy"),
    [
        ('{"a": 1}', "strict", False),
        ('Here: {"a": 1}', "block", False),
        ("{'a': 1}", "relaxed", False),
        ("{'a': ('x' 'y')}", "python-literal", False),
        ("{'a': {1, 2}}", "json-repair", True),
    ],
)
def test_the_result_says_which_rung_held(text: str, rung: str, lossy: bool) -> None:
    conversion = convert(text)
    assert conversion.rung == rung
    assert conversion.lossy is lossy


def test_a_cut_generation_gives_a_partial_value() -> None:
    conversion = convert('{"a": [1, 2, 3', cut=True)
    assert conversion.value == {"a": [1, 2]}
    assert conversion.rung == "partial"
    assert conversion.lossy
    assert conversion.truncated


def test_edits_name_what_was_changed_and_where() -> None:
    edits = convert("{'a': 1, // one\n'b': 2,}").edits
    assert [(e["edit"], e["count"], e["guess"]) for e in edits] == [
        ("single quotes", 2, False),
        ("comment", 1, False),
        ("trailing comma", 1, False),
    ]
    assert edits[0]["at"] == 1


def test_the_span_says_where_the_value_stands() -> None:
    text = 'So: {"a": 1}!'
    conversion = convert(text)
    assert conversion.span is not None
    assert text[slice(*conversion.span)] == '{"a": 1}'


def test_a_failure_tells_what_was_tried() -> None:
    with pytest.raises(NoValue) as failure:
        convert("nothing here")
    rungs = [entry["rung"] for entry in failure.value.details["tried"]]
    assert rungs == ["strict", "block", "json-repair", "string2dict", "python-literal"]


def test_deep_nesting_fails_without_recursion() -> None:
    with pytest.raises(NoValue, match="200 levels"):
        convert("[" * 300 + "]" * 300)
    with pytest.raises(NoValue, match="200 levels"):
        convert("{'a':" * 300)
    with pytest.raises(NoValue, match="200 levels"):
        convert("x " + "[" * 100_000)


def test_a_value_before_nesting_that_is_too_deep_is_found() -> None:
    conversion = convert('{"a": 1} ' + "[" * 300)
    assert conversion.value == {"a": 1}


class TestPolicy:
    def test_flag_degrades_the_result(self) -> None:
        result = Pipeline([ConvertToDict()]).run_sync('{"a": [1, 2}')
        assert result.success
        assert result.content == {"a": [1, 2]}
        assert result.steps[0].lossy
        assert result.degraded is not None
        assert result.degraded.reason is DegradedReason.LOSSY

    def test_flag_tells_truncation_apart(self) -> None:
        result = Pipeline([ConvertToDict()]).run_sync('{"a": [1, 2')
        assert result.degraded is not None
        assert result.degraded.reason is DegradedReason.PARTIAL
        assert result.truncated

    def test_allow_only_records(self) -> None:
        result = Pipeline([ConvertToDict(lossy="allow")]).run_sync('{"a": [1, 2}')
        assert result.degraded is None
        assert result.lossy

    def test_fail_fails(self) -> None:
        result = Pipeline([ConvertToDict(lossy="fail")]).run_sync('{"a": [1, 2}')
        assert not result.success
        assert result.error is not None
        assert "wrong closing bracket" in result.error.message
        assert result.steps[0].trail["rung"] == "relaxed"

    def test_fail_calls_truncation_by_its_name(self, reply: Any) -> None:
        step = ConvertToDict(lossy="fail")
        result = Pipeline([step]).run_sync('{"a": "x', context=reply(FinishReason.LENGTH))
        assert result.error is not None
        assert result.error.type is ErrorType.TRUNCATED

    def test_fail_lets_exact_readings_pass(self) -> None:
        result = Pipeline([ConvertToDict(lossy="fail")]).run_sync("{'a': 1,}")
        assert result.unwrap() == {"a": 1}


class TestStep:
    def test_structured_output_passes_untouched(self) -> None:
        content = {"a": 1}
        result = Pipeline([ConvertToDict()]).run_sync(content)
        assert result.content is content
        assert result.steps[0].skipped
        assert result.degraded is None

    def test_anything_else_is_refused(self) -> None:
        result = Pipeline([ConvertToDict()]).run_sync(42)
        assert result.error is not None
        assert "got a int" in result.error.message

    def test_the_finish_reason_decides_about_numbers_at_the_cut(self, reply: Any) -> None:
        pipeline = Pipeline([ConvertToDict()])
        text = '{"a": 1, "b": 12'
        cut = pipeline.run_sync(text, context=reply(FinishReason.LENGTH))
        broken = pipeline.run_sync(text, context=reply(FinishReason.INCOMPLETE))
        stopped = pipeline.run_sync(text, context=reply(FinishReason.STOP))
        assert cut.content == {"a": 1}
        assert broken.content == {"a": 1}
        assert stopped.content == {"a": 1, "b": 12}

    def test_the_prefill_of_the_request_is_put_back(self) -> None:
        request = GenerationRequest(user="?", assistant='{"city": ')
        result = Pipeline([ConvertToDict()]).run_sync(
            '"Bern"}', context=RunContext(request=request)
        )
        assert result.unwrap() == {"city": "Bern"}
        assert not result.lossy

    @pytest.mark.parametrize(
        ("want", "text", "expected"),
        [
            ("dict", '[1, 2] {"a": 1}', {"a": 1}),
            ("list", '{"a": 1, "b": "longer"} [{"c": 2}]', [{"c": 2}]),
        ],
    )
    def test_want_decides_between_values(self, want: Any, text: str, expected: Any) -> None:
        assert Pipeline([ConvertToDict(want=want)]).run_sync(text).content == expected

    def test_want_refuses_the_other_kind(self) -> None:
        result = Pipeline([ConvertToDict(want="dict")]).run_sync("[1, 2]")
        assert result.error is not None
        assert "expected a dict" in result.error.message
        assert not Pipeline([ConvertToDict(want="list")]).run_sync({"a": 1}).success

    def test_a_schema_decides_between_values(self) -> None:
        schema = {"type": "object", "required": ["city"]}
        text = '{"query": "x", "language": "en"} {"city": "Bern"}'
        result = Pipeline([ConvertToDict(schema=schema)]).run_sync(text)
        assert result.content == {"city": "Bern"}
        assert not result.lossy

    def test_reask_must_not_be_negative(self) -> None:
        with pytest.raises(ValueError, match="zero or more"):
            ConvertToDict(reask=-1)


class TestReask:
    def test_asks_again_when_there_is_no_value(self) -> None:
        generate = ScriptedGenerate(["still nothing", '{"a": 1}'])
        context = RunContext(request=GenerationRequest(user="the city?"), generate=generate)
        result = Pipeline([ConvertToDict(reask=2)]).run_sync("no idea", context=context)
        assert result.unwrap() == {"a": 1}
        assert result.steps[0].trail["reasked"] == 2
        assert result.steps[0].trail["rung"] == "reask"
        assert [purpose for _, purpose in generate.calls] == ["reask", "reask"]
        turns = [message.text for message in generate.calls[0][0].conversation()]
        assert turns[:2] == ["the city?", "no idea"]
        assert generate.calls[0][0].pipeline is None

    def test_gives_up_after_the_last_answer(self) -> None:
        context = RunContext(generate=ScriptedGenerate(["no"]))
        result = Pipeline([ConvertToDict(reask=2)]).run_sync("no", context=context)
        assert not result.success
        assert result.steps[0].trail["reasked"] == 2

    def test_asks_again_about_a_loss_that_is_not_allowed(self) -> None:
        context = RunContext(generate=ScriptedGenerate(['{"a": [1, 2]}']))
        step = ConvertToDict(lossy="fail", reask=1)
        assert Pipeline([step]).run_sync('{"a": [1, 2}', context=context).unwrap() == {"a": [1, 2]}

    def test_a_call_that_fails_is_the_failure(self) -> None:
        error = ErrorInfo.of(ErrorType.BUDGET_DENIED, "no money")
        context = RunContext(generate=ScriptedGenerate([error]))
        result = Pipeline([ConvertToDict(reask=1)]).run_sync("no", context=context)
        assert result.error is not None
        assert result.error.type is ErrorType.BUDGET_DENIED

    def test_without_a_model_the_failure_stands(self) -> None:
        result = Pipeline([ConvertToDict(reask=1)]).run_sync("no")
        assert result.error is not None
        assert result.error.message == "no dict or list in the text"


class TestPartial:
    def test_every_snapshot_is_a_beginning_of_the_value(self) -> None:
        final = {"city": "Bern", "n": 1234, "tags": ["a", "b"], "ok": True, "none": None}
        text = f"Sure:\n```json\n{json.dumps(final)}\n```"
        partial = ConvertToDict().partial()
        assert isinstance(partial, Partial)
        for char in text:
            partial.feed(char)
            value = partial.value
            assert value is None or is_beginning(value, final), value
        assert partial.value == final
        assert partial.complete
        assert partial.text == text

    def test_thoughts_are_passed_over(self) -> None:
        partial = ConvertToDict().partial()
        partial.feed('<think>maybe {"a": 0}')
        assert partial.value is None
        partial.feed('</think>{"a": 1')
        assert partial.value == {}
        partial.feed("}")
        assert partial.value == {"a": 1}

    def test_text_behind_the_value_changes_nothing(self) -> None:
        partial = ConvertToDict().partial()
        partial.feed('{"a": 1} and {"b": 2}')
        assert partial.value == {"a": 1}

    def test_text_that_is_no_json_keeps_the_last_snapshot(self) -> None:
        partial = ConvertToDict().partial()
        partial.feed('{"a": 1, ')
        assert partial.value == {"a": 1}
        partial.feed("oops")
        assert partial.value == {"a": 1}


def is_beginning(value: Any, final: Any) -> bool:
    """Tell whether `value` may still become `final`."""
    if isinstance(value, dict):
        return all(key in final and is_beginning(value[key], final[key]) for key in value)
    if isinstance(value, list):
        return len(value) <= len(final) and all(map(is_beginning, value, final))
    if isinstance(value, str):
        return isinstance(final, str) and final.startswith(value)
    return bool(value == final)


@pytest.mark.parametrize("text", ['{"a": 1e999}', "{'a': 1e999}", '{"a": 1e999, "b": "x'])
def test_numbers_that_do_not_fit_are_kept_as_text(text: str) -> None:
    assert convert(text).value["a"] == "1e999"  # type: ignore[call-overload]


def test_python_numbers_of_every_notation() -> None:
    value = convert("{'a': 0b101, 'b': -0x10, 'c': 0o17, 'd': 1_0.5, 'e': NaN}").value
    assert isinstance(value, dict)
    assert [value[key] for key in "abcd"] == [5, -16, 15, 10.5]
    assert math.isnan(value["e"])


def test_lone_surrogates_do_not_break_anything() -> None:
    assert convert('{"a": "\\ud83d"}').value == {"a": "\ud83d"}
    assert convert("{'a': '\ud83d', 'b'").value == {"a": "\ud83d"}
    assert convert('{"a": "\ud83d", "b": "x', cut=True).value == {"a": "\ud83d", "b": "x"}


def test_very_many_blocks_are_still_a_choice() -> None:
    conversion = convert('{"a": 2} ' + '{"a": 1} ' * 3000)
    assert conversion.value == {"a": 1}
    assert conversion.lossy


@pytest.mark.parametrize(
    "before",
    [
        "See [docs](x): ",
        "As in [1], ",
        "The {name} is ",
        "<scratchpad>{}</scratchpad>",
        "- [todo] ",
    ],
)
def test_brackets_before_the_value_are_no_snapshot(before: str) -> None:
    partial = ConvertToDict().partial()
    for char in before:
        partial.feed(char)
        assert partial.value is None
    for char in '{"a": [1]}':
        partial.feed(char)
    assert partial.value == {"a": [1]}
    assert partial.complete


@pytest.mark.parametrize("text", ["[1, 2]", "Result: [1, 2]", "[todo]\n[1, 2]"])
def test_a_list_on_its_own_streams_too(text: str) -> None:
    partial = ConvertToDict().partial()
    for char in text:
        partial.feed(char)
        assert partial.value in (None, [], [1], [1, 2])
    assert partial.value == [1, 2]
