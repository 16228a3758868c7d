"""What the simulated calls would have cost."""

from __future__ import annotations

from decimal import Decimal
from fnmatch import fnmatchcase
from importlib import resources

from llm_core import Value, immutable
from llm_sim.exchange import Usage

_MILLION = Decimal(1_000_000)


@immutable
class Price(Value):
    """US dollars per million tokens of each kind."""

    model: str
    """Shell pattern of the model names it is for."""
    input: Decimal
    cached: Decimal
    cache_write: Decimal
    output: Decimal

    def of(self, usage: Usage) -> Decimal:
        """Return the cost of a usage in dollars."""
        fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        return (
            fresh * self.input
            + usage.cached_tokens * self.cached
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        ) / _MILLION


class PriceList:
    """The prices of the models that have one."""

    def __init__(self, prices: tuple[Price, ...] | None = None) -> None:
        self._prices = load() if prices is None else prices
        self._found: dict[str, Price | None] = {}

    def find(self, model: str) -> Price | None:
        """Return a model's price, None if there is none."""
        if model not in self._found:
            fitting = (price for price in self._prices if fnmatchcase(model, price.model))
            self._found[model] = next(fitting, None)
        return self._found[model]


def load() -> tuple[Price, ...]:
    """Read the package's price list."""
    import yaml

    text = resources.files("llm_sim").joinpath("prices.yaml").read_text(encoding="utf-8")
    return tuple(
        Price(
            model=row["model"],
            input=Decimal(row["input"]),
            cached=Decimal(row["cached"]),
            cache_write=Decimal(row.get("cache_write", row["input"])),
            output=Decimal(row["output"]),
        )
        for row in yaml.safe_load(text)
    )
