"""Steps that run steps, and steps that ask the model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_core import (
    AudioOutput,
    ConfigurationError,
    ErrorInfo,
    ErrorType,
    GenerationRequest,
    InvalidValue,
    Message,
    Tool,
)
from llm_pipeline import (
    Branch,
    ConvertToDict,
    ExtractValue,
    FirstOf,
    FlowStep,
    ForEach,
    Pipeline,
    PipelineResult,
    RangeValidation,
    Reask,
    RegexValidation,
    RunContext,
    SemanticIsolation,
    StringMatchValidation,
    Transform,
)
from llm_pipeline.testing import ScriptedGenerate


def run(step: Any, content: Any, context: RunContext | None = None) -> PipelineResult[Any]:
    return Pipeline([step]).run_sync(content, context=context)


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


class TestBranch:
    def test_a_function_decides(self) -> None:
        step = Branch(lambda text: "{" in text, then=[ConvertToDict()], otherwise=[str.upper])
        assert run(step, '{"a": 1}').content == {"a": 1}
        assert run(step, "x").content == "X"
        assert run(step, "x").steps[0].trail["branch"] == "otherwise"

    def test_a_step_decides_by_its_success(self) -> None:
        step = Branch(RegexValidation(r"\d+"), then=[int])
        assert run(step, "3").content == 3
        assert run(step, "x").content == "x"

    def test_a_condition_that_breaks_fails_the_step(self) -> None:
        result = run(Branch(lambda _: 1 / 0, then=[int]), "3")
        assert result.error is not None
        assert "Branch.when" in result.error.message

    def test_a_branch_that_fails_fails_the_step(self) -> None:
        result = run(Branch(lambda _: True, then=[int]), "x")
        assert result.content == "x"
        assert result.steps[0].trail["branch"] == "then"

    def test_needs_a_condition(self) -> None:
        with pytest.raises(InvalidValue, match=r"Branch\.when"):
            Branch([], then=[int])

    async def test_runs_async_steps_in_both_worlds(self) -> None:
        step = Branch(lambda n: n > 1, then=[double])
        assert (await Pipeline([step]).run(2)).content == 4
        assert (await asyncio.to_thread(run, step, 2)).content == 4
        outcome = await step.run(2, RunContext())
        assert outcome.value == 4


class TestForEach:
    def test_runs_on_lists_and_dicts(self) -> None:
        assert run(ForEach([int]), ["1", "2"]).content == [1, 2]
        assert run(ForEach(int), {"a": "1"}).content == {"a": 1}
        assert run(ForEach([double]), (1, 2)).content == [2, 4]

    def test_an_item_that_fails_fails_the_step_with_its_place(self) -> None:
        result = run(ForEach([int]), ["1", "x"])
        assert result.error is not None
        assert "ForEach[1]" in result.error.message

    def test_items_may_drop_out_or_stay(self) -> None:
        dropped = run(ForEach([int], on_item_error="drop"), ["1", "x", "3"])
        assert dropped.content == [1, 3]
        assert dropped.lossy
        assert dropped.degraded is not None
        assert dropped.steps[0].trail["failed"][0]["at"] == 1
        kept = run(ForEach([int], on_item_error="keep"), {"a": "1", "b": "x"})
        assert kept.content == {"a": 1, "b": "x"}

    def test_loss_inside_is_told(self) -> None:
        result = run(ForEach([ConvertToDict()]), ['{"a": 1}', '{"a": [1}'])
        assert result.lossy
        assert result.degraded is not None
        allowed = run(ForEach([ConvertToDict(lossy="allow")]), ['{"a": [1}'])
        assert allowed.lossy
        assert allowed.degraded is None

    def test_refuses_other_content(self) -> None:
        result = run(ForEach([int]), "12")
        assert result.error is not None
        assert "expected a list or dict" in result.error.message


class TestFirstOf:
    def test_the_first_success_wins(self) -> None:
        step = FirstOf([int, float, str.upper])
        assert run(step, "3").content == 3
        assert run(step, "3.5").content == 3.5
        result = run(step, "x")
        assert result.content == "X"
        assert result.steps[0].trail["alternative"] == 2
        assert len(result.steps[0].trail["failed"]) == 2

    def test_alternatives_may_be_lists(self) -> None:
        step = FirstOf([[ConvertToDict(), ExtractValue("a")], [str.strip, int]])
        assert run(step, " 3 ").content == 3
        assert run(step, "{'a': 1}").content == 1

    def test_a_success_without_loss_is_preferred(self) -> None:
        step = FirstOf([ConvertToDict(), Transform(lambda text: "exact")])
        assert run(step, '{"a": [1}').content == "exact"

    def test_a_lossy_value_is_better_than_none(self) -> None:
        result = run(FirstOf([ConvertToDict(), int]), '{"a": [1}')
        assert result.content == {"a": [1]}
        assert result.lossy
        assert result.steps[0].trail["alternative"] == 0
        both = run(FirstOf([ConvertToDict(), ConvertToDict(want="dict")]), '{"a": [1}')
        assert both.content == {"a": [1]}

    def test_loss_may_be_taken_as_it_comes(self) -> None:
        step = FirstOf([ConvertToDict(), str.upper], prefer_lossless=False)
        assert run(step, '{"a": [1}').content == {"a": [1]}

    def test_fails_when_all_fail(self) -> None:
        result = run(FirstOf([int, float]), "x")
        assert not result.success
        assert len(result.steps[0].trail["failed"]) == 2

    def test_needs_alternatives(self) -> None:
        with pytest.raises(InvalidValue, match="not empty"):
            FirstOf([])
        with pytest.raises(ConfigurationError, match=r"alternatives\[0\]"):
            FirstOf([3])


class TestReask:
    STEPS = (ConvertToDict(), ExtractValue("n"), RangeValidation(minimum=10))

    def test_sends_the_failure_back(self) -> None:
        generate = ScriptedGenerate(['{"n": 5}', '{"n": 12}'])
        request = GenerationRequest(user="A number?", model="m", assistant="{", pipeline=[len])
        context = RunContext(request=request, generate=generate)
        result = run(Reask(self.STEPS, attempts=3), '"n": 1}', context)
        assert result.content == 12
        trail = result.steps[0].trail
        assert trail["reasked"] == 2
        assert "got 1, expected at least 10" in trail["complaints"][0]
        first, second = (call for call, _ in generate.calls)
        turns = [message.text for message in first.conversation()]
        assert turns[0] == "A number?"
        assert turns[1] == '{"n": 1}'
        assert "expected at least 10" in turns[2]
        assert first.model == "m"
        assert first.pipeline is None
        assert '{"n": 5}' in [message.text for message in second.conversation()]

    def test_gives_up_after_its_attempts(self) -> None:
        generate = ScriptedGenerate(["{}"])
        result = run(Reask(self.STEPS, attempts=2), "no", RunContext(generate=generate))
        assert not result.success
        assert len(generate.calls) == 2
        assert result.steps[0].trail["reasked"] == 2

    def test_asks_nobody_when_all_is_well_or_nobody_is_there(self) -> None:
        generate = ScriptedGenerate(["x"])
        assert run(Reask(self.STEPS), '{"n": 12}', RunContext(generate=generate)).content == 12
        assert generate.calls == []
        result = run(Reask(self.STEPS), "no")
        assert result.error is not None
        assert "no dict or list" in result.error.message

    def test_a_call_that_fails_ends_it(self) -> None:
        generate = ScriptedGenerate([ErrorInfo.of(ErrorType.BUDGET_DENIED, "no money")])
        result = run(Reask(self.STEPS), "no", RunContext(generate=generate))
        assert result.error is not None
        assert result.error.type is ErrorType.BUDGET_DENIED

    def test_tools_stay_declared(self) -> None:
        generate = ScriptedGenerate(['{"n": 12}'])
        request = GenerationRequest(messages=(Message.user("?"),), tools=(Tool(name="t"),))
        run(Reask(self.STEPS), "no", RunContext(request=request, generate=generate))
        assert generate.calls[0][0].tools == request.tools

    def test_bad_parameters(self) -> None:
        with pytest.raises(InvalidValue, match="1 or more"):
            Reask([int], attempts=0)
        with pytest.raises(InvalidValue, match=r"holds \{error\}"):
            Reask([int], template="again")


class TestSemanticIsolation:
    TEXT = "Dear Ann,\nuse SELECT 1 FROM t; and all is well {content}."

    def isolate(self, reply: str | ErrorInfo, **options: Any) -> PipelineResult[Any]:
        self.generate = ScriptedGenerate([reply])
        context = RunContext(
            request=GenerationRequest(user="?", model="m", pipeline=[len], assistant="x"),
            generate=self.generate,
        )
        return run(SemanticIsolation("the SQL query", **options), self.TEXT, context)

    def test_takes_a_verbatim_answer(self) -> None:
        result = self.isolate('{"found": true, "element": "SELECT 1 FROM t;"}')
        assert result.content == "SELECT 1 FROM t;"
        trail = result.steps[0].trail
        assert trail["verbatim"]
        assert not trail["paraphrased"]
        assert self.TEXT[slice(*trail["span"])] == "SELECT 1 FROM t;"
        assert not result.lossy

    def test_the_call_is_structured_and_stands_on_the_ledger(self) -> None:
        self.isolate('{"found": true, "element": "SELECT 1 FROM t;"}', model="small")
        request, purpose = self.generate.calls[0]
        assert purpose == "isolation"
        assert request.model == "small"
        assert request.pipeline is None
        assert request.assistant is None
        assert request.response_schema is not None
        assert request.user is not None
        assert self.TEXT in request.user
        assert "the SQL query" in request.user

    def test_flags_a_paraphrase(self) -> None:
        result = self.isolate('{"found": true, "element": "SELECT one FROM t"}')
        assert result.content == "SELECT one FROM t"
        assert result.lossy
        assert result.degraded is not None
        assert result.steps[0].trail["paraphrased"]

    def test_a_paraphrase_may_be_refused_or_allowed(self) -> None:
        answer = '{"found": true, "element": "SELECT one FROM t"}'
        assert not self.isolate(answer, paraphrase="fail").success
        allowed = self.isolate(answer, paraphrase="allow")
        assert allowed.degraded is None
        assert allowed.lossy

    def test_other_blanks_and_quotes_are_no_paraphrase(self) -> None:
        result = self.isolate('{"found": true, "element": "`SELECT 1\\nFROM t;`"}')
        assert result.content == "SELECT 1 FROM t;"
        assert result.steps[0].trail["verbatim"]

    def test_says_when_it_is_not_there(self) -> None:
        result = self.isolate('{"found": false, "element": ""}')
        assert result.error is not None
        assert "does not hold 'the SQL query'" in result.error.message

    @pytest.mark.parametrize("reply", ["no JSON", "[1]", '{"element": 3}'])
    def test_refuses_answers_without_the_form(self, reply: str) -> None:
        result = self.isolate(reply)
        assert result.error is not None
        assert result.error.message.startswith("isolation: ")

    def test_a_call_that_fails_is_the_failure(self) -> None:
        result = self.isolate(ErrorInfo.of(ErrorType.RATE_LIMITED, "slow down", retry_after=3.0))
        assert result.error is not None
        assert result.error.type is ErrorType.RATE_LIMITED
        assert result.error.retry_after == 3.0

    def test_no_call_is_made_when_the_content_is_the_element(self) -> None:
        generate = ScriptedGenerate(["x"])
        step = SemanticIsolation("the SQL query", pattern=r"SELECT .*;")
        result = run(step, " SELECT 1; ", RunContext(generate=generate))
        assert result.content == "SELECT 1;"
        assert result.steps[0].skipped
        assert generate.calls == []

    def test_needs_a_model_and_text(self) -> None:
        step = SemanticIsolation("x")
        assert "no model is at hand" in str(run(step, "y").error)
        assert "empty text" in str(run(step, " ").error)
        assert "expected text" in str(run(step, 3).error)

    def test_works_without_a_request_and_with_audio_requests(self) -> None:
        generate = ScriptedGenerate(['{"found": true, "element": "y"}'])
        step = SemanticIsolation("x")
        assert run(step, "y", RunContext(generate=generate)).content == "y"
        request = GenerationRequest(
            user="?", output_modalities=("text", "audio"), audio_output=AudioOutput(voice="v")
        )
        context = RunContext(request=request, generate=generate)
        assert run(step, "y", context).content == "y"
        assert generate.calls[1][0].audio_output is None

    def test_bad_parameters(self) -> None:
        with pytest.raises(InvalidValue, match="a description"):
            SemanticIsolation(" ")
        with pytest.raises(InvalidValue, match=r"holds \{content\}"):
            SemanticIsolation("x", template="y")


def test_flow_steps_without_a_flow_fail() -> None:
    assert "has no flow method" in str(run(FlowStep(), 1).error)


async def test_cancellation_reaches_the_inner_steps() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait(content: Any) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(Pipeline([ForEach([FirstOf([wait])])]).run([1]))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


def test_inner_steps_keep_their_fallbacks() -> None:
    step = Branch(
        StringMatchValidation("x"), then=[Transform(int, fallback=0)], otherwise=[Transform(int)]
    )
    result = run(step, "x")
    assert result.content == 0
