from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers as installed

from llm_core import InvalidValue, Usage
from llm_core.testing import ManualClock
from llm_metrics import (
    PriceBook,
    PriceUpdate,
    PriceUpdater,
    UpdateOutcome,
    default_prices_path,
    price_updates,
    update_prices,
)
from llm_metrics.price_file import PriceFile

AT = datetime(2026, 11, 1, tzinfo=UTC)
MODELS = sum(len(vendor.models) for vendor in installed)


def published(price: str = "99", models: int = MODELS) -> list[dict[str, Any]]:
    """Return a small price list in the published format."""
    named = [
        {
            "id": f"model-{number}",
            "match": {"equals": f"model-{number}"},
            "prices": {"input_mtok": float(price), "output_mtok": 1},
        }
        for number in range(models)
    ]
    return [{"id": "openai", "name": "OpenAI", "api_pattern": "https://x", "models": named}]


class Publisher:
    """A web server that publishes prices, as a test tells it."""

    def __init__(self) -> None:
        self.body = json.dumps(published()).encode()
        self.etag: str | None = '"v1"'
        self.status = 200
        self.asked_with: list[str | None] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("If-None-Match")
                publisher.asked_with.append(asked)
                same = asked is not None and asked == publisher.etag
                self.send_response(304 if same else publisher.status)
                if publisher.etag:
                    self.send_header("ETag", publisher.etag)
                body = b"" if same else publisher.body
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/data.json"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "prices.json"


def test_new_prices_are_fetched_checked_and_used(publisher: Publisher, path: Path) -> None:
    update = update_prices(path, url=publisher.url, clock=ManualClock())
    assert (update.outcome, update.models) == (UpdateOutcome.UPDATED, MODELS)
    assert update.version.startswith("2026-01-01.")
    cost = PriceBook(prices_file=path).price(
        Usage(input_tokens=1_000_000), provider="openai", model="model-1", at=AT
    )
    assert (cost.amount, cost.source) == (Decimal(99), f"genai-prices@{update.version}")
    assert PriceUpdate.from_dict(update.to_dict()) == update


def test_the_etag_spares_a_second_transfer(publisher: Publisher, path: Path) -> None:
    first = update_prices(path, url=publisher.url)
    second = update_prices(path, url=publisher.url)
    assert publisher.asked_with == [None, '"v1"']
    assert (second.outcome, second.version) == (UpdateOutcome.UNCHANGED, first.version)
    publisher.etag, publisher.body = '"v2"', json.dumps(published("7")).encode()
    assert update_prices(path, url=publisher.url).outcome is UpdateOutcome.UPDATED


