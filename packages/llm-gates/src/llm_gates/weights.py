"""What may be said about the weight of a call and the size of a limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from llm_core import InvalidValue

__all__ = ["check_estimate", "check_limit", "check_seconds", "check_weights"]


def check_weights(tokens: Any, output_tokens: Any = None, cost: Any = None) -> None:
    """Raise InvalidValue for a weight that would make room in a limit, or spoil its sums."""
    # A plain int, as nearly all are, needs no further look.
    if not (tokens.__class__ is int or _is_whole(tokens)) or tokens < 0:
        raise InvalidValue.of("tokens", tokens, "a whole number of at least 0")
    if output_tokens is not None and (
        not (output_tokens.__class__ is int or _is_whole(output_tokens)) or output_tokens < 0
    ):
        raise InvalidValue.of(
            "output_tokens", output_tokens, "a whole number of at least 0, or None"
        )
    if cost is None:
        return
    if (
        not (isinstance(cost, Decimal) or _is_whole(cost))
        or not Decimal(cost).is_finite()
        or cost < 0
    ):
        raise InvalidValue.of("cost", cost, "a Decimal of at least 0, or None")


def check_limit(limit: Any, field: str = "limit") -> None:
    """Raise InvalidValue for what is no number of calls or tokens; True is none either."""
    if not _is_whole(limit) or limit < 1:
        raise InvalidValue.of(field, limit, "a whole number of at least 1")


def check_seconds(field: str, seconds: Any) -> None:
    """Raise InvalidValue for what is no length of time from now."""
    if not 0 <= seconds < float("inf"):
        raise InvalidValue.of(field, seconds, "a finite number of seconds of at least 0")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_estimate(tokens: int, output_tokens: int | None, cost: Decimal | None) -> None:
    """Raise InvalidValue for what no call can ask for: as `check_weights`, or more output than tokens."""
    check_weights(tokens, output_tokens, cost)
    if output_tokens is not None and output_tokens > tokens:
        raise InvalidValue.of(
            "output_tokens", output_tokens, f"at most tokens={tokens!r}, of which it is a part"
        )
