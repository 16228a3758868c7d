"""The published prices: genai-prices' data, as installed or as `update_prices` fetched it.

genai-prices takes up to three seconds to import; nothing here does so before the first question.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from llm_core import CheckedRecord, Usage, immutable
from llm_metrics.price_file import PriceFile
from llm_metrics.unit_prices import UnitPrices

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice
    from genai_prices.types import Provider as Vendor

from llm_core.forks import begin_anew_in_children

__all__ = ["NOTHING", "Catalogue", "Quantities", "Quote"]

_log = logging.getLogger("llm_metrics")

# Our names where the catalogue's differ. There is no guessing beyond this: a self-hosted server that
# speaks a vendor's protocol must not be billed at the vendor's prices.
_VENDORS: Final = MappingProxyType(
    {
        "bedrock": "aws",
        "gemini": "google",
        "moonshot": "moonshotai",
        "vertex": "google",
        "xai": "x-ai",
    }
)
# What vendors call the price everybody pays.
_STANDARD: Final = frozenset({"auto", "default", "standard", "standard_only"})
_REMEMBERED: Final = 10_000


@immutable
class Quantities(CheckedRecord):
    """What is billed besides tokens."""

    audio_seconds: Decimal = Decimal(0)
    """Sound sent in, for models that are billed by the minute."""
    characters: int = 0
    """Text sent in, for models that are billed by the character."""
    web_searches: int = 0
    """Searches that the vendor ran for the model."""


NOTHING: Final = Quantities()


Quote = tuple[Decimal | None, str, bool]
"""The catalogue's answer: US dollars, where from, and whether that is the price that is billed.

None for what has no price; False where a price was taken that may not be the one.
"""


class _Edition:
    """One version of the prices, and which model each name was found to be."""

    __slots__ = ("_snapshot", "found", "source", "unit_prices")

    def __init__(self, snapshot: DataSnapshot, version: str) -> None:
        self._snapshot = snapshot
        self.source = f"genai-prices@{version}"
        self.unit_prices = UnitPrices()
        self.found: dict[tuple[str, str], tuple[Vendor, ModelInfo] | None] = {}
        """What `find` has returned, by its arguments."""

    def find(self, provider: str, model: str) -> tuple[Vendor, ModelInfo] | None:
        if len(self.found) >= _REMEMBERED:
            self.found.clear()
        found = self._look_up(_VENDORS.get(provider, provider), model)
        self.found[provider, model] = found
        return found

    def models(self, provider: str) -> list[str]:
        vendor_id = _VENDORS.get(provider, provider)
        vendors = [vendor for vendor in self._snapshot.providers if vendor.id == vendor_id]
        return [info.id for vendor in vendors for info in vendor.models]

    def _look_up(self, vendor_id: str, model: str) -> tuple[Vendor, ModelInfo] | None:
        providers = self._snapshot.providers
        vendor = next((vendor for vendor in providers if vendor.id == vendor_id), None)
        if vendor is None:
            return None
        info = vendor.find_model(model, all_providers=providers)
        return None if info is None else (vendor, info)


class Catalogue:
    """Looks up prices; any thread may ask. Answers to "which model is it" are remembered."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._edition: _Edition | None = None
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Wait for no thread that is reading: in a forked child there is none."""
        self._loading = threading.Lock()

    def load(self) -> None:
        """Read the prices now instead of at the first question."""
        self._current()

    def reload(self) -> None:
        """Read the prices again; who asks meanwhile is answered by the old ones."""
        with self._loading:
            self._edition = _read(self._path)

    def _current(self) -> _Edition:
        """Return the prices, which are read now unless they have been."""
        with self._loading:
            edition = self._edition = self._edition or _read(self._path)
        return edition

    def models(self, provider: str) -> list[str]:
        """Return the names of the provider's models that have a price."""
        return self._current().models(provider)

    def quote(
        self,
        usage: Usage,
        provider: str,
        model: str,
        at: datetime,
        tier: str | None,
        also: Quantities,
    ) -> Quote:
        """Return what `usage` and `also` cost by the prices of time `at`."""
        edition = self._edition or self._current()
        source = edition.source
        try:
            found = edition.found[provider, model]
        except KeyError:
            found = edition.find(provider, model)
        if found is None:
            return None, source, True
        vendor, info = found
        context = None if tier is None else _context(tier)
        if context is None and also is NOTHING:
            prices = info.prices if type(info.prices) is not list else info.get_prices(at)
            amount = edition.unit_prices.amount(prices, usage, _bill, vendor, info, at)
            if amount is not None:
                return amount, source, True
        try:
            amount = _bill(vendor, info, at, usage, also, context)
        except ValueError as error:  # contradicting numbers, such as more cached than sent
            _log.warning("no price for %s/%s: %s", provider, model, error)
            return None, source, True
        if amount is None or context is None or _has_variant(vendor, info, at, context):
            return amount, source, True
        return amount, f"{source} (standard; no {tier} price)", False