def test_another_address_is_not_asked_with_this_ones_etag(publisher: Publisher, path: Path) -> None:
    update_prices(path, url=publisher.url)
    update_prices(path, url=f"{publisher.url}?other")
    assert publisher.asked_with == [None, None]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>sign in</html>", "JSONDecodeError"),
        (b'{"error": 1}', "expected a list of providers"),
        (b'[{"id": "openai"}]', "validation error"),
        (json.dumps(published("-1")).encode(), None),
        (json.dumps(published(models=MODELS // 3)).encode(), "the new prices name"),
    ],
    ids=["no-json", "no-list", "no-prices", "negative", "shrunk"],
)
def test_what_makes_no_sense_replaces_nothing(
    publisher: Publisher, path: Path, body: bytes, said: str | None
) -> None:
    good = update_prices(path, url=publisher.url)
    kept = path.read_bytes()
    publisher.etag, publisher.body = '"v2"', body
    update = update_prices(path, url=publisher.url)
    assert (update.outcome, update.version) == (UpdateOutcome.KEPT, good.version)
    assert said is None or said in update.reason
    assert path.read_bytes() == kept


def test_an_error_of_the_server_keeps_the_last_good_copy(publisher: Publisher, path: Path) -> None:
    good = update_prices(path, url=publisher.url)
    publisher.status, publisher.etag = 503, '"v2"'
    update = update_prices(path, url=publisher.url)
    assert (update.outcome, update.version) == (UpdateOutcome.KEPT, good.version)
    assert "503" in update.reason


def test_an_answer_that_is_no_http_keeps_the_last_good_copy(path: Path) -> None:
    def talk_nonsense(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"220 mail.example ESMTP\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=talk_nonsense, args=(server,))
        thread.start()
        report = update_prices(path, url=f"http://127.0.0.1:{server.getsockname()[1]}/data.json")
        thread.join(10)
    assert report.outcome is UpdateOutcome.KEPT
    assert "BadStatusLine" in report.reason
    assert not path.exists()


def test_without_a_network_the_installed_prices_stay(path: Path) -> None:
    update = update_prices(path, url="http://127.0.0.1:1/data.json", timeout_seconds=2)
    assert (update.outcome, update.version) == (UpdateOutcome.KEPT, genai_prices.__version__)
    assert update.models == MODELS
    assert not path.exists()


def test_an_endless_answer_is_cut_off(
    publisher: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_updates, "_MOST_BYTES", 10)
    assert "more than 10 bytes" in update_prices(path, url=publisher.url).reason


def test_only_the_web_is_asked(path: Path) -> None:
    with pytest.raises(InvalidValue, match="file:///etc/passwd"):
        update_prices(path, url="file:///etc/passwd")


def test_a_spoilt_file_is_fetched_anew(
    publisher: Publisher, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    for spoilt in ("{", "{}", '{"format": 1}'):
        path.write_text(spoilt, encoding="utf-8")
        assert update_prices(path, url=publisher.url).outcome is UpdateOutcome.UPDATED
    assert len(caplog.records) == 3


def test_a_book_with_a_spoilt_file_takes_the_installed_prices(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_text("{", encoding="utf-8")
    book = PriceBook(prices_file=path)
    cost = book.price(Usage(input_tokens=1), provider="openai", model="gpt-5", at=AT)
    assert cost.source == f"genai-prices@{genai_prices.__version__}"
    assert str(path) in caplog.text


def test_a_failed_write_leaves_no_half_file(path: Path) -> None:
    file = PriceFile(raw=[object()], url="http://x", fetched_at="2026-01-01")
    with pytest.raises(TypeError):
        file.write(path)
    assert list(path.parent.iterdir()) == []


def test_the_default_place_follows_the_environment() -> None:
    assert default_prices_path({"LLM_PRICES_PATH": "/x/p.json"}) == Path("/x/p.json")
    assert default_prices_path({"XDG_CACHE_HOME": "/c"}) == Path("/c/llm-metrics/prices.json")
    assert default_prices_path({}) == Path.home() / ".cache" / "llm-metrics" / "prices.json"


def test_the_default_place_is_used(
    publisher: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PRICES_PATH", str(path))
    update_prices(url=publisher.url)
    assert path.exists()


class TestUpdater:
    def test_an_update_reaches_the_book(self, publisher: Publisher, path: Path) -> None:
        book = PriceBook(prices_file=path)
        usage = Usage(input_tokens=1_000_000)
        before = book.price(usage, provider="openai", model="model-1", at=AT)
        updater = PriceUpdater(book, update=lambda: update_prices(path, url=publisher.url))
        assert updater.last is None
        updater.update_once()
        assert updater.last is not None
        assert before.amount is None
        assert book.price(usage, provider="openai", model="model-1", at=AT).amount == 99
        updater.update_once()
        assert updater.last.outcome is UpdateOutcome.UNCHANGED
        assert updater.failures == 0

    def test_failures_are_survived_and_counted(self, path: Path) -> None:
        reports: list[Any] = [OSError("disk full"), UpdateOutcome.KEPT, UpdateOutcome.UNCHANGED]
        done = threading.Event()

        def update() -> PriceUpdate:
            report = reports.pop(0)
            if not reports:
                done.set()
            if isinstance(report, Exception):
                raise report
            return PriceUpdate(outcome=report, version="1", models=1)

        updater = PriceUpdater(PriceBook(), interval_seconds=0.001, update=update)
        updater.start()
        updater.start()
        assert done.wait(10)
        updater.stop()
        updater.stop()
        assert updater.failures >= 2

    def test_by_default_it_fetches_into_the_books_own_file(
        self, publisher: Publisher, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Path | None] = []

        def fetch(path: Path | None) -> PriceUpdate:
            asked.append(path)
            return PriceUpdate(outcome=UpdateOutcome.UNCHANGED, version="1", models=1)

        monkeypatch.setattr(price_updates, "update_prices", fetch)
        PriceUpdater(PriceBook(prices_file=path)).update_once()
        assert asked == [path]

    def test_an_interval_must_be_positive(self) -> None:
        with pytest.raises(InvalidValue, match="interval_seconds"):
            PriceUpdater(PriceBook(), interval_seconds=0)

    def test_a_book_that_reads_no_file_is_refused(self) -> None:
        with pytest.raises(InvalidValue, match="prices_file"):
            PriceUpdater(PriceBook())
