"""The example call of llm-core as fixtures."""

from __future__ import annotations

from typing import Any

import pytest

from llm_core import GenerationResult, TelemetryEvent
from llm_core.example_call import events_of, example_result


@pytest.fixture
def result() -> GenerationResult[Any]:
    """Give the result of a call: a rate-limited attempt, then a streamed answer."""
    return example_result()


@pytest.fixture
def events(result: GenerationResult[Any]) -> list[TelemetryEvent]:
    """Give the life of the call as events."""
    return events_of(result)
