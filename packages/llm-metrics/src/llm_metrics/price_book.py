"""`PriceBook`: what calls cost, and how sure that is."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_core import (
    Clock,
    Cost,
    CostStatus,
    GenerationResult,
    InvalidValue,
    InvocationAttempt,
    SystemClock,
    Usage,
    unchecked,
)
from llm_metrics.price_catalogue import NOTHING, Catalogue, Quantities
from llm_metrics.price_overrides import Override, PriceOverrides

__all__ = ["PriceBook"]

_log = logging.getLogger("llm_metrics")

_WARNINGS_REMEMBERED = 1_000
# Looked up once, as every call has a price.
_PRICED, _ESTIMATED = CostStatus.PRICED, CostStatus.ESTIMATED
_cost = unchecked(Cost)


class PriceBook:
    """Prices from three places; the first that knows one answers.

    The provider's own bill (`reported`), then `overrides` (a YAML file of one's own, see
    `PriceOverrides`), then genai-prices' published data: the copy in `prices_file` if there is one
    (see `update_prices`), else what is installed.

    Every `Cost` says where it is from (``provider``, ``override``, ``genai-prices@0.2.3``) and how
    sure it is: ``priced``; ``estimated`` when the tokens were counted here, or when the tier asked
    for has no price of its own and the standard one was taken; ``unpriced`` with no amount when
    anything used has no known price. It never raises for a model it does not know: it logs, once
    per model, what to put into the override file.

    The first question to the published data imports genai-prices, which can take seconds: call
    `preload` when the program starts.
    """

    def __init__(
        self,
        *,
        overrides: PriceOverrides | str | Path | None = None,
        prices_file: str | Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.use_overrides(overrides)
        self._prices_file = None if prices_file is None else Path(prices_file)
        self._catalogue = Catalogue(self._prices_file)
        self._clock = clock or SystemClock()
        self._warned: set[tuple[str, str]] = set()

    @property
    def prices_file(self) -> Path | None:
        """Where fetched prices are read from."""
        return self._prices_file

    def use_overrides(self, overrides: PriceOverrides | str | Path | None) -> None:
        """Go by other prices of one's own from the next call on, None for none.

        A file that is wrong changes nothing, and raises what `PriceOverrides.read` raises.
        """
        if isinstance(overrides, (str, Path)):
            overrides = PriceOverrides.read(overrides)
        self._overrides = overrides or None

    def preload(self, *, wait: bool = True) -> None:
        """Read the published prices now; with `wait=False` on a thread of its own."""
        if wait:
            self._catalogue.load()
        else:
            thread = threading.Thread(
                target=self._catalogue.load, name="llm-metrics-preload", daemon=True
            )
            thread.start()

    def reload(self) -> None:
        """Read `prices_file` again, on this thread; who asks meanwhile gets the old prices."""
        self._catalogue.reload()

    def models(self, provider: str) -> list[str]:
        """Return the names of the provider's models whose prices are published or one's own, sorted."""
        own = self._overrides.models(provider) if self._overrides is not None else []
        return sorted({*own, *self._catalogue.models(provider)})

    def price(
        self,
        usage: Usage,
        *,
        provider: str,
        model: str,
        at: datetime,
        tier: str | None = None,
        also: Quantities = NOTHING,
        reported: Cost | None = None,
    ) -> Cost:
        """Return what `usage` cost by the prices of time `at` (timezone-aware).

        `tier` is how it was processed, in the vendor's word: ``batch``, ``flex``, ``priority``,
        ``fast``; None and ``default`` mean the standard. `also` is what is billed besides tokens.
        `reported` is the provider's own bill, which is taken as it is.
        """
        if at.tzinfo is None:
            raise InvalidValue.of("PriceBook.price.at", at, "a time with its timezone")
        if reported is not None and reported.amount is not None:
            return replace(reported, status=CostStatus.PRICED, source="provider")
        overrides = self._overrides
        if overrides is not None:
            override = overrides.find(provider=provider, model=model, at=at, tier=tier)
            if override is not None:
                return _own_cost(override, usage, also)
        amount, source, exact = self._catalogue.quote(usage, provider, model, at, tier, also)
        if amount is None:
            self._warn_once(provider, model)
            return Cost(source=source)
        status = _PRICED if exact and not usage.estimated else _ESTIMATED
        return _cost(amount=amount, status=status, source=source)

    def snippet(self, *, provider: str, model: str) -> str:
        """Return the entry that gives a model a price, to paste into the override file.

        The numbers have to be filled in: as it is, the file is refused.
        """
        return (
            "prices:\n"
            f'  - provider: "{provider}"\n'
            f'    model: "{model}"\n'
            "    per_million_tokens:\n"
            "      input: FILL_IN   # US dollars\n"
            "      output: FILL_IN\n"
        )

    def reprice(
        self, result: GenerationResult[Any], *, at: datetime | None = None
    ) -> GenerationResult[Any]:
        """Return a stored result with the costs of its attempts, and their sum, computed anew.

        By the prices of the time of the call, or of `at`, and the standard tier's. What a provider
        reported itself stays, and so does the cost of an attempt without tokens: what was billed
        instead of them (minutes of sound, characters) is not stored with it.
        """
        at = at or result.timestamps.requested_at
        attempts = tuple(self._repriced(attempt, at) for attempt in result.attempts)
        costs = [attempt.cost for attempt in attempts if attempt.cost is not None]
        return replace(result, attempts=attempts, cost=Cost.total(costs) if costs else result.cost)

    def _repriced(self, attempt: InvocationAttempt, at: datetime) -> InvocationAttempt:
        billed = attempt.cost is not None and attempt.cost.source == "provider"
        if attempt.usage is None or not attempt.usage.total_tokens or billed:
            return attempt
        cost = self.price(attempt.usage, provider=attempt.provider, model=attempt.model, at=at)
        return replace(attempt, cost=cost)

    def _warn_once(self, provider: str, model: str) -> None:
        if (provider, model) in self._warned or len(self._warned) >= _WARNINGS_REMEMBERED:
            return
        self._warned.add((provider, model))
        today = self._clock.now().astimezone(UTC).date()
        _log.warning(
            "no price is known for %s/%s on %s; put one into the override file:\n%s",
            provider,
            model,
            today,
            self.snippet(provider=provider, model=model),
        )


def _own_cost(override: Override, usage: Usage, also: Quantities) -> Cost:
    amount = override.amount(usage, also)
    if amount is None:
        return Cost(currency=override.currency, source="override")
    status = _ESTIMATED if usage.estimated else _PRICED
    return Cost(amount=amount, currency=override.currency, status=status, source="override")
