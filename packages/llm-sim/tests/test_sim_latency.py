"""Latency: distributions, and reading them."""

from __future__ import annotations

import random

import pytest

from llm_sim import ConfigurationError, Constant, Latency, LogNormal
from llm_sim.latency import parse_distribution


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("0.3", Constant(0.3)),
        ("constant:0.3", Constant(0.3)),
        ("lognormal:0.3", LogNormal(0.3)),
        ("lognormal:0.3,1", LogNormal(0.3, 1.0)),
    ],
)
def test_a_distribution_is_read(text: str, distribution: object) -> None:
    assert parse_distribution(text) == distribution


@pytest.mark.parametrize(
    "text", ["", "fast", "1,2", "constant:1,2", "lognormal:1,2,3", "gamma:1", "-1", "nan"]
)
def test_what_is_not_a_distribution_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"latency|must be a number"):
        parse_distribution(text)


def test_the_lognormal_has_its_median_and_its_tail() -> None:
    rng = random.Random(1)
    drawn = sorted(LogNormal(0.4, 0.5).draw(rng) for _ in range(4001))
    assert drawn[2000] == pytest.approx(0.4, rel=0.05)
    assert drawn[3800] == pytest.approx(0.4 * 2.276, rel=0.1)


def test_the_first_token_waits_for_the_prompt_too() -> None:
    latency = Latency(first_token=Constant(1.0), per_input_token_seconds=0.5, time_scale=2.0)
    assert latency.first(random.Random(0), input_tokens=4) == 6.0
    assert latency.next(random.Random(0)) == 0.0
