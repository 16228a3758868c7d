"""How long a simulated model takes: a time to the first token and a time for each further one."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Protocol

from llm_sim.errors import ConfigurationError


class Distribution(Protocol):
    """A source of waiting times."""

    def draw(self, rng: random.Random) -> float:
        """Return seconds, 0 or more."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same time."""

    seconds: float

    def __post_init__(self) -> None:
        _check(self.seconds, "Constant.seconds")

    def draw(self, rng: random.Random) -> float:
        """Return the one value."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Mostly near the median, with the long tail that real vendors have.

    `sigma` is the standard deviation of the logarithm: 0.5 puts the 95th percentile at 2.3 times
    the median, 1.0 at 5.2 times.
    """

    median_seconds: float
    sigma: float = 0.5

    def __post_init__(self) -> None:
        _check(self.median_seconds, "LogNormal.median_seconds")
        _check(self.sigma, "LogNormal.sigma")

    def draw(self, rng: random.Random) -> float:
        """Draw one value."""
        return self.median_seconds * math.exp(self.sigma * rng.gauss(0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The time to the first token, the time for each output token after it, and a scale on both."""

    first_token: Distribution = field(default_factory=lambda: Constant(0.0))
    per_token: Distribution = field(default_factory=lambda: Constant(0.0))
    per_input_token_seconds: float = 0.0
    """Added to the first token's time for each token of the prompt."""
    time_scale: float = 1.0
    """Multiplies every time, scripted delays and slow faults too: 0.1 runs ten times as fast."""

    def __post_init__(self) -> None:
        _check(self.per_input_token_seconds, "Latency.per_input_token_seconds")
        _check(self.time_scale, "Latency.time_scale")

    def first(self, rng: random.Random, *, input_tokens: int) -> float:
        """Draw the seconds until the first token."""
        wait = self.first_token.draw(rng) + self.per_input_token_seconds * input_tokens
        return wait * self.time_scale

    def next(self, rng: random.Random) -> float:
        """Draw the seconds that one further token takes; constant within one reply."""
        return self.per_token.draw(rng) * self.time_scale


def parse_distribution(text: str) -> Distribution:
    """Read `0.3`, `constant:0.3` or `lognormal:0.3,0.5` (median, sigma).

    Raises ConfigurationError for anything else.
    """
    kind, _, rest = text.rpartition(":")
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if kind in ("", "constant") and len(numbers) == 1:
        return Constant(numbers[0])
    if kind == "lognormal" and len(numbers) in (1, 2):
        return LogNormal(*numbers)
    raise ConfigurationError(
        f"not a latency: {text!r}; expected seconds, 'constant:SECONDS' or 'lognormal:MEDIAN,SIGMA'"
    )


def _check(value: float, name: str) -> None:
    if not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be a number from 0 up, got {value!r}")
