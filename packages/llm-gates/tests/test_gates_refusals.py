"""What a call is told that is not admitted."""

from __future__ import annotations

import pytest

from llm_gates.refusals import timed_out


@pytest.mark.parametrize(
    ("timeout", "wait_seconds", "queued", "said"),
    [
        (2.0, 30.0, 5, "got 2.000, but rpm needs at least 30.000 s more with 5 calls in the queue"),
        (1e-7, 3e-4, 1, "got 1e-07, but rpm needs at least 0.0003 s more with 1 call in the queue"),
        (0, 0.0, 0, "got 0.000, which leaves no time to wait, with 0 calls in the queue"),
        (
            -0.0003214,
            0.0,
            2,
            "got -0.0003, which leaves no time to wait, with 2 calls in the queue",
        ),
        (0.01, 0.0, 1, "rpm had no room within 0.010 s, with 1 call in the queue"),
    ],
)
def test_a_timeout_says_what_was_missing(
    timeout: float, wait_seconds: float, queued: int, said: str
) -> None:
    error = timed_out(timeout, "rpm", wait_seconds, queued)
    assert str(error) == f"timeout: {said}"
    assert error.retry_after == (wait_seconds or None)
