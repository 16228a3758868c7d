"""Ollama's models: `/api/tags`, `/api/show`, `/api/ps` and `/api/version`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from llm_sim import ollama_wire as wire
from llm_sim.exchange import Answer, Json, Request, Stamp
from llm_sim.fields import dump
from llm_sim.models import Models

VERSION = "0.12.6"
"""The version whose answers are followed."""
_SIZE = 2_019_393_189
_CONTEXT_TOKENS = 8192
_LOADED = timedelta(minutes=5)
"""How long Ollama keeps a model loaded after its last call."""


class OllamaModels:
    """What a simulated Ollama has pulled, and what of it was used lately."""

    def __init__(self, models: Models, used: Callable[[], dict[str, float]]) -> None:
        self._models = models
        self._used = used
        """Gives the unix time of the last call of each model."""

    def resources(self) -> Iterator[tuple[str, str, Callable[..., Answer]]]:
        """Give method, path and handler of each."""
        yield "GET", "/api/tags", self._tags
        yield "GET", "/api/ps", self._ps
        yield "GET", "/api/version", self._version
        yield "POST", "/api/show", self._show
        for method in ("GET", "HEAD"):
            yield method, "/", self._alive

    def _alive(self, request: Request, stamp: Stamp, /) -> Answer:
        return Answer(body=b"Ollama is running", content_type=b"text/plain; charset=utf-8")

    def _tags(self, request: Request, stamp: Stamp, /) -> Answer:
        at = "2025-01-01T00:00:00Z"
        models = [{**_entry(name), "modified_at": at} for name in self._models.of_ollama()]
        return Answer(body=dump({"models": models}))

    def _ps(self, request: Request, stamp: Stamp, /) -> Answer:
        now = datetime.fromtimestamp(stamp.created, UTC)
        models = []
        for name, unix_time in self._used().items():
            expires = datetime.fromtimestamp(unix_time, UTC) + _LOADED
            if expires > now:
                loaded = {
                    "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "size_vram": _SIZE,
                    "context_length": _CONTEXT_TOKENS,
                }
                models.append(_entry(name) | loaded)
        return Answer(body=dump({"models": models}))

    def _version(self, request: Request, stamp: Stamp, /) -> Answer:
        return Answer(body=dump({"version": VERSION}))

    def _show(self, request: Request, stamp: Stamp, /) -> Answer:
        body = wire.read_json(request.body)
        name = body.get("model") or body.get("name")
        if not name:
            raise wire.refuse("model is required")
        if not self._models.exists(str(name)):
            raise wire.unknown_model(str(name))
        details = wire.details(str(name))
        family = details["family"]
        return Answer(
            body=dump(
                {
                    "license": "MIT",
                    "modelfile": f"FROM {name}\n",
                    "parameters": f"num_ctx                        {_CONTEXT_TOKENS}",
                    "template": "{{ .Prompt }}",
                    "details": details,
                    "model_info": {
                        "general.architecture": family,
                        "general.parameter_count": 3_212_749_888,
                        f"{family}.context_length": _CONTEXT_TOKENS,
                        f"{family}.embedding_length": 768,
                    },
                    "capabilities": ["completion", "tools", "thinking", "vision"],
                    "modified_at": "2025-01-01T00:00:00Z",
                }
            )
        )


def _entry(name: str) -> Json:
    full = wire.full_name(name)
    return {
        "name": full,
        "model": full,
        "size": _SIZE,
        "digest": wire.digest(name),
        "details": wire.details(name),
    }
