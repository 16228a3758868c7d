"""What the tokens of a model cost each, asked of the catalogue once.

genai-prices works every bill out from the ground: which tokens are part of which, and which of them have a price of
their own. That takes it 80 µs a bill. As long as no price depends on how much was used, a bill is a sum of tokens times
prices; what these are is found by a few bills that differ in one kind of token each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import Any, Final

from llm_core import Usage

__all__ = ["UnitPrices"]

_KINDS: Final = tuple(field.name for field in fields(Usage) if field.name != "estimated")
_counts_of = attrgetter(*_KINDS)
_MILLION: Final = 1_000_000
_SAMPLE: Final = tuple(8 if kind in ("input_tokens", "output_tokens") else 1 for kind in _KINDS)
"""Millions of tokens of each kind, of which the parts fit into their totals with one million more of any kind."""

Bill = Callable[..., Decimal | None]
"""What the catalogue asks for some usage, its last argument: US dollars, None if it has no price for it."""


_Tariff = tuple[Decimal, int, tuple[tuple[int, int], ...]]
"""An amount of dollars, and in whole multiples of it what a request costs besides its tokens, and by place among the
kinds what a token does."""


class UnitPrices:
    """The prices per million tokens of one edition of the catalogue."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, dict[tuple[bool, ...], _Tariff | None]]] = {}
        """By the `id` of a price list: the list, which keeps its `id` so, and tariffs by the kinds of token used."""

    def amount(self, prices: Any, usage: Usage, bill: Bill, *about: Any) -> Decimal | None:
        """Return what `usage` costs by a price list; None where that is not a sum, or may contradict itself.

        The first time, ``bill(*about, usage)`` is asked for usage of the same kinds.
        """
        sent, written = usage.input_tokens, usage.output_tokens
        counts: tuple[int, ...]
        if (
            usage.cache_read_tokens
            or usage.cache_write_tokens
            or usage.audio_input_tokens
            or usage.reasoning_tokens
            or usage.audio_output_tokens
        ):
            of_input = usage.cache_read_tokens + usage.cache_write_tokens + usage.audio_input_tokens
            of_output = usage.reasoning_tokens + usage.audio_output_tokens
            counts = _counts_of(usage)
            kinds_used = tuple(map(bool, counts))
        else:  # the first two kinds alone, as in most calls
            of_input = of_output = 0
            counts = (sent, written)
            kinds_used = (sent > 0, written > 0)
        if of_input > sent or of_output > written:
            return None
        _, tariffs = self._known.get(id(prices)) or self._known.setdefault(id(prices), (prices, {}))
        try:
            tariff = tariffs[kinds_used]
        except KeyError:
            tariff = tariffs[kinds_used] = _tariff(prices, kinds_used, partial(bill, *about))
        if tariff is None:
            return None
        unit, total, kinds = tariff
        for place, price in kinds:
            total += counts[place] * price
        return total * unit


def _tariff(prices: Any, used: Sequence[bool], bill: Bill) -> _Tariff | None:
    """Find the prices by bills for millions; None if they depend on how much is used, or the catalogue has none.

    What remains of a bill without its tokens is the price of a request, which few vendors have. A last bill, of small
    odd numbers, must come to the sum that is expected of it.
    """
    from genai_prices.types import TieredPrices

    if any(isinstance(price, TieredPrices) for price in vars(prices).values()):
        return None
    used = (*used, *[False] * (len(_KINDS) - len(used)))
    kinds = [place for place, each in enumerate(used) if each]
    sample = [many * _MILLION * each for many, each in zip(_SAMPLE, used, strict=True)]

    def bill_of(counts: Sequence[int]) -> Decimal:
        tokens: dict[str, Any] = dict(zip(_KINDS, counts, strict=True))
        amount = bill(Usage(**tokens))
        if amount is None:
            raise ValueError("the catalogue has no price for this")
        return amount

    try:
        base = bill_of(sample)
        found = []
        for place in kinds:
            more = [count + _MILLION * (place == at) for at, count in enumerate(sample)]
            found.append((place, bill_of(more) - base))
        request = base * _MILLION - sum(sample[place] * price for place, price in found)
        other = [count * 3 // 1000 + 7 * each for count, each in zip(sample, used, strict=True)]
        total = request + sum(other[place] * price for place, price in found)
        return _in_units(request, found) if total / _MILLION == bill_of(other) else None
    except ValueError:
        return None


def _in_units(request: Decimal, found: Sequence[tuple[int, Decimal]]) -> _Tariff:
    """Return prices of millions as those of one, in whole multiples of the largest power of ten that divides all."""
    prices = [request, *(price for _, price in found)]
    digits = max(-price.normalize().as_tuple().exponent for price in prices)  # type: ignore[operator]
    whole = [int(price.scaleb(digits)) for price in prices]
    kinds = zip((place for place, _ in found), whole[1:], strict=True)
    return Decimal(1).scaleb(-digits) / _MILLION, whole[0], tuple(kinds)
