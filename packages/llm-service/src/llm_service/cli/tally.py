"""Counting results as they come by, in a few numbers however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from llm_service.cli.model_names import told

__all__ = ["Tally", "shown_cost", "shown_count", "shown_duration"]


class Tally:
    """Totals over results in the form of `GenerationResult.to_dict`."""

    def __init__(self) -> None:
        self.results = 0
        self.succeeded = 0
        self.degraded: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        """By error type."""
        self.first_failure = ""
        """What went wrong with the first result that failed, and which line of the input it answers."""
        self.attempts = 0
        self.cached = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.costs: dict[str, Decimal] = {}
        """By currency; what is known of it."""
        self.unpriced = 0
        """Results that used tokens whose price is not known."""

    def add(self, result: Mapping[str, Any]) -> None:
        """Count one result; what an older or foreign writer left out counts as nothing."""
        self.results += 1
        if result.get("success"):
            self.succeeded += 1
        else:
            error = result.get("error") or {}
            self.failures[error.get("type") or "unknown"] += 1
            self.first_failure = self.first_failure or _told(result, error)
        if result.get("degraded"):
            self.degraded[result["degraded"].get("reason") or "unknown"] += 1
        self.attempts += len(result.get("attempts") or ())
        self.cached += bool(result.get("cached"))
        usage = result.get("usage") or {}
        tokens_in, tokens_out = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
        self.input_tokens += tokens_in
        self.output_tokens += tokens_out
        cost = result.get("cost") or {}
        if cost.get("amount") is not None:
            currency = cost.get("currency") or "USD"
            self.costs[currency] = self.costs.get(currency, Decimal(0)) + Decimal(cost["amount"])
        if (cost.get("status") or "unpriced") == "unpriced" and tokens_in + tokens_out:
            self.unpriced += 1

    @property
    def failed(self) -> int:
        """Results that are failures."""
        return self.results - self.succeeded

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def lines(self, total: int, *, seconds: float, before: int) -> list[str]:
        """Return the totals in lines of less than 80 columns.

        `before` results were there already, and the others took `seconds`.
        """
        now = self.results - before
        pace = f"{shown_duration(seconds)} ({now / max(seconds, 1e-9):.1f}/s)"
        costs = f", {shown_cost(self)}" if self.costs else ""
        spent = (
            f"{self.attempts} attempt{'s' * (self.attempts != 1)}, {shown_count(self.input_tokens)} tokens in, "
            f"{shown_count(self.output_tokens)} out{costs}"
        )
        if before:
            told = [
                f"{self.succeeded} of {total} answered",
                f"now: {now} in {pace}; found done before: {before}",
                f"in all: {spent}",
            ]
        else:
            told = [f"{self.succeeded} of {total} answered in {pace}", spent]
        if self.failures:
            kinds = ", ".join(f"{count} {name}" for name, count in self.failures.most_common())
            told.append(f"failed: {kinds}")
        return told


def _told(result: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    line = ((result.get("request") or {}).get("metadata") or {}).get("input_line")
    where = f"line {line}: " if line is not None else ""
    message = str(error.get("message") or "no reason given")
    words = " ".join(told(message, error.get("exception"), error.get("details") or {}).split())
    return f"{where}{error.get('type') or 'unknown'}: {words}"


def shown_cost(tally: Tally) -> str:
    """Return what is known of the cost; ``≥`` stands before a sum in which prices are missing."""
    if not tally.costs:
        return "no price known" if tally.unpriced else "0"
    sums = [
        f"${_amount(amount)}" if currency == "USD" else f"{_amount(amount)} {currency}"
        for currency, amount in sorted(tally.costs.items())
    ]
    return ("≥ " if tally.unpriced else "") + " + ".join(sums)


def _amount(amount: Decimal) -> str:
    """Return money with as many places as its size asks for."""
    return f"{amount:.2f}" if amount >= 100 else f"{amount:.4f}" if amount >= 1 else f"{amount:.6f}"


def shown_count(number: int) -> str:
    """Return a number in four or five characters: 950, 12.3k, 4.1M."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if number >= size:
            return f"{number / (1000 if letter == 'k' else size):.1f}{letter}"
    return str(number)


def shown_duration(seconds: float) -> str:
    """Return a duration as people say it: 4.2 s, 5 min 3 s, 34 h 17 min."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
