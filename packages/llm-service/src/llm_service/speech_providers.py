"""Providers that speak or transcribe, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from llm_core import (
    AudioPart,
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    LLMCallRequest,
    ProviderError,
    ProviderResponse,
    TextPart,
    Usage,
)
from llm_service.estimate import estimate_text_tokens
from llm_service.parts import EngineParts
from llm_service.pieces import ProviderMethod

__all__ = ["SpeakingProvider", "TranscribingProvider"]

_SPOKEN_TOKENS_PER_MINUTE = 1_250
"""OpenAI's pricing page puts gpt-4o-mini-tts at 0.015 USD a minute and at 12 USD for a million tokens of sound."""


def _cost(
    parts: EngineParts,
    usage: Usage,
    *,
    provider: str,
    model: str,
    characters: int = 0,
    seconds: float = 0.0,
) -> Cost | None:
    """Return what a call cost by tokens, characters or minutes, whichever the price book knows for the model.

    None without a price book.
    """
    book = parts.price_book
    if book is None:
        return None
    # Here, because services that never speak need not load it.
    from llm_metrics import PriceBook, Quantities

    asked: dict[str, Any] = {"provider": provider, "model": model, "at": parts.clock.now()}
    by_tokens = None
    if usage.total_tokens and not (usage.estimated and model.startswith("tts-")):
        by_tokens = book.price(usage, **asked)
        if by_tokens.status is not CostStatus.UNPRICED:
            return by_tokens
    if not isinstance(book, PriceBook):
        return by_tokens or Cost()
    also = Quantities(characters=characters, audio_seconds=Decimal(str(round(seconds, 3))))
    return book.price(Usage(), also=also, **asked)


class SpeakingProvider(ProviderMethod):
    """A provider whose answer to a text is that text spoken; the decoded clip is in `raw`."""

    method = "speak"
    lacking = "text to speech"

    async def _invoke(self, request: LLMCallRequest) -> ProviderResponse:
        from llm_audio import AudioClip, AudioError

        text = request.messages[0].text
        assert request.audio_output is not None, "made by `speak`"
        part: AudioPart = await self._method(
            text,
            voice=request.audio_output.voice,
            format=request.audio_output.format,
            model=request.model,
            **request.provider_options,
        )
        try:  # sound that is broken or empty is a failure that may pass
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
            cost=_cost(
                self._parts, usage, provider=self.name, model=request.model, characters=len(text)
            ),
            raw=clip,
        )


class TranscribingProvider(ProviderMethod):
    """A provider whose answer to sound is its `Transcript`, in `raw`."""

    method = "transcribe"
    lacking = "speech to text"

    async def _invoke(self, request: LLMCallRequest) -> ProviderResponse:
        (part,) = request.messages[0].content
        options: Mapping[str, Any] = request.provider_options
        seconds = options["seconds"]
        given = {key: value for key, value in options.items() if key != "seconds"}
        made = await self._method(part, model=request.model, **given)
        return ProviderResponse(
            provider=self.name,
            model=request.model,
            parts=(TextPart(text=made.text),) if made.text else (),
            usage=made.usage,
            cost=_cost(
                self._parts, made.usage, provider=self.name, model=request.model, seconds=seconds
            ),
            raw=made,
        )
