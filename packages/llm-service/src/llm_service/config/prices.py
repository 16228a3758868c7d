"""A price book whose overrides can change while the service runs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from llm_core import Cost, Usage
from llm_metrics import PriceBook

__all__ = ["ConfiguredPriceBook"]


class ConfiguredPriceBook:
    """The known prices, and before them those of a file of one's own."""

    def __init__(self, overrides: Path | None = None) -> None:
        """Read the file; raises what `llm_metrics.PriceOverrides.read` raises for one that is wrong."""
        self._book = PriceBook(overrides=overrides)

    def price(
        self, usage: Usage, *, provider: str, model: str, at: datetime, **details: Any
    ) -> Cost:
        """Return the cost of `usage` by the prices of time `at`; `details` are those of `llm_metrics.PriceBook`."""
        return self._book.price(usage, provider=provider, model=model, at=at, **details)

    def use_overrides(self, overrides: Path | None) -> None:
        """Go by the file as it is now, from the next call on; a file that is wrong changes nothing and raises."""
        self._book = PriceBook(overrides=overrides)
