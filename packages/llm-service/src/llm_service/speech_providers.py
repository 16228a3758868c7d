"""Providers that speak or transcribe, on the same way as every other call: gates, retries, ledger, deadline."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from typing import Any

from llm_core import (
    AudioPart,
    Clock,
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    LLMCallRequest,
    PriceBook,
    Provider,
    ProviderError,
    ProviderResponse,
    StepContext,
    StreamEvent,
    TextPart,
    UnsupportedFeature,
    Usage,
)
from llm_service.estimate import estimate_text_tokens

__all__ = ["SpeakingProvider", "TakeRaw", "Till", "TranscribingProvider", "resolver_of"]

_SPOKEN_TOKENS_PER_MINUTE = 1_250
"""OpenAI's pricing page puts gpt-4o-mini-tts at 0.015 USD a minute and at 12 USD for a million tokens of sound."""


class Till:
    """What speech costs: by tokens, by characters, or by the minute, whichever the price book knows for the model."""

    def __init__(self, price_book: PriceBook | None, clock: Clock) -> None:
        self._book = price_book
        self._clock = clock

    def cost(
        self,
        usage: Usage,
        *,
        provider: str,
        model: str,
        characters: int = 0,
        seconds: float = 0.0,
    ) -> Cost | None:
        """Return the cost of a call; None without a price book."""
        if self._book is None:
            return None
        # Here, because services that never speak need not load it.
        from llm_metrics import PriceBook as QuantityBook
        from llm_metrics import Quantities

        asked: dict[str, Any] = {"provider": provider, "model": model, "at": self._clock.now()}
        by_tokens = None
        if usage.total_tokens and not (usage.estimated and model.startswith("tts-")):
            by_tokens = self._book.price(usage, **asked)
            if by_tokens.status is not CostStatus.UNPRICED:
                return by_tokens
        if not isinstance(self._book, QuantityBook):
            return by_tokens or Cost()
        also = Quantities(characters=characters, audio_seconds=Decimal(str(round(seconds, 3))))
        return self._book.price(Usage(), also=also, **asked)


class _SpeechProvider:
    """What both directions have in common: a provider's method in place of its `invoke`."""

    method = ""
    lacking = ""

    def __init__(self, provider: Provider, till: Till) -> None:
        self._provider = provider
        self._till = till
        self._call: Any = getattr(provider, self.method, None)

    @property
    def name(self) -> str:
        """The name of the provider that does it."""
        return self._provider.name

    @property
    def server_address(self) -> Any:
        """Where that provider's endpoint is, if it tells."""
        return getattr(self._provider, "server_address", None)

    def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        """Refuse: each piece comes whole."""
        raise UnsupportedFeature(f"{self.method} is not streamed")

    async def aclose(self) -> None:
        """Leave the provider open: its owner closes it."""

    def _require_call(self) -> Any:
        if self._call is None:
            raise UnsupportedFeature(f"provider {self.name!r} has no {self.lacking}")
        return self._call


class SpeakingProvider(_SpeechProvider):
    """A provider whose answer to a text is that text spoken; the decoded clip is in `raw`."""

    method = "speak"
    lacking = "text to speech"

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        """Speak the user's text; UnsupportedFeature if the provider has no voice.

        Sound that is broken or empty is a failure that may pass.
        """
        from llm_audio import AudioClip, AudioError

        speak = self._require_call()
        text = request.messages[0].text
        assert request.audio_output is not None, "made by `speak`"
        part: AudioPart = await speak(
            text,
            voice=request.audio_output.voice,
            format=request.audio_output.format,
            model=request.model,
            **request.provider_options,
        )
        try:
            clip = AudioClip.from_part(part)
        except AudioError as error:
            info = ErrorInfo.of(ErrorType.SERVER_ERROR, f"the speech is no sound: {error}")
            raise ProviderError(info) from error
        spoken = math.ceil(clip.duration_seconds / 60 * _SPOKEN_TOKENS_PER_MINUTE)
        usage = Usage(
            input_tokens=estimate_text_tokens(text),
            output_tokens=spoken,
            audio_output_tokens=spoken,
            estimated=True,
        )
        return ProviderResponse(
            provider=self.name,
            model=request.model,
            parts=(part,),
            usage=usage,
            cost=self._till.cost(
                usage, provider=self.name, model=request.model, characters=len(text)
            ),
            raw=clip,
        )


class TranscribingProvider(_SpeechProvider):
    """A provider whose answer to sound is its `Transcript`, in `raw`."""

    method = "transcribe"
    lacking = "speech to text"

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        """Transcribe the user's sound; UnsupportedFeature if the provider cannot."""
        transcribe = self._require_call()
        (part,) = request.messages[0].content
        options: Mapping[str, Any] = request.provider_options
        seconds = options["seconds"]
        given = {key: value for key, value in options.items() if key != "seconds"}
        made = await transcribe(part, model=request.model, **given)
        return ProviderResponse(
            provider=self.name,
            model=request.model,
            parts=(TextPart(text=made.text),) if made.text else (),
            usage=made.usage,
            cost=self._till.cost(
                made.usage, provider=self.name, model=request.model, seconds=seconds
            ),
            raw=made,
        )


class TakeRaw:
    """The step from a reply to the value that its provider put into `raw`."""

    name = "speech"

    def run(self, content: Any, context: StepContext) -> Any:
        """Return the value."""
        assert context.response is not None, "the engine gives every step the reply"
        return context.response.raw


def resolver_of(
    kind: type[SpeakingProvider | TranscribingProvider],
    resolve: Callable[[str | None], tuple[Provider, str]],
    till: Till,
) -> Callable[[str | None], tuple[Provider, str]]:
    """Return a resolver whose providers speak or transcribe."""

    def resolve_speech(model: str | None) -> tuple[Provider, str]:
        provider, name = resolve(model)
        return kind(provider, till), name

    return resolve_speech
