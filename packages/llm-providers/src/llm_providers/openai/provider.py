"""`OpenAIProvider`: OpenAI's Responses API and Chat Completions, and compatible servers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

from llm_core import (
    EMPTY,
    AudioPart,
    Clock,
    InvalidValue,
    LLMCallRequest,
    MissingDependencyError,
    Modality,
    ProviderResponse,
    Role,
    Usage,
)
from llm_providers.arguments import check_http_client, check_seconds, check_texts
from llm_providers.capabilities import features_for
from llm_providers.credentials import Secret, resolve_key, shown_url
from llm_providers.dialect import Dialect, PreparedCall
from llm_providers.embedding import Embeddings, embed_in_batches
from llm_providers.json_reading import MalformedBody, dicts_at, int_at, parse_object, shown, text_at
from llm_providers.model_list import ModelInfo, from_unix
from llm_providers.openai.audio import read_transcript, speech_body, transcription_form
from llm_providers.openai.batches import OpenAIBatches
from llm_providers.openai.chat_reply import read_chat
from llm_providers.openai.chat_request import (
    COMPATIBLE_CHAT,
    OPENAI_CHAT,
    ChatVariant,
    prepare_chat,
)
from llm_providers.openai.chat_stream import ChatStreamReader
from llm_providers.openai.embeddings import (
    MAX_TEXTS,
    MAX_TOKENS,
    prepare_embeddings,
    read_embeddings,
)
from llm_providers.openai.responses_reply import read_responses
from llm_providers.openai.responses_request import (
    COUNTED_FIELDS,
    RESPONSES_LACKS,
    prepare_responses,
)
from llm_providers.openai.responses_stream import ResponsesStreamReader
from llm_providers.provider import BaseLLMProvider, encode_json
from llm_providers.reply import ReplyAssembly, ReplyFrame, sample_rate_of
from llm_providers.sdk_transport import SdkTransport
from llm_providers.server_address import ServerAddress, address_of
from llm_providers.speech import Transcript
from llm_providers.stream_framing import FrameDecoder, SseDecoder
from llm_providers.token_count import CountedBy, TokenCount, count_locally
from llm_providers.wire import Transport, WireCall

__all__ = ["OpenAIProvider"]

_OPENAI_HOST = "api.openai.com"


class OpenAIProvider(BaseLLMProvider):
    """OpenAI, or a server that speaks one of its two protocols.

    `api` is ``responses`` or ``chat_completions``; sound goes over Chat Completions in both cases, as Responses has none.
    The key is `api_key`, else the environment's ``OPENAI_API_KEY``; with a `base_url` of your own it may be missing.
    `base_url` is the argument, else ``OPENAI_BASE_URL``, else OpenAI's; it ends in ``/v1`` for most servers.
    `http_client` is an `httpx2.AsyncClient` to send with (proxies, certificates, tests); it is used on every event loop and
    never closed here.
    The SDK's own retries are off.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        api: Literal["responses", "chat_completions"] = "responses",
        *,
        name: str = "openai",
        api_key_variable: str | None = "OPENAI_API_KEY",
        organization: str | None = None,
        project: str | None = None,
        timeout_seconds: float = 600.0,
        connect_seconds: float = 5.0,
        idle_timeout_seconds: float = 60.0,
        http_client: Any = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Build the provider; nothing is imported, read from the environment or sent before the first call."""
        if api not in ("responses", "chat_completions"):
            raise InvalidValue.of("OpenAIProvider.api", api, "'responses' or 'chat_completions'")
        made = type(self).__name__
        check_texts(
            made,
            base_url=base_url,
            api_key_variable=api_key_variable,
            organization=organization,
            project=project,
        )
        check_seconds(made, connect_seconds=connect_seconds)
        check_http_client(made, http_client)
        self._api_key = Secret.of(api_key)
        self._api_key_variable = api_key_variable
        self._base_url = base_url
        self._organization = organization
        self._project = project
        self._connect_seconds = connect_seconds
        self._http_client = http_client
        vendor = "openai" if self._is_openai else name
        self._responses = ResponsesDialect(vendor)
        self._chat = ChatDialect(vendor, OPENAI_CHAT if self._is_openai else COMPATIBLE_CHAT)
        self._api = api
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
        """Return Chat Completions for sound and where it was chosen, else Responses."""
        if self._api == "chat_completions" or _has_sound(request):
            return self._chat
        return self._responses

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str = "text-embedding-3-small",
        dimensions: int | None = None,
        provider_options: Mapping[str, Any] = EMPTY,
    ) -> Embeddings:
        """Return one vector per text, in order, over as many calls as the vendor's limits ask for.

        Raises ProviderError, and InvalidValue for an empty text.
        """

        async def once(some: Sequence[str]) -> tuple[list[tuple[float, ...]], Usage, str]:
            body = prepare_embeddings(some, model, dimensions, provider_options)
            call = WireCall(path="/embeddings", content=encode_json(body))
            reply = await self.send(call, model=model)
            with self.reading(reply, model=model):
                payload = parse_object(reply.content)
                vectors, usage = read_embeddings(payload, len(some))
            return vectors, usage, text_at(payload, "model") or model

        return await embed_in_batches(
            texts,
            once,
            provider=self._name,
            model=model,
            max_texts=MAX_TEXTS,
            max_tokens=MAX_TOKENS,
        )

    async def transcribe(
        self,
        audio: AudioPart,
        *,
        model: str = "gpt-4o-transcribe",
        language: str | None = None,
        prompt: str | None = None,
        segments: bool = False,
        provider_options: Mapping[str, Any] = EMPTY,
    ) -> Transcript:
        """Return what is said in `audio`; `segments` with times are for ``whisper-1`` and compatible models.

        `language` is an ISO 639-1 code, `prompt` a text in the style that is expected.
        """
        form, files = transcription_form(
            audio,
            model,
            language=language,
            prompt=prompt,
            segments=segments,
            options=provider_options,
        )
        call = WireCall(path="/audio/transcriptions", form=form, files=files)
        reply = await self.send(call, model=model)
        with self.reading(reply, model=model):
            return read_transcript(parse_object(reply.content))

    async def speak(
        self,
        text: str,
        *,
        voice: str,
        model: str = "gpt-4o-mini-tts",
        format: str = "wav",
        speed: float | None = None,
        instructions: str | None = None,
        provider_options: Mapping[str, Any] = EMPTY,
    ) -> AudioPart:
        """Return `text`, at most 4096 characters, spoken; ``pcm16`` is 24 kHz mono."""
        body = speech_body(
            text,
            model,
            voice=voice,
            format=format,
            speed=speed,
            instructions=instructions,
            options=provider_options,
        )
        reply = await self.send(
            WireCall(path="/audio/speech", content=encode_json(body)), model=model
        )
        with self.reading(reply, model=model):
            kind = reply.headers.get("content-type", "")
            if not reply.content or "text/html" in kind or "application/json" in kind:
                raise MalformedBody(f"no sound but {shown(reply.content)}")
        return AudioPart(
            data=reply.content,
            format=format,
            sample_rate_hz=sample_rate_of(format),
            transcript=text,
        )

    async def count_tokens(self, request: LLMCallRequest) -> TokenCount:
        """Count the input tokens of `request`: by OpenAI's own endpoint, elsewhere on this machine."""
        if not self._is_openai or self.dialect_for(request) is not self._responses:
            return await count_locally(request)
        prepared = self._responses.prepare(request, stream=False)
        body = {key: value for key, value in prepared.body.items() if key in COUNTED_FIELDS}
        call = WireCall(path="/responses/input_tokens", content=encode_json(body))
        payload = await self.send_json(call, model=request.model)
        tokens = int_at(payload, "input_tokens")
        return TokenCount(input_tokens=tokens, counted_by=CountedBy.VENDOR)

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """Return the models that this key may use, as the vendor lists them."""
        payload = await self.send_json(WireCall(path="/models", method="GET"))
        return tuple(
            ModelInfo(
                provider=self._name,
                id=text_at(entry, "id"),
                created=from_unix(int_at(entry, "created")),
                # vLLM says max_model_len, OpenRouter context_length; OpenAI says nothing.
                context_tokens=int_at(entry, "max_model_len")
                or int_at(entry, "context_length")
                or None,
                raw=entry,
            )
            for entry in dicts_at(payload, "data")
        )

    @property
    def batches(self) -> OpenAIBatches:
        """OpenAI's Batch API."""
        return OpenAIBatches(self, self._clock)

    @property
    def _is_openai(self) -> bool:
        return self._base_url is None or _is_openai_host(self._base_url)

    @cached_property
    def server_address(self) -> ServerAddress | None:
        """Where the endpoint is."""
        return address_of(
            self._base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com"
        )

    def _make_client(self) -> Any:
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise MissingDependencyError(
                "provider 'openai' needs the package openai: install the extra llm-providers[openai]"
            ) from error
        key = resolve_key(
            self._api_key,
            variable=self._api_key_variable,
            provider=self._name,
            optional=not self._is_openai,
        )
        # An empty variable is the same as none, as the SDK has it.
        base_url = self._base_url or os.environ.get("OPENAI_BASE_URL") or None
        client = openai.AsyncOpenAI(
            api_key=key.reveal(),
            base_url=base_url,
            organization=self._organization,
            project=self._project,
            max_retries=0,
            # How long an answer may take is bounded above the transport, for the whole call.
            timeout=httpx2.Timeout(None, connect=self._connect_seconds),
            # The SDK's own one closes its connections on whatever loop runs when it is garbage, not on theirs.
            http_client=self._http_client or openai.DefaultAsyncHttpxClient(),
        )
        if not self._is_openai:
            # The SDK takes these from the environment, where they are meant for OpenAI and nobody else.
            client.organization = self._organization
            client.project = self._project
            client._custom_headers = {}
        return client

    def __repr__(self) -> str:
        return (
            f"OpenAIProvider(name={self._name!r}, api={self._api!r}, "
            f"base_url={shown_url(self._base_url)!r})"
        )


