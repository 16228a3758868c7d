"""Tokens and money."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

from llm_core.errors import InvalidValue
from llm_core.record import CheckedRecord, require
from llm_core.value import immutable

__all__ = ["Cost", "CostStatus", "Usage"]


@immutable
class Usage(CheckedRecord):
    """LLM tokens of one attempt, or the sum over several: `a + b`, `sum(usages, Usage())`.

    The same call means the same numbers for every vendor: the totals include their parts.
    """

    input_tokens: int = 0
    """All tokens sent to the model, including `cache_read_tokens`, `cache_write_tokens` and
    `audio_input_tokens`.

    Anthropic reports cached tokens apart from its `input_tokens`; adapters add them.
    """
    output_tokens: int = 0
    """All tokens made by the model, including `reasoning_tokens` and `audio_output_tokens`."""
    cache_read_tokens: int = 0
    """The part of `input_tokens` that came from the vendor's prompt cache."""
    cache_write_tokens: int = 0
    """The part of `input_tokens` that was written to the vendor's prompt cache."""
    reasoning_tokens: int = 0
    """The part of `output_tokens` that was thought, not said."""
    audio_input_tokens: int = 0
    """The part of `input_tokens` that was sound."""
    audio_output_tokens: int = 0
    """The part of `output_tokens` that was sound."""
    estimated: bool = False
    """True if any number was counted here and not reported by the vendor."""

    def _validate(self) -> None:
        for name in _COUNTS:
            require(self, name, getattr(self, name) >= 0, "zero or more tokens")

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(
            **{name: getattr(self, name) + getattr(other, name) for name in _COUNTS},
            estimated=self.estimated or other.estimated,
        )


_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)


class CostStatus(StrEnum):
    """How far an amount can be trusted."""

    PRICED = "priced"
    """Reported usage times a known price, or the provider's own bill."""
    ESTIMATED = "estimated"
    """A known price, but the usage was counted here."""
    UNPRICED = "unpriced"
    """No price is known: the amount is None, or in a sum a lower bound."""


_TRUST = (CostStatus.PRICED, CostStatus.ESTIMATED, CostStatus.UNPRICED)


@immutable
class Cost(CheckedRecord):
    """Money, and where the number comes from: never a silent zero."""

    amount: Decimal | None = None
    """In units of `currency`, exact; None when no price is known."""
    currency: str = "USD"
    status: CostStatus = CostStatus.UNPRICED
    source: str = ""
    """Such as ``genai-prices@0.2.3``, ``override``, ``provider``; in a sum joined by commas."""

    def _validate(self) -> None:
        if self.status is not CostStatus.UNPRICED:
            expected = f"a Decimal, as status is {self.status.value!r}"
            require(self, "amount", self.amount is not None, expected)

    def __add__(self, other: Cost) -> Cost:
        """Add amounts; the sum is trusted as little as its least trusted part.

        Raises InvalidValue for two different currencies.
        """
        if not isinstance(other, Cost):
            return NotImplemented
        if self.currency != other.currency:
            expected = f"{self.currency!r}, as in what it is added to: convert one first"
            raise InvalidValue.of("Cost.currency", other.currency, expected)
        known = [cost.amount for cost in (self, other) if cost.amount is not None]
        sources = {name: None for cost in (self, other) for name in cost.source.split(",") if name}
        return Cost(
            amount=sum(known, Decimal(0)) if known else None,
            currency=self.currency,
            status=max(self.status, other.status, key=_TRUST.index),
            source=",".join(sources),
        )

    @classmethod
    def total(cls, costs: Iterable[Cost]) -> Cost:
        """Return the sum of `costs`; of none at all, a priced zero in USD.

        `sum` would need a start, and `Cost()`, whose price is unknown, would make the sum unpriced.
        """
        counted = list(costs)
        if not counted:
            return cls(amount=Decimal(0), status=CostStatus.PRICED)
        return functools.reduce(operator.add, counted)
