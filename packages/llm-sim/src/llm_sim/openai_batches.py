"""OpenAI Files and Batches: upload requests, have them answered together, fetch the answers."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from llm_sim import openai_wire as wire
from llm_sim.errors import Refusal
from llm_sim.exchange import Answer, Json, Request, Stamp, Usage
from llm_sim.fields import Fields, dump
from llm_sim.forms import read_form
from llm_sim.shelf import Shelf

Complete = Callable[[str, Json], tuple[int, Json, Usage]]
"""Answers one request of a batch: path and body in; status, body and usage out."""

_ENDPOINTS = ("/v1/responses", "/v1/chat/completions", "/v1/embeddings")
_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_STORED = 1000
"""How many files and batches are kept; the oldest are forgotten."""
_DAY_SECONDS = 86_400


class OpenAIBatches:
    """The files and batches of one simulator."""

    def __init__(self, complete: Complete, batch_seconds: float) -> None:
        self._complete = complete
        self._batch_seconds = batch_seconds
        self._files: Shelf[tuple[Json, bytes]] = Shelf(_STORED)
        self._batches: OrderedDict[str, Json] = OrderedDict()

    def resources(self) -> Iterator[tuple[str, str, Callable[..., Answer]]]:
        """Give method, path and handler of each."""
        file, batch = "/v1/files/(?P<name>[^/]+)", "/v1/batches/(?P<name>[^/]+)"
        yield "POST", "/v1/files", self._upload
        yield "GET", "/v1/files", self._list_files
        yield "GET", file, self._file
        yield "DELETE", file, self._delete_file
        yield "GET", f"{file}/content", self._content
        yield "POST", "/v1/batches", self._create
        yield "GET", "/v1/batches", self._list_batches
        yield "GET", batch, self._batch
        yield "POST", f"{batch}/cancel", self._cancel

    def _upload(self, request: Request, stamp: Stamp, /) -> Answer:
        form = read_form(request)
        purpose = form.checked().text("purpose")
        if purpose not in _PURPOSES:
            listed = ", ".join(f"'{name}'" for name in _PURPOSES)
            raise wire.refuse(
                f"'{purpose}' is not one of [{listed}] - 'purpose'", "purpose", "value"
            )
        sent = form.upload("file")
        return Answer(body=dump(self._keep(stamp, 0, sent.filename, purpose, sent.data)))

    def _keep(self, stamp: Stamp, place: int, name: str, purpose: str, data: bytes) -> Json:
        file = {
            "id": stamp.id("file-", place),
            "object": "file",
            "bytes": len(data),
            "created_at": stamp.created,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self._files.put(str(file["id"]), (file, data), size_bytes=len(data))
        return file

    def _list_files(self, request: Request, stamp: Stamp, /) -> Answer:
        files = [file for file, _ in self._files][::-1]
        if purpose := parse_qs(request.query.decode("latin-1")).get("purpose"):
            files = [file for file in files if file["purpose"] in purpose]
        return Answer(body=dump(_page(files)))

    def _file(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        return Answer(body=dump(self._get_file(name)[0]))

    def _content(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        return Answer(body=self._get_file(name)[1], content_type=b"application/octet-stream")

    def _delete_file(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        self._get_file(name)
        self._files.remove(name)
        return Answer(body=dump({"id": name, "object": "file", "deleted": True}))

    def _get_file(self, name: str) -> tuple[Json, bytes]:
        if name not in self._files:
            raise Refusal(
                404, f"No such File object: {name}", type="invalid_request_error", param="id"
            )
        return self._files[name]

    def _create(self, request: Request, stamp: Stamp, /) -> Answer:
        fields = Fields(wire.read_json(request.body), wire.WORDING)
        endpoint, window = fields.text("endpoint"), fields.text("completion_window")
        if endpoint not in _ENDPOINTS:
            listed = ", ".join(f"'{name}'" for name in _ENDPOINTS)
            raise wire.refuse(
                f"Invalid value: '{endpoint}'. Supported values are: {listed}.", "endpoint", "value"
            )
        if window != "24h":
            raise wire.refuse(
                f"Invalid value: '{window}'. Value must be '24h'.", "completion_window", "value"
            )
        file_id = fields.text("input_file_id")
        self._get_file(file_id)
        batch: Json = {
            "id": stamp.id("batch_"),
            "object": "batch",
            "endpoint": endpoint,
            "errors": None,
            "input_file_id": file_id,
            "completion_window": window,
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": stamp.created,
            "in_progress_at": None,
            "expires_at": stamp.created + _DAY_SECONDS,
            "completed_at": None,
            "failed_at": None,
            "cancelled_at": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": fields.body.get("metadata"),
        }
        self._batches[batch["id"]] = batch
        if len(self._batches) > _STORED:
            self._batches.popitem(last=False)
        return Answer(body=dump(batch))

    def _list_batches(self, request: Request, stamp: Stamp, /) -> Answer:
        return Answer(
            body=dump(_page([self._advance(b, stamp) for b in reversed(self._batches.values())]))
        )

    def _batch(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        return Answer(body=dump(self._advance(self._get_batch(name), stamp)))

    def _cancel(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        batch = self._advance(self._get_batch(name), stamp)
        if batch["status"] != "in_progress":
            raise Refusal(
                409,
                f"Cannot cancel a batch with status '{batch['status']}'.",
                type="invalid_request_error",
            )
        batch["status"], batch["cancelled_at"] = "cancelled", stamp.created
        return Answer(body=dump(batch))

    def _get_batch(self, name: str) -> Json:
        if name not in self._batches:
            raise Refusal(404, f"No batch found with id '{name}'.", type="invalid_request_error")
        return self._batches[name]

    def _advance(self, batch: Json, stamp: Stamp) -> Json:
        """Bring a batch to where it is by now; it is checked when it is first looked at."""
        if batch["status"] == "validating":
            lines, errors = _check(self._get_file(batch["input_file_id"])[1], batch["endpoint"])
            if errors:
                batch["errors"] = {"object": "list", "data": errors}
                batch["status"], batch["failed_at"] = "failed", stamp.created
                return batch
            batch["request_counts"]["total"] = len(lines)
            batch["status"], batch["in_progress_at"] = "in_progress", stamp.created
        waited = stamp.created - batch["created_at"]
        if batch["status"] == "in_progress" and waited >= self._batch_seconds:
            self._finish(batch, stamp)
        return batch

    def _finish(self, batch: Json, stamp: Stamp) -> None:
        lines, _ = _check(self._get_file(batch["input_file_id"])[1], batch["endpoint"])
        good: list[Json] = []
        bad: list[Json] = []
        used = Usage()
        for place, line in enumerate(lines):
            status, body, usage = self._complete(line["url"], line["body"])
            response = {"status_code": status, "request_id": stamp.id("req_", place), "body": body}
            row = {"id": stamp.id("batch_req_", place), "custom_id": line["custom_id"]}
            (good if status == 200 else bad).append({**row, "response": response, "error": None})
            used += usage
        for kind, rows in (("output", good), ("error", bad)):
            if rows:
                data = b"".join(dump(row) + b"\n" for row in rows)
                name = f"{batch['id']}_{kind}.jsonl"
                kept = self._keep(stamp, len(kind), name, "batch_output", data)
                batch[f"{kind}_file_id"] = kept["id"]
        batch["request_counts"] |= {"completed": len(good), "failed": len(bad)}
        batch["usage"] = {
            "input_tokens": used.input_tokens,
            "input_tokens_details": {"cached_tokens": used.cached_tokens},
            "output_tokens": used.output_tokens,
            "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
            "total_tokens": used.total_tokens,
        }
        batch["status"], batch["completed_at"] = "completed", stamp.created


def _check(data: bytes, endpoint: str) -> tuple[list[Json], list[Json]]:
    """Read the lines of an input file, and what is wrong with them."""
    lines: list[Json] = []
    errors: list[Json] = []
    seen: set[Any] = set()

    def wrong(number: int, code: str, message: str, param: str | None = None) -> None:
        errors.append({"code": code, "message": message, "param": param, "line": number})

    for number, text in enumerate(data.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            wrong(number, "invalid_json_line", "This line is not parseable as valid JSON.")
        elif not isinstance(line.get("custom_id"), str):
            wrong(number, "missing_required_parameter", "Missing 'custom_id'.", "custom_id")
        elif line["custom_id"] in seen:
            wrong(number, "duplicate_custom_id", "The 'custom_id' is used twice.", "custom_id")
        elif line.get("method") != "POST":
            wrong(number, "invalid_method", "Only the method POST is supported.", "method")
        elif line.get("url") != endpoint:
            wrong(number, "mismatched_endpoint", "The url is not the batch's endpoint.", "url")
        elif not isinstance(line.get("body"), dict):
            wrong(number, "missing_required_parameter", "Missing 'body'.", "body")
        else:
            seen.add(line["custom_id"])
            lines.append(line)
    if not lines and not errors:
        wrong(1, "empty_file", "The input file is empty.")
    return lines, errors


def _page(items: list[Json]) -> Json:
    ids = [item["id"] for item in items] or [None]
    return {
        "object": "list",
        "data": items,
        "first_id": ids[0],
        "last_id": ids[-1],
        "has_more": False,
    }
