"""Anthropic Message Batches: send requests together, fetch the results as lines of JSON."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from llm_sim import anthropic_wire as wire
from llm_sim.errors import Refusal
from llm_sim.exchange import Answer, Json, Request, Stamp
from llm_sim.fields import Fields, dump
from llm_sim.openai_batches import Complete

_STORED = 1000
_DAY_SECONDS = 86_400
_PATH = "/v1/messages/batches"


class AnthropicBatches:
    """The message batches of one simulator."""

    def __init__(self, complete: Complete, batch_seconds: float) -> None:
        self._complete = complete
        self._batch_seconds = batch_seconds
        self._batches: OrderedDict[str, _Batch] = OrderedDict()

    def resources(self) -> Iterator[tuple[str, str, Callable[..., Answer]]]:
        """Give method, path and handler of each."""
        one = rf"{_PATH}/(?P<name>[^/]+)"
        yield "POST", _PATH, self._create
        yield "GET", _PATH, self._list
        yield "GET", one, self._one
        yield "DELETE", one, self._delete
        yield "POST", f"{one}/cancel", self._cancel
        yield "GET", f"{one}/results", self._results

    def _create(self, request: Request, stamp: Stamp, /) -> Answer:
        fields = Fields(wire.read_json(request.body), wire.WORDING)
        fields.known(("requests", "user_profile_id", "workspace_id"))
        if "requests" not in fields.body:
            raise wire.WORDING.missing("requests")
        requests = fields.items("requests")
        if not requests:
            raise wire.refuse("requests: at least one request is required")
        seen: set[Any] = set()
        for place, item in enumerate(requests):
            if not isinstance(item, dict) or not isinstance(item.get("params"), dict):
                raise wire.WORDING.missing(f"requests.{place}.params")
            if not isinstance(item.get("custom_id"), str) or not item["custom_id"]:
                raise wire.WORDING.missing(f"requests.{place}.custom_id")
            if item["custom_id"] in seen:
                raise wire.refuse(
                    f"requests: custom_id must be unique, got {item['custom_id']!r} twice"
                )
            seen.add(item["custom_id"])
        batch = _Batch(stamp, requests)
        self._batches[batch.id] = batch
        if len(self._batches) > _STORED:
            self._batches.popitem(last=False)
        return Answer(body=dump(batch.render(_origin(request))))

    def _list(self, request: Request, stamp: Stamp, /) -> Answer:
        origin = _origin(request)
        data = [self._advance(b, stamp).render(origin) for b in reversed(self._batches.values())]
        ids = [item["id"] for item in data] or [None]
        page = {"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}
        return Answer(body=dump(page))

    def _one(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        return Answer(body=dump(self._get(name, stamp).render(_origin(request))))

    def _delete(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        if self._get(name, stamp).ended_at is None:
            raise wire.refuse("Batch cannot be deleted while it is being processed")
        del self._batches[name]
        return Answer(body=dump({"id": name, "type": "message_batch_deleted"}))

    def _cancel(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        batch = self._get(name, stamp)
        if batch.ended_at is None:
            batch.cancelled_at = batch.ended_at = stamp.created
            batch.results = [{"type": "canceled"} for _ in batch.requests]
        return Answer(body=dump(batch.render(_origin(request))))

    def _results(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        batch = self._get(name, stamp)
        if batch.ended_at is None:
            raise Refusal(404, "The results are not available yet", type="not_found_error")
        rows = (
            dump({"custom_id": item["custom_id"], "result": result})
            for item, result in zip(batch.requests, batch.results, strict=True)
        )
        return Answer(
            body=b"".join(row + b"\n" for row in rows), content_type=b"application/x-jsonl"
        )

    def _get(self, name: str, stamp: Stamp) -> _Batch:
        if name not in self._batches:
            raise Refusal(404, f"Batch not found: {name}", type="not_found_error")
        return self._advance(self._batches[name], stamp)

    def _advance(self, batch: _Batch, stamp: Stamp) -> _Batch:
        """Answer a batch's requests once its time has come."""
        if batch.ended_at is None and stamp.created - batch.created_at >= self._batch_seconds:
            for item in batch.requests:
                status, body, _ = self._complete("/v1/messages", item["params"])
                result = {"type": "succeeded", "message": body}
                batch.results.append(
                    result if status == 200 else {"type": "errored", "error": body}
                )
            batch.ended_at = stamp.created
        return batch


class _Batch:
    def __init__(self, stamp: Stamp, requests: list[Json]) -> None:
        self.id = stamp.id("msgbatch_")
        self.requests = requests
        self.created_at = stamp.created
        self.ended_at: int | None = None
        self.cancelled_at: int | None = None
        self.results: list[Json] = []

    def render(self, origin: str) -> Json:
        kinds = [result["type"] for result in self.results]
        ended = self.ended_at is not None
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {
                "processing": 0 if ended else len(self.requests),
                "succeeded": kinds.count("succeeded"),
                "errored": kinds.count("errored"),
                "canceled": kinds.count("canceled"),
                "expired": 0,
            },
            "ended_at": _time(self.ended_at),
            "created_at": _time(self.created_at),
            "expires_at": _time(self.created_at + _DAY_SECONDS),
            "archived_at": None,
            "cancel_initiated_at": _time(self.cancelled_at),
            "results_url": f"{origin}{_PATH}/{self.id}/results" if ended else None,
        }


def _time(unix_seconds: int | None) -> str | None:
    if unix_seconds is None:
        return None
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _origin(request: Request) -> str:
    """Return the address by which the client came: the results are fetched from there."""
    return f"http://{request.headers.get(b'host', b'127.0.0.1').decode('latin-1')}"
