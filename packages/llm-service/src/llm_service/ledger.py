"""Sums over the attempts of a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llm_core import Cost, CostStatus, Usage

__all__ = ["total_cost", "total_usage"]

_NO_USAGE = Usage()
_NO_COST = Cost.total([])


def total_usage(usages: Sequence[Usage]) -> Usage:
    """Return the sum of tokens."""
    # Most calls have one attempt, whose usage is the sum.
    return sum(usages[1:], usages[0]) if usages else _NO_USAGE


def total_cost(costs: Iterable[Cost]) -> Cost:
    """Return the sum of money; of none, a priced zero.

    Amounts in several currencies have no sum: it is ``unpriced`` then, and the attempts keep the parts.
    """
    counted = list(costs)
    if not counted:
        return _NO_COST
    if len(counted) == 1:
        return counted[0]
    if len({cost.currency for cost in counted}) > 1:
        return Cost(status=CostStatus.UNPRICED, source="several currencies")
    return Cost.total(counted)
