"""Fields that may be one of several plain types, or hold what JSON does not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from llm_core import CheckedRecord, InvalidValue, immutable


@immutable
class Amount(CheckedRecord):
    amount: int | Decimal | None
    convert: type[int] | Callable[[str], int] = int


@pytest.mark.parametrize("amount", [3, Decimal("0.10"), None])
def test_the_type_that_fits_takes_the_value(amount: int | Decimal | None) -> None:
    written = json.loads(json.dumps(Amount(amount=amount).to_dict()))
    del written["convert"]
    assert Amount.from_dict(written) == Amount(amount=amount)


def test_a_value_that_fits_none_is_refused_with_all_that_would() -> None:
    with pytest.raises(InvalidValue, match=r"Amount\.amount: got 'x', expected .*int or a decimal"):
        Amount.from_dict({"amount": "x"})
    with pytest.raises(InvalidValue, match=r"expected .*int or a finite Decimal"):
        Amount(amount="x")  # type: ignore[arg-type]


def test_types_and_functions_are_kept_as_they_are() -> None:
    assert Amount(amount=1).convert is int
    assert Amount(amount=1, convert=len).convert is len  # type: ignore[arg-type]
