"""Fetching published prices: checked before they replace anything, the last good copy kept."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llm_core import Clock, InvalidValue, Record, SystemClock, immutable
from llm_metrics.price_book import PriceBook
from llm_metrics.price_file import PriceFile, default_prices_path

if TYPE_CHECKING:
    from genai_prices.types import Provider as Vendor

__all__ = ["PRICES_URL", "PriceUpdate", "PriceUpdater", "UpdateOutcome", "update_prices"]

_log = logging.getLogger("llm_metrics")

PRICES_URL: Final = (
    "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main"
    "/prices/new_data/v2/data.json"
)
"""Where genai-prices publishes its data."""

# The data is 3 MB; ten times that is no price list any more.
_MOST_BYTES: Final = 30_000_000
# A new copy with less than half the models of the old one is a mishap, not a price change.
_LEAST_SHARE: Final = 0.5


class UpdateOutcome(StrEnum):
    """What an update came to."""

    UPDATED = "updated"
    UNCHANGED = "unchanged"
    """The server says that the copy here is the newest."""
    KEPT = "kept"
    """There is nothing better than the copy that was here; `reason` says why."""


@immutable
class PriceUpdate(Record):
    """The report of one update."""

    outcome: UpdateOutcome
    version: str
    """Of the prices that hold now."""
    models: int
    """How many models they name."""
    reason: str = ""
    """Why the old copy was kept."""


def update_prices(
    path: Path | None = None,
    *,
    url: str = PRICES_URL,
    timeout_seconds: float = 15.0,
    clock: Clock | None = None,
) -> PriceUpdate:
    """Fetch the published prices into `path` (default: `default_prices_path()`) if there are newer.

    Asks with the ETag of the copy at hand. What comes is read and compared before it replaces
    anything, in one step; whatever goes wrong on the way (no network, no sense in the answer, half
    the models missing) leaves the copy as it was, and the report says so. Raises InvalidValue for a
    `url` that is not HTTP, and OSError when the file cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise InvalidValue.of("update_prices.url", url, "an https:// or http:// address")
    path = default_prices_path() if path is None else path
    now = (clock or SystemClock()).now()
    file, vendors = _copy_at_hand(path)
    etag = file.etag if file is not None and file.url == url else None
    try:
        fetched = _fetch(url, etag, timeout_seconds, now)
        if fetched is None:
            return _report(UpdateOutcome.UNCHANGED, file, vendors)
        fresh = fetched.providers()
        _require_no_shrinking(_count(vendors), _count(fresh))
        _require_usable(fresh, now)
    except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
        reason = f"{type(error).__name__}: {error}"
        return replace(_report(UpdateOutcome.KEPT, file, vendors), reason=reason[:500])
    fetched.write(path)
    return _report(UpdateOutcome.UPDATED, fetched, fresh)


class PriceUpdater:
    """Updates the prices of a book in the background, until it is stopped; off unless started.

    The first update runs at once, the next ones every `interval_seconds`. A failed one is logged
    and counted in `failures`; the book keeps the prices it has. Unless `update` says otherwise it
    fetches into the book's `prices_file`; InvalidValue if the book has none.
    """

    def __init__(
        self,
        book: PriceBook,
        *,
        interval_seconds: float = 86_400.0,
        update: Callable[[], PriceUpdate] | None = None,
    ) -> None:
        if interval_seconds <= 0:
            raise InvalidValue.of("PriceUpdater.interval_seconds", interval_seconds, "above 0")
        if update is None and book.prices_file is None:
            expected = "a book with a prices_file, or what is fetched would never be read"
            raise InvalidValue.of("PriceUpdater.book", book, expected)
        self._book = book
        self._interval_seconds = interval_seconds
        self._update = update or (lambda: update_prices(book.prices_file))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._last: PriceUpdate | None = None

    @property
    def failures(self) -> int:
        """Updates that brought nothing because something went wrong."""
        return self._failures

    @property
    def last(self) -> PriceUpdate | None:
        """The latest report; None before the first."""
        return self._last

    def start(self) -> None:
        """Begin updating on a daemon thread; does nothing if it runs already."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(
                target=self._run, name="llm-metrics-prices", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float | None = 5.0) -> None:
        """Stop, waiting at most `timeout` seconds for an update under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def update_once(self) -> None:
        """Update now, on this thread; raises nothing."""
        try:
            self._last = self._update()
            if self._last.outcome is UpdateOutcome.UPDATED:
                self._book.reload()
        except Exception:  # noqa: BLE001 - the thread must survive whatever an update meets
            self._failures += 1
            _log.exception("updating prices failed")
            return
        if self._last.outcome is UpdateOutcome.KEPT:
            self._failures += 1
            _log.warning("prices were not updated: %s", self._last.reason)

    def _run(self) -> None:
        self.update_once()
        while not self._stop.wait(self._interval_seconds):
            self.update_once()


def _fetch(url: str, etag: str | None, timeout_seconds: float, now: datetime) -> PriceFile | None:
    """Return what is published, or None if it is what `etag` names."""
    # Half of what importing llm_metrics would cost; only who updates needs it.
    import http.client
    import urllib.error
    import urllib.request

    headers = {"Accept": "application/json", "User-Agent": "llm-metrics"}
    if etag:
        headers["If-None-Match"] = etag
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
            body = response.read(_MOST_BYTES + 1)
            new_etag = response.headers.get("ETag")
    except http.client.HTTPException as error:  # a cut or senseless answer, which is no OSError
        raise OSError(f"{url} did not answer in HTTP: {error!r}") from error
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.NOT_MODIFIED:
                return None
            raise OSError(f"{url} answered {error.code} {error.reason}") from error
    if len(body) > _MOST_BYTES:
        raise ValueError(f"{url} sent more than {_MOST_BYTES} bytes")
    fetched_at = now.astimezone(UTC).isoformat(timespec="seconds")
    return PriceFile(raw=json.loads(body), url=url, fetched_at=fetched_at, etag=new_etag)


def _copy_at_hand(path: Path) -> tuple[PriceFile | None, list[Vendor]]:
    """Return the fetched copy and its prices, or None and the prices installed."""
    try:
        file = PriceFile.read(path)
        return file, file.providers()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _log.warning("prices in %s cannot be read and will be fetched anew: %s", path, error)
    from genai_prices.data import providers

    return None, list(providers)


def _require_no_shrinking(before: int, after: int) -> None:
    if after < before * _LEAST_SHARE:
        raise ValueError(f"the new prices name {after} models, the old ones {before}")


def _require_usable(vendors: list[Vendor], now: datetime) -> None:
    """Ask for the price of nothing, which makes the library check each model's numbers."""
    from genai_prices import Usage

    nothing = Usage()
    for vendor in vendors:
        for model in vendor.models:
            model.calc_price(nothing, vendor, genai_request_timestamp=now)


def _count(vendors: list[Vendor]) -> int:
    return sum(len(vendor.models) for vendor in vendors)


def _report(outcome: UpdateOutcome, file: PriceFile | None, vendors: list[Vendor]) -> PriceUpdate:
    if file is not None:
        return PriceUpdate(outcome=outcome, version=file.version, models=_count(vendors))
    import genai_prices

    version = genai_prices.__version__
    return PriceUpdate(outcome=outcome, version=version, models=_count(vendors))