class ResponsesDialect:
    """The Responses API; `vendor` is whose rows of the capability table count."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor

    def prepare(self, request: LLMCallRequest, *, stream: bool) -> PreparedCall:
        """Return the call."""
        features = features_for(request, RESPONSES_LACKS, vendor=self._vendor)
        return prepare_responses(request, features, stream=stream)

    def read(self, payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
        """Return a plain reply."""
        return read_responses(payload, frame)

    def frames(self) -> FrameDecoder:
        """Return a decoder of server-sent events."""
        return SseDecoder()

    def reader(self, assembly: ReplyAssembly) -> ResponsesStreamReader:
        """Return a reader of ``response.*`` events."""
        return ResponsesStreamReader(assembly)


class ChatDialect:
    """Chat Completions, as OpenAI or a compatible server has it; `vendor` as for `ResponsesDialect`."""

    def __init__(self, vendor: str, variant: ChatVariant) -> None:
        self._vendor = vendor
        self._variant = variant

    def prepare(self, request: LLMCallRequest, *, stream: bool) -> PreparedCall:
        """Return the call."""
        features = features_for(request, self._variant.lacks, vendor=self._vendor)
        return prepare_chat(request, features, self._variant, stream=stream)

    def read(self, payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
        """Return a plain reply."""
        return read_chat(payload, frame)

    def frames(self) -> FrameDecoder:
        """Return a decoder of server-sent events."""
        return SseDecoder()

    def reader(self, assembly: ReplyAssembly) -> ChatStreamReader:
        """Return a reader of chunks."""
        return ChatStreamReader(assembly)


def _is_openai_host(url: str) -> bool:
    """Whether `url` is at OpenAI itself, such as ``https://eu.api.openai.com/v1``."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host == _OPENAI_HOST or host.endswith("." + _OPENAI_HOST)


def _has_sound(request: LLMCallRequest) -> bool:
    if Modality.AUDIO in request.output_modalities:
        return True
    return any(
        isinstance(part, AudioPart)
        for message in request.messages
        if message.role is Role.USER
        for part in message.content
    )
