"""The example call of llm-core as fixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_core import GenerationResult, TelemetryEvent, example_call


@pytest.fixture
def make_result() -> Callable[..., GenerationResult[Any]]:
    """Give a function that makes the result of a call: a rate-limited attempt, then a streamed answer."""
    return example_call.example_result


@pytest.fixture
def result() -> GenerationResult[Any]:
    """Give that call's result, unchanged."""
    return example_call.example_result()


@pytest.fixture
def events_of() -> Callable[[GenerationResult[Any]], list[TelemetryEvent]]:
    """Give a function that tells a result's life as events."""
    return example_call.events_of


@pytest.fixture
def events(result: GenerationResult[Any]) -> list[TelemetryEvent]:
    """Give the life of the call as events."""
    return example_call.events_of(result)
