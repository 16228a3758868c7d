"""`OllamaProvider`: models on one's own machine, and Ollama's cloud."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from llm_core import (
    EMPTY,
    Clock,
    InvalidValue,
    LLMCallRequest,
    MissingDependencyError,
    ProviderResponse,
    Usage,
)
from llm_providers.arguments import check_seconds, check_texts
from llm_providers.capabilities import features_for
from llm_providers.credentials import Secret, shown_url
from llm_providers.dialect import Dialect, PreparedCall
from llm_providers.embedding import Embeddings, embed_in_batches
from llm_providers.json_reading import dicts_at, parse_object, text_at
from llm_providers.model_list import ModelInfo, from_iso
from llm_providers.ollama.chat_reply import OllamaStreamReader, read_ollama
from llm_providers.ollama.chat_request import OLLAMA_LACKS, prepare_ollama
from llm_providers.ollama.embeddings import prepare_embed, read_embed
from llm_providers.ollama.transport import OllamaTransport
from llm_providers.provider import BaseLLMProvider, encode_json
from llm_providers.reply import ReplyAssembly, ReplyFrame
from llm_providers.server_address import ServerAddress, address_of
from llm_providers.stream_framing import FrameDecoder, NdjsonDecoder
from llm_providers.token_count import CountedBy, TokenCount
from llm_providers.token_estimate import estimate_input_tokens
from llm_providers.wire import Transport, WireCall

__all__ = ["OllamaProvider"]

_PORT = 11434
_TEXTS_PER_CALL = 512
_TOKENS_PER_CALL = 200_000
"""Ollama states no limits; these keep one call's reply within a few megabytes."""


class OllamaProvider(BaseLLMProvider):
    """An Ollama server.

    `host` is the argument, else the environment's ``OLLAMA_HOST``, else ``127.0.0.1:11434``.
    The key, needed for Ollama's cloud only, is `api_key`, else ``OLLAMA_API_KEY``.
    `client_options` go to `ollama.AsyncClient` and so to `httpx.AsyncClient` (proxies, certificates, a transport for tests).
    Unlike ollama's own client, a call has a time limit; a first call may need minutes to load its model.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        name: str = "ollama",
        api_key: str | None = None,
        timeout_seconds: float = 600.0,
        connect_seconds: float = 5.0,
        idle_timeout_seconds: float = 300.0,
        client_options: Mapping[str, Any] = EMPTY,
        transport: Transport | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Build the provider; nothing is imported, read from the environment or sent before the first call."""
        made = type(self).__name__
        check_texts(made, host=host)
        check_seconds(made, connect_seconds=connect_seconds)
        if not isinstance(client_options, Mapping):
            raise InvalidValue.of(f"{made}.client_options", client_options, "a mapping")
        self._host = host
        self._api_key = Secret.of(api_key)
        self._connect_seconds = connect_seconds
        self._client_options = dict(client_options)
        self._dialect = OllamaDialect()
        super().__init__(
            name=name,
            transport=OllamaTransport(self._make_client, connect_seconds=connect_seconds)
            if transport is None
            else transport,
            timeout_seconds=timeout_seconds,
            idle_timeout_seconds=idle_timeout_seconds,
            clock=clock,
        )

    def dialect_for(self, request: LLMCallRequest) -> Dialect:
        """Return Ollama's chat."""
        return self._dialect

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        provider_options: Mapping[str, Any] = EMPTY,
    ) -> Embeddings:
        """Return one vector per text, in order; raises ProviderError, and InvalidValue for an empty text."""

        async def once(some: Sequence[str]) -> tuple[list[tuple[float, ...]], Usage, str]:
            body = prepare_embed(some, model, dimensions, provider_options)
            reply = await self.send(
                WireCall(path="/api/embed", content=encode_json(body)), model=model
            )
            with self.reading(reply, model=model):
                payload = parse_object(reply.content)
                vectors, usage = read_embed(payload, len(some))
            return vectors, usage, text_at(payload, "model") or model

        return await embed_in_batches(
            texts,
            once,
            provider=self._name,
            model=model,
            max_texts=_TEXTS_PER_CALL,
            max_tokens=_TOKENS_PER_CALL,
        )

    async def count_tokens(self, request: LLMCallRequest) -> TokenCount:
        """Estimate the input tokens of `request`: Ollama has no endpoint that counts."""
        return TokenCount(
            input_tokens=estimate_input_tokens(request), counted_by=CountedBy.ESTIMATE
        )

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """Return the models that are on the server."""
        payload = await self.send_json(WireCall(path="/api/tags", method="GET"))
        return tuple(
            ModelInfo(
                provider=self._name,
                id=text_at(entry, "model") or text_at(entry, "name"),
                created=from_iso(text_at(entry, "modified_at")),
                raw=entry,
            )
            for entry in dicts_at(payload, "models")
        )

    @cached_property
    def server_address(self) -> ServerAddress | None:
        """Where the server is."""
        host = self._host or os.environ.get("OLLAMA_HOST") or "127.0.0.1"
        return address_of(host, default_port=_PORT)

    def _make_client(self) -> Any:
        try:
            import httpx
            import ollama
        except ImportError as error:
            raise MissingDependencyError(
                "provider 'ollama' needs the package ollama: install the extra llm-providers[ollama]"
            ) from error
        headers = {}
        if self._api_key is not None:
            headers["authorization"] = f"Bearer {self._api_key.reveal()}"
        timeout = httpx.Timeout(None, connect=self._connect_seconds)
        options = {"headers": headers, "timeout": timeout, **self._client_options}
        return ollama.AsyncClient(self._host, **options)

    def __repr__(self) -> str:
        return f"OllamaProvider(name={self._name!r}, host={shown_url(self._host)!r})"


class OllamaDialect:
    """Ollama's chat."""

    def prepare(self, request: LLMCallRequest, *, stream: bool) -> PreparedCall:
        """Return the call."""
        features = features_for(request, OLLAMA_LACKS, vendor="ollama")
        return prepare_ollama(request, features, stream=stream)

    def read(self, payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
        """Return a plain reply."""
        return read_ollama(payload, frame)

    def frames(self) -> FrameDecoder:
        """Return a decoder of JSON lines."""
        return NdjsonDecoder()

    def reader(self, assembly: ReplyAssembly) -> OllamaStreamReader:
        """Return a reader of lines."""
        return OllamaStreamReader(assembly)
