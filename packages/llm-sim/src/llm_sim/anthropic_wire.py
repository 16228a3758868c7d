"""What Anthropic's endpoints share: error bodies, keys, headers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from llm_sim.errors import Refusal
from llm_sim.exchange import Header, Json
from llm_sim.fields import dump
from llm_sim.limits import Exceeded, LimitName, Reading

_DOCS = "https://docs.claude.com/en/api/rate-limits"

_FAILURES: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request is invalid (simulated)."),
    401: ("authentication_error", "invalid x-api-key"),
    403: (
        "permission_error",
        "Your API key does not have permission to use the specified resource.",
    ),
    404: ("not_found_error", "The requested resource could not be found."),
    408: ("timeout_error", "The request timed out."),
    409: ("conflict_error", "The request conflicts with another one."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    422: ("invalid_request_error", "The request could not be processed."),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}

_LIMIT_WORDS: Mapping[LimitName, str] = {
    "rpm": "requests per minute",
    "rpd": "requests per day",
    "tpm": "tokens per minute",
    "itpm": "input tokens per minute",
    "otpm": "output tokens per minute",
}


def refuse(message: str) -> Refusal:
    """Make a 400 of an invalid request."""
    return Refusal(400, message, type="invalid_request_error")


class _Wording:
    """Errors of single fields in Anthropic's words, which are those of its validator."""

    _EXPECTED: Mapping[str, str] = {
        "a string": "a valid string",
        "an array": "a valid list",
        "an object": "a valid dictionary",
        "an integer": "a valid integer",
        "a decimal": "a valid number",
        "a boolean": "a valid boolean",
    }

    def unknown(self, name: str) -> Refusal:
        return refuse(f"{name}: Extra inputs are not permitted")

    def missing(self, name: str) -> Refusal:
        return refuse(f"{name}: Field required")

    def wrong_type(self, name: str, value: object, expected: str) -> Refusal:
        return refuse(f"{name}: Input should be {self._EXPECTED.get(expected, 'a valid list')}")

    def below(self, name: str, value: float, least: float) -> Refusal:
        return refuse(f"{name}: Input should be greater than or equal to {least:g}")

    def above(self, name: str, value: float, most: float) -> Refusal:
        return refuse(f"{name}: Input should be less than or equal to {most:g}")


WORDING = _Wording()


def read_json(body: bytes) -> Json:
    """Read a JSON object; refuse anything else."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise refuse(f"The request body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise refuse("Input should be a valid dictionary")
    return value


def key_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the API key, also of a bearer token; refuse a request without key or version."""
    key = headers.get(b"x-api-key", b"").decode("latin-1").strip()
    if not key:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    if not key:
        raise Refusal(401, "x-api-key header is required", type="authentication_error")
    if b"anthropic-version" not in headers:
        raise refuse("anthropic-version: header is required")
    return key


def unknown_key(key: str) -> Refusal:
    """Make the 401 for a key that is not known."""
    return Refusal(401, "invalid x-api-key", type="authentication_error")


def unknown_model(model: str) -> Refusal:
    """Make the 404 for a model that does not exist."""
    return Refusal(404, f"model: {model}", type="not_found_error")


def no_such_path(method: str, path: str, *, known: bool) -> Refusal:
    """Make the refusal of a path that is not there, or of a method that it does not know."""
    if known:
        return Refusal(405, "Method Not Allowed", type="invalid_request_error")
    return Refusal(404, "Not found", type="not_found_error")


def limited(exceeded: Exceeded, model: str) -> Refusal:
    """Make the 429 of a limit."""
    if exceeded.name == "concurrency":
        message = (
            "Number of concurrent connections has exceeded your rate limit. "
            "Please try again later or contact sales to discuss a rate limit increase."
        )
    else:
        message = (
            "This request would exceed your organization's rate limit of "
            f"{exceeded.allowed:,} {_LIMIT_WORDS[exceeded.name]} "
            f"(org: org-llmsim, model: {model}). For details, refer to: {_DOCS}. "
            "You can see the response headers for current usage. "
            "Please reduce the prompt length or the maximum tokens requested, or try again later."
        )
    if exceeded.wait_seconds == math.inf:
        return Refusal(429, message, type="rate_limit_error")
    wait = math.ceil(exceeded.wait_seconds)
    return Refusal(
        429,
        message,
        type="rate_limit_error",
        headers=(("retry-after", str(wait)),),
        retry_after_seconds=wait,
    )


def out_of_money() -> Refusal:
    """Make the 429 of a spend limit: no retry-after, and a code that says why."""
    return Refusal(
        429,
        "You have reached your specified API usage limits. Access is regained next month.",
        type="rate_limit_error",
        code="enforced_spend_limit_reached",
    )


def failure(status: int) -> Refusal:
    """Make the error of a status, as it would come of itself."""
    kind, message = _FAILURES.get(status, ("api_error", "Internal server error"))
    return Refusal(status, message, type=kind)


def error_body(refusal: Refusal, request_id: str) -> bytes:
    """Render an error."""
    error: Json = {"type": refusal.type, "message": refusal.message}
    if refusal.code is not None:
        error["details"] = {"error_code": refusal.code}
    return dump({"type": "error", "error": error, "request_id": request_id})


def limit_headers(readings: Mapping[LimitName, Reading], wall_time: float) -> Iterator[Header]:
    """Give the `anthropic-ratelimit-*` headers; tokens are rounded to thousands, as documented."""
    sets: tuple[tuple[LimitName, bytes], ...] = (
        ("rpm", b"requests"),
        ("itpm", b"input-tokens"),
        ("otpm", b"output-tokens"),
    )
    for name, unit in sets:
        if name in readings:
            yield from _limit_set(unit, readings[name], wall_time)
    if "itpm" in readings and "otpm" in readings:
        both = (readings["itpm"], readings["otpm"])
        total = Reading(
            allowed=sum(reading.allowed for reading in both),
            remaining=sum(reading.remaining for reading in both),
            reset_seconds=max(reading.reset_seconds for reading in both),
        )
        yield from _limit_set(b"tokens", total, wall_time)
    elif "tpm" in readings:
        yield from _limit_set(b"tokens", readings["tpm"], wall_time)


def _limit_set(unit: bytes, reading: Reading, wall_time: float) -> Iterator[Header]:
    remaining = reading.remaining
    if unit != b"requests" and reading.allowed >= 1000:
        remaining = round(remaining, -3)
    at = datetime.fromtimestamp(math.ceil(wall_time + reading.reset_seconds), UTC)
    yield b"anthropic-ratelimit-%s-limit" % unit, b"%d" % reading.allowed
    yield b"anthropic-ratelimit-%s-remaining" % unit, b"%d" % remaining
    yield b"anthropic-ratelimit-%s-reset" % unit, at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def request_headers(request_id: str, seconds: float) -> Iterator[Header]:
    """Give the headers that every answer has."""
    yield b"request-id", request_id.encode()
    yield b"anthropic-organization-id", b"org-llmsim"
