"""Which models there are, told in each vendor's way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from llm_sim import anthropic_wire, openai_wire
from llm_sim.exchange import Answer, Json, Request, Stamp
from llm_sim.fields import dump

_ANTHROPIC = re.compile(r"claude-")
_OPENAI = re.compile(r"(gpt|o\d|text-embedding|tts|whisper|chatgpt)")
_DEFAULT = (
    "gpt-6.1-sol",
    "gpt-6-luna",
    "gpt-5",
    "gpt-5-mini",
    "gpt-4.1",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4o-mini-tts",
    "text-embedding-3-small",
    "whisper-1",
    "claude-opus-5",
    "claude-sonnet-5",
    "claude-haiku-5-5",
    "llama3.2:latest",
    "qwen3:latest",
    "nomic-embed-text:latest",
)
"""What is listed if any name is accepted."""
_CREATED = 1_735_689_600  # 2025-01-01, the same in every run


class Models:
    """The models of one simulator."""

    def __init__(self, names: frozenset[str] | None) -> None:
        self._open = names is None
        self.names = _DEFAULT if names is None else tuple(sorted(names))

    def of_openai(self) -> list[str]:
        """Name OpenAI's models, and those that look like nobody's."""
        return [n for n in self.names if not _ANTHROPIC.match(n) and ":" not in n]

    def of_anthropic(self) -> list[str]:
        """Name Anthropic's models."""
        return [name for name in self.names if _ANTHROPIC.match(name)]

    def of_ollama(self) -> list[str]:
        """Name the models that Ollama would serve."""
        return [n for n in self.names if not _ANTHROPIC.match(n) and not _OPENAI.match(n)]

    def exists(self, name: str) -> bool:
        """Tell whether a model may be asked for."""
        return self._open or name in self.names or f"{name}:latest" in self.names

    def openai_resources(self) -> Iterator[tuple[str, str, Callable[..., Answer]]]:
        """Give method, path and handler of OpenAI's list."""
        yield "GET", "/v1/models", self._openai_list
        yield "GET", r"/v1/models/(?P<name>.+)", self._openai_one

    def anthropic_resources(self) -> Iterator[tuple[str, str, Callable[..., Answer]]]:
        """Give method, path and handler of Anthropic's list."""
        yield "GET", "/v1/models", self._anthropic_list
        yield "GET", r"/v1/models/(?P<name>.+)", self._anthropic_one

    def _openai_list(self, request: Request, stamp: Stamp, /) -> Answer:
        data = [_openai_model(name) for name in self.of_openai()]
        return Answer(body=dump({"object": "list", "data": data}))

    def _openai_one(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        if not self.exists(name):
            raise openai_wire.unknown_model(name)
        return Answer(body=dump(_openai_model(name)))

    def _anthropic_list(self, request: Request, stamp: Stamp, /) -> Answer:
        data = [_anthropic_model(name) for name in self.of_anthropic()]
        ids = [model["id"] for model in data] or [None]
        page = {"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}
        return Answer(body=dump(page))

    def _anthropic_one(self, request: Request, stamp: Stamp, /, *, name: str) -> Answer:
        if not self.exists(name):
            raise anthropic_wire.unknown_model(name)
        return Answer(body=dump(_anthropic_model(name)))


def _openai_model(name: str) -> Json:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "llm-sim"}


def _anthropic_model(name: str) -> Json:
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": "2025-01-01T00:00:00Z",
        "lifecycle": "active",
    }
