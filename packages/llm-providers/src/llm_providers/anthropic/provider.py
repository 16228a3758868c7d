"""`AnthropicProvider`: Anthropic's Messages API."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any
from urllib.parse import quote

from llm_core import Clock, LLMCallRequest, MissingDependencyError, ProviderResponse
from llm_providers.anthropic.batches import AnthropicBatches
from llm_providers.anthropic.messages_reply import read_message
from llm_providers.anthropic.messages_request import (
    COUNTED_FIELDS,
    MESSAGES_LACKS,
    prepare_messages,
)
from llm_providers.anthropic.messages_stream import MessagesStreamReader
from llm_providers.arguments import check_http_client, check_seconds, check_texts
from llm_providers.capabilities import family_of, features_for
from llm_providers.credentials import Secret, resolve_key, shown_url
from llm_providers.dialect import Dialect, PreparedCall
from llm_providers.json_reading import dicts_at, int_at, text_at
from llm_providers.model_list import ModelInfo, from_iso
from llm_providers.provider import BaseLLMProvider, encode_json
from llm_providers.reply import ReplyAssembly, ReplyFrame
from llm_providers.sdk_transport import SdkTransport
from llm_providers.server_address import ServerAddress, address_of
from llm_providers.stream_framing import FrameDecoder, SseDecoder
from llm_providers.token_count import CountedBy, TokenCount
from llm_providers.wire import Transport, WireCall

__all__ = ["AnthropicProvider"]


class AnthropicProvider(BaseLLMProvider):
    """Anthropic, or a server that speaks its Messages API.

    The key is `api_key`, else the environment's ``ANTHROPIC_API_KEY``; with a `base_url` of your own it may be missing.
    `base_url` is the argument, else ``ANTHROPIC_BASE_URL``, else Anthropic's; without ``/v1``.
    `http_client` is an `httpx2.AsyncClient` to send with; it is used on every event loop and never closed here.
    The SDK's own retries and its own tracing are off: a call is counted once, by whoever calls this.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        name: str = "anthropic",
        api_key_variable: str | None = "ANTHROPIC_API_KEY",
        timeout_seconds: float = 600.0,
        connect_seconds: float = 5.0,
        idle_timeout_seconds: float = 60.0,
        http_client: Any = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Build the provider; nothing is imported, read from the environment or sent before the first call."""
        made = type(self).__name__
        check_texts(made, base_url=base_url, api_key_variable=api_key_variable)
        check_seconds(made, connect_seconds=connect_seconds)
        check_http_client(made, http_client)
        self._api_key = Secret.of(api_key)
        self._api_key_variable = api_key_variable
        self._base_url = base_url
        self._connect_seconds = connect_seconds
        self._http_client = http_client
        self._dialect = MessagesDialect("anthropic")
        super().__init__(
            name=name,
            transport=SdkTransport(
                self._make_client,
                connect_seconds=connect_seconds,
                closes=http_client is None,
            )
            if transport is None
            else transport,
            timeout_seconds=timeout_seconds,
            idle_timeout_seconds=idle_timeout_seconds,
            clock=clock,
        )

    def dialect_for(self, request: LLMCallRequest) -> Dialect:
        """Return the Messages API."""
        return self._dialect

    async def count_tokens(self, request: LLMCallRequest) -> TokenCount:
        """Count the input tokens of `request` by Anthropic's own endpoint."""
        prepared = self._dialect.prepare(request, stream=False)
        body = {key: value for key, value in prepared.body.items() if key in COUNTED_FIELDS}
        call = WireCall(path="/v1/messages/count_tokens", content=encode_json(body))
        payload = await self.send_json(call, model=request.model)
        tokens = int_at(payload, "input_tokens")
        return TokenCount(input_tokens=tokens, counted_by=CountedBy.VENDOR)

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """Return the models that this key may use, as the vendor lists them, newest first."""
        models: dict[str, ModelInfo] = {}
        path = "/v1/models?limit=1000"
        while True:
            payload = await self.send_json(WireCall(path=path, method="GET"))
            page = [self._model_info(entry) for entry in dicts_at(payload, "data")]
            fresh = {info.id: info for info in page if info.id not in models}
            models |= fresh
            last = text_at(payload, "last_id")
            # A page without anything new would be followed by itself for ever.
            if payload.get("has_more") is not True or not last or not fresh:
                return tuple(models.values())
            path = f"/v1/models?limit=1000&after_id={quote(last)}"

    @property
    def batches(self) -> AnthropicBatches:
        """Anthropic's Message Batches."""
        return AnthropicBatches(self, self._clock)

    def _model_info(self, entry: dict[str, Any]) -> ModelInfo:
        return ModelInfo(
            provider=self._name,
            id=text_at(entry, "id"),
            created=from_iso(text_at(entry, "created_at")),
            context_tokens=int_at(entry, "max_input_tokens") or None,
            max_output_tokens=int_at(entry, "max_tokens") or None,
            raw=entry,
        )

    @cached_property
    def server_address(self) -> ServerAddress | None:
        """Where the endpoint is."""
        return address_of(
            self._base_url or os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        )

    def _make_client(self) -> Any:
        try:
            import anthropic
            import httpx2
        except ImportError as error:
            raise MissingDependencyError(
                "provider 'anthropic' needs the package anthropic: install the extra llm-providers[anthropic]"
            ) from error
        key = resolve_key(
            self._api_key,
            variable=self._api_key_variable,
            provider=self._name,
            optional=self._base_url is not None,
        )
        return anthropic.AsyncAnthropic(
            api_key=key.reveal(),
            base_url=self._base_url or os.environ.get("ANTHROPIC_BASE_URL") or None,
            max_retries=0,
            # Neither spans nor headers of its own: the caller traces the call, and says so in the request's headers.
            open_telemetry={"traces": {"enabled": False}, "propagation": False},
            timeout=httpx2.Timeout(None, connect=self._connect_seconds),
            # The SDK's own one closes its connections on whatever loop runs when it is garbage, not on theirs.
            http_client=self._http_client or anthropic.DefaultAsyncHttpxClient(),
        )

    def __repr__(self) -> str:
        return f"AnthropicProvider(name={self._name!r}, base_url={shown_url(self._base_url)!r})"


class MessagesDialect:
    """The Messages API; `vendor` is whose rows of the capability table count."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor

    def prepare(self, request: LLMCallRequest, *, stream: bool) -> PreparedCall:
        """Return the call."""
        family = family_of(self._vendor, request.model)
        features = features_for(request, MESSAGES_LACKS, vendor=self._vendor)
        return prepare_messages(request, features, family, stream=stream)

    def read(self, payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
        """Return a plain reply."""
        return read_message(payload, frame)

    def frames(self) -> FrameDecoder:
        """Return a decoder of server-sent events."""
        return SseDecoder()

    def reader(self, assembly: ReplyAssembly) -> MessagesStreamReader:
        """Return a reader of the Messages API's events."""
        return MessagesStreamReader(assembly)
