"""Which endpoint is at which path, and whose it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

from llm_sim import anthropic_messages, anthropic_wire, ollama_wire, openai_wire
from llm_sim.anthropic_batches import AnthropicBatches
from llm_sim.anthropic_threads import AnthropicMessages
from llm_sim.embeddings import OllamaEmbed, OllamaEmbeddings, OpenAIEmbeddings
from llm_sim.exchange import Answer, Request, Stamp
from llm_sim.models import Models
from llm_sim.ollama import OllamaChat, OllamaGenerate
from llm_sim.ollama_models import OllamaModels
from llm_sim.openai_audio import Speech, Transcriptions
from llm_sim.openai_batches import Complete, OpenAIBatches
from llm_sim.openai_chat_store import OpenAIChat
from llm_sim.openai_responses import OpenAIResponses
from llm_sim.wire import Dialogue, Resource, Serve, Vendor

Answering = Callable[[Request, Stamp], Answer]
"""Answers a request for a stored thing."""


class Catalogue:
    """The endpoints of one simulator, with what they store."""

    def __init__(
        self, models: frozenset[str] | None, complete: Complete, batch_seconds: float
    ) -> None:
        self.models = Models(models)
        self.ollama_used: dict[str, float] = {}
        """Unix time of the last call of each of Ollama's models."""
        chat = OpenAIChat()
        responses = OpenAIResponses()
        self.dialogues: dict[str, Dialogue] = {
            "/v1/chat/completions": chat,
            "/v1/responses": responses,
            "/v1/embeddings": OpenAIEmbeddings(),
            "/v1/audio/transcriptions": Transcriptions("transcriptions"),
            "/v1/audio/translations": Transcriptions("translations"),
            "/v1/audio/speech": Speech(),
            "/v1/messages": AnthropicMessages(),
            "/api/chat": OllamaChat(),
            "/api/generate": OllamaGenerate(),
            "/api/embed": OllamaEmbed(),
            "/api/embeddings": OllamaEmbeddings(),
        }
        ollama_models = OllamaModels(self.models, lambda: self.ollama_used)
        self._resources: tuple[Resource, ...] = (
            *_resources(openai_wire, chat.resources()),
            *_resources(openai_wire, responses.resources()),
            *_resources(openai_wire, self.models.openai_resources()),
            *_resources(openai_wire, OpenAIBatches(complete, batch_seconds).resources()),
            *_resources(anthropic_wire, self.models.anthropic_resources()),
            *_resources(anthropic_wire, AnthropicBatches(complete, batch_seconds).resources()),
            *_resources(
                anthropic_wire,
                [("POST", "/v1/messages/count_tokens", anthropic_messages.count_tokens)],
            ),
            *_resources(ollama_wire, ollama_models.resources()),
        )

    def vendor_of(self, request: Request) -> Vendor:
        """Tell whose endpoint a request is for; some paths are told apart by their headers."""
        if request.path == "/" or request.path.startswith("/api/"):
            return ollama_wire
        if request.path.startswith("/v1/messages") or b"anthropic-version" in request.headers:
            return anthropic_wire
        return openai_wire

    def find(self, vendor: Vendor, request: Request) -> Dialogue | Answering:
        """Find the endpoint for a request, or refuse a path that is not there."""
        dialogue = self.dialogues.get(request.path)
        if dialogue is not None and request.method == "POST":
            return dialogue
        known = dialogue is not None
        for resource in self._resources:
            if resource.vendor is vendor and (found := resource.pattern.fullmatch(request.path)):
                known = True
                if resource.method == request.method:
                    return partial(resource.serve, **found.groupdict())
        raise vendor.no_such_path(request.method, request.path, known=known)


def _resources(vendor: Vendor, endpoints: Iterable[tuple[str, str, Serve]]) -> list[Resource]:
    return [
        Resource(method=method, pattern=re.compile(path), vendor=vendor, serve=serve)
        for method, path, serve in endpoints
    ]