def _bill(
    vendor: Vendor,
    info: ModelInfo,
    at: datetime,
    usage: Usage,
    also: Quantities = NOTHING,
    context: Mapping[str, str] | None = None,
) -> Decimal | None:
    """Let the catalogue work out what was used; ValueError for numbers that contradict each other."""
    at = at.astimezone(UTC)
    if not _covers(info.get_prices(at, context), usage, also):
        return None
    made = info.calc_price(
        _to_usage(usage, also), vendor, genai_request_timestamp=at, price_context=context
    )
    return made.total_price


def _read(path: Path | None) -> _Edition:
    """Return the fetched prices if there are any that can be read, else those installed."""
    import genai_prices
    from genai_prices import data_snapshot

    if path is not None and path.exists():
        try:
            file = PriceFile.read(path)
            snapshot = data_snapshot.DataSnapshot(file.providers(), from_auto_update=True)
        except (OSError, ValueError) as error:
            _log.warning("prices in %s cannot be read, taking those installed: %s", path, error)
        else:
            return _Edition(snapshot, file.version)
    return _Edition(data_snapshot.get_snapshot(), genai_prices.__version__)


def _context(tier: str) -> Mapping[str, str] | None:
    """Return the catalogue's way to say a tier: each vendor has its own word for it."""
    if tier in _STANDARD:
        return None
    if tier == "batch":
        return {"processing": "batch"}
    return {"service_tier": tier, "speed": tier}


def _has_variant(vendor: Vendor, info: ModelInfo, at: datetime, context: Mapping[str, str]) -> bool:
    # The catalogue leaves variants out for a model that it takes from another vendor's list.
    if not any(info is model for model in vendor.models):
        return False
    return any(
        (variant.constraint is None or variant.constraint.active(at))
        and all(context.get(key) == value for key, value in variant.when.items())
        for variant in info.price_variants or ()
    )


def _covers(prices: ModelPrice, usage: Usage, also: Quantities) -> bool:
    """Tell whether everything used has a price: the catalogue takes what has none as free."""
    needed: list[tuple[Any, tuple[str, ...]]] = [
        (usage.input_tokens, ("input_mtok",)),
        (usage.output_tokens, ("output_mtok",)),
        (also.audio_seconds, ("input_audio_hours", "audio_hours")),
        (also.characters, ("input_mchars",)),
        (also.web_searches, ("web_searches_kcount",)),
    ]
    return all(
        any(getattr(prices, key) is not None for key in keys) for used, keys in needed if used
    )


def _to_usage(usage: Usage, also: Quantities) -> Any:
    from genai_prices import Usage as CatalogueUsage

    counts: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "input_audio_tokens": usage.audio_input_tokens,
        "output_audio_tokens": usage.audio_output_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "audio_seconds": also.audio_seconds,
        "input_audio_seconds": also.audio_seconds,
        "input_characters": also.characters,
        "web_searches": also.web_searches,
    }
    # The parts are reported one by one: nobody says how much of the sound was cached, or thought.
    if usage.audio_input_tokens:
        counts |= {"cache_audio_read_tokens": 0, "cache_audio_write_tokens": 0}
    if usage.audio_output_tokens:
        counts["output_audio_reasoning_tokens"] = 0
    return CatalogueUsage(
        **{name: count for name, count in counts.items() if count or "_audio_" in name}
    )
