"""What the tokens of a model cost each, asked of the catalogue once.

genai-prices works every bill out from the ground: which tokens are part of which, and which of them have a price of
their own. That takes it 80 µs. As long as no price depends on how much was used, a bill is a sum of tokens times
prices; what these are is found by a few bills that differ in one kind of token each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from operator import attrgetter, mul
from typing import Any, Final

from llm_core import Usage

__all__ = ["UnitPrices"]

_KINDS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)
_counts_of = attrgetter(*_KINDS)
_MILLION: Final = 1_000_000
_SAMPLE: Final = (8, 8, 1, 1, 1, 1, 1)
"""Millions of tokens of each kind, of which the parts fit into their totals with one million more of any kind."""

Bill = Callable[[Usage], Decimal | None]
"""What the catalogue asks for some usage: US dollars, None if it has no price for it."""


class UnitPrices:
    """The prices per million tokens of one edition of the catalogue."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[bool, ...]], tuple[Decimal, ...] | None] = {}
        """By price list and by which kinds of token were used: prices of the kinds, and at the end of a request."""
        self._kept: list[Any] = []
        """The lists that are known by their `id`."""

    def amount(self, prices: Any, usage: Usage, bill: Bill) -> Decimal | None:
        """Return what `usage` costs by a price list; None where that is not a sum, or may contradict itself.

        `bill` is asked for usage of the same kinds the first time.
        """
        counts = _counts_of(usage)
        read, written, thought, heard, said = counts[2:]
        if read + written + heard > counts[0] or thought + said > counts[1]:
            return None
        key = (id(prices), tuple(map(bool, counts)))
        try:
            per_million = self._known[key]
        except KeyError:
            self._kept.append(prices)
            per_million = self._known[key] = _per_million(prices, key[1], bill)
        if per_million is None:
            return None
        return sum(map(mul, counts, per_million), per_million[-1]) / _MILLION


def _per_million(prices: Any, used: Sequence[bool], bill: Bill) -> tuple[Decimal, ...] | None:
    """Find the prices by bills for millions; None if they depend on how much is used, or somebody cannot say."""
    from genai_prices.types import TieredPrices

    if any(isinstance(price, TieredPrices) for price in vars(prices).values()):
        return None
    sample = [many * _MILLION * each for many, each in zip(_SAMPLE, used, strict=True)]

    def bill_of(counts: Sequence[int]) -> Decimal:
        tokens: dict[str, Any] = dict(zip(_KINDS, counts, strict=True))
        amount = bill(Usage(**tokens))
        if amount is None:
            raise ValueError("the catalogue has no price for this")
        return amount

    try:
        base = bill_of(sample)
        found = [Decimal(0)] * len(_KINDS)
        for place in (place for place, each in enumerate(used) if each):
            more = [count + _MILLION * (place == at) for at, count in enumerate(sample)]
            found[place] = bill_of(more) - base
        request = base * _MILLION - sum(map(mul, sample, found), Decimal(0))
        other = [count * 3 // 1000 + 7 * each for count, each in zip(sample, used, strict=True)]
        as_expected = (sum(map(mul, other, found), request)) / _MILLION == bill_of(other)
    except ValueError:
        return None
    return (*found, request) if as_expected else None
