"""Sums over the attempts of a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from llm_core import Cost, CostStatus, InvocationAttempt, Usage

__all__ = ["bill", "total_cost"]

_NO_USAGE = Usage()
_NO_COST = Cost.total([])


def bill(attempts: Sequence[InvocationAttempt]) -> tuple[Usage, Cost]:
    """Return the tokens and the money of all attempts together."""
    if len(attempts) == 1:  # as in most calls
        only = attempts[0]
        return only.usage or _NO_USAGE, only.cost or _NO_COST
    usages = [attempt.usage for attempt in attempts if attempt.usage is not None]
    costs = [attempt.cost for attempt in attempts if attempt.cost is not None]
    return sum(usages[1:], usages[0]) if usages else _NO_USAGE, total_cost(costs)


def total_cost(costs: Iterable[Cost]) -> Cost:
    """Return the sum of money; of none, a priced zero.

    Amounts in several currencies have no sum: it is ``unpriced`` then, and the attempts keep the parts.
    Nothing is nothing in every currency.
    """
    counted = list(costs)
    if not counted:
        return _NO_COST
    if len(counted) == 1:
        return counted[0]
    currencies = {cost.currency for cost in counted if cost.amount}
    if len(currencies) > 1:
        return Cost(status=CostStatus.UNPRICED, source="several currencies")
    currency = currencies.pop() if currencies else counted[0].currency
    return Cost.total(
        cost if cost.currency == currency else replace(cost, currency=currency) for cost in counted
    )
