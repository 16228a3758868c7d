"""The retry policy as data."""

from __future__ import annotations

from typing import Any

import pytest

from llm_core import ErrorInfo, ErrorType, InvalidValue
from llm_service import RetryPolicy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", True),
        ("max_attempts", "3"),
        ("initial_seconds", -1),
        ("max_seconds", float("nan")),
        ("max_retry_after_seconds", None),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=rf"RetryPolicy\.{field}: got "):
        RetryPolicy(**{field: value})


async def test_pauses_grow_up_to_the_maximum_and_are_spread_over_the_whole_span(
    bench: Any,
) -> None:
    busy = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
    policy = RetryPolicy(max_attempts=6, initial_seconds=1.0, max_seconds=4.0)
    pauses: list[list[float]] = [[], [], [], [], []]
    for _ in range(40):
        result = await bench(busy, retry=policy).generate_over(60, "?")
        for number, attempt in enumerate(result.attempts[:-1]):
            pauses[number].append(attempt.timestamps.backoff_seconds)
    for column, longest in zip(pauses, [1.0, 2.0, 4.0, 4.0, 4.0], strict=True):
        assert all(0.0 <= pause <= longest for pause in column)
        assert max(column) > 0.6 * longest
        assert min(column) < 0.4 * longest
