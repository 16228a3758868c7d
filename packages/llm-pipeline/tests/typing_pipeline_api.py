"""How the public names look to a type checker; checked by mypy, never run."""

from __future__ import annotations

from typing import Any, assert_type

from llm_core import PipelineStep, StepContext
from llm_pipeline import (
    ConvertToDict,
    ForEach,
    ModelValidation,
    Outcome,
    Pipeline,
    PipelineResult,
    Step,
    StringMatchValidation,
    StripThinking,
)


class City:
    name: str = ""


async def ask_for(city: City) -> int:
    return len(city.name)


class Shout:
    @property
    def name(self) -> str:
        return "shout"

    def run(self, content: str, context: StepContext) -> str:
        return content.upper()


class Halve(Step[int, int]):
    def run(self, content: int, context: StepContext) -> int | Outcome:
        return content // 2


def chained() -> None:
    cities = Pipeline.of(StripThinking()).then(ConvertToDict()).then(ModelValidation(City))
    assert_type(cities, Pipeline[str, City])
    assert_type(cities.run_sync("x"), PipelineResult[City])
    assert_type(cities.run_sync("x").unwrap(), City)
    assert_type(cities.then(ask_for), Pipeline[str, int])
    assert_type(cities.then(ask_for).then(Halve()).then(str), Pipeline[str, str])
    assert_type(cities.run_sync("x").map(lambda city: city.name), PipelineResult[str])
    cities.run_sync(3)  # type: ignore[arg-type]


async def listed() -> None:
    pipeline: Pipeline[str, City] = Pipeline([StripThinking(), Shout(), ModelValidation(City)])
    assert_type(await pipeline.run("x"), PipelineResult[City])
    assert_type(Pipeline([str.strip, len]), Pipeline[Any, Any])
    step: PipelineStep = StringMatchValidation("x")
    Pipeline([step, ForEach([Halve()]), pipeline])
