"""What Ollama's endpoints share: error bodies, times, details of models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from llm_sim.errors import Refusal
from llm_sim.exchange import Header, Json
from llm_sim.fields import dump, json_type
from llm_sim.limits import Exceeded, LimitName, Reading

NDJSON = b"application/x-ndjson"


def refuse(message: str) -> Refusal:
    """Make a 400."""
    return Refusal(400, message)


class _Wording:
    """Errors of single fields in the words of Go's JSON decoder, which Ollama passes on."""

    def unknown(self, name: str) -> Refusal:
        return refuse(f'json: unknown field "{name}"')

    def missing(self, name: str) -> Refusal:
        return refuse(f"{name} is required")

    def wrong_type(self, name: str, value: object, expected: str) -> Refusal:
        got = json_type(value).replace("integer", "number").replace("decimal", "number")
        return refuse(
            f"json: cannot unmarshal {got} into Go struct field .{name} of type "
            f"{expected.split(' ', 1)[1]}"
        )

    def below(self, name: str, value: float, least: float) -> Refusal:
        return refuse(f"invalid {name}: {value}, at least {least:g} expected")

    def above(self, name: str, value: float, most: float) -> Refusal:
        return refuse(f"invalid {name}: {value}, at most {most:g} expected")


WORDING = _Wording()


def read_json(body: bytes) -> Json:
    """Read a JSON object; refuse anything else."""
    if not body:
        raise refuse("missing request body")
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise refuse(f"invalid request body: {error}") from error
    if not isinstance(value, dict):
        raise WORDING.wrong_type("", value, "an object")
    return value


def key_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the bearer token, `anonymous` without one: a local Ollama asks for none."""
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else "anonymous"


def unknown_key(key: str) -> Refusal:
    """Make the 401 for a key that is not known."""
    return Refusal(401, "unauthorized")


def unknown_model(model: str) -> Refusal:
    """Make the 404 for a model that is not there."""
    return Refusal(404, f"model '{model}' not found")


def no_such_path(method: str, path: str, *, known: bool) -> Refusal:
    """Make the refusal of a path that is not there, or of a method that it does not know."""
    if known:
        return Refusal(405, "405 method not allowed")
    return Refusal(404, "404 page not found")


def limited(exceeded: Exceeded, model: str) -> Refusal:
    """Make the 503 of a full queue, or the 429 of Ollama's cloud."""
    if exceeded.name == "concurrency":
        return Refusal(503, "server busy, please try again.  maximum pending requests exceeded")
    return Refusal(429, "too many requests", retry_after_seconds=None)


def out_of_money() -> Refusal:
    """Make the 429 of a used-up plan."""
    return Refusal(429, "you've reached your usage limit", code="insufficient_quota")


def failure(status: int) -> Refusal:
    """Make the error of a status."""
    messages = {
        401: "unauthorized",
        403: "forbidden",
        404: "model not found",
        429: "too many requests",
    }
    return Refusal(status, messages.get(status, "llama runner process has terminated (simulated)"))


def error_body(refusal: Refusal, request_id: str) -> bytes:
    """Render an error."""
    return dump({"error": refusal.message})


def limit_headers(readings: Mapping[LimitName, Reading], wall_time: float) -> Iterator[Header]:
    """Give no header: Ollama does not tell its limits."""
    return iter(())


def request_headers(request_id: str, seconds: float) -> Iterator[Header]:
    """Give no header: Ollama does not name its answers."""
    return iter(())


def timestamp(unix_seconds: int) -> str:
    """Write a time as Go does."""
    at = datetime.fromtimestamp(unix_seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def full_name(model: str) -> str:
    """Return a model's name with its tag, `latest` by default."""
    return model if ":" in model else f"{model}:latest"


def digest(model: str) -> str:
    """Make a model's digest, the same in every run."""
    return hashlib.sha256(full_name(model).encode()).hexdigest()


def details(model: str) -> Json:
    """Make up a model's details from its name."""
    name, _, tag = full_name(model).partition(":")
    family = name.rpartition("/")[2].rstrip("0123456789.-") or "llama"
    size = tag.partition("-")[0].upper() if tag[:1].isdigit() else "3.2B"
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": size,
        "quantization_level": "Q4_K_M",
    }
