"""OpenAI's speech to text (``POST /audio/transcriptions``) and text to speech (``POST /audio/speech``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_core import AudioPart, InvalidValue, Usage
from llm_providers.json_reading import dicts_at, int_at, number_at, text_at
from llm_providers.speech import SpeechSegment, Transcript

__all__ = ["MAX_SPEECH_CHARACTERS", "read_transcript", "speech_body", "transcription_form"]

MAX_SPEECH_CHARACTERS = 4096
"""The longest text that one call speaks (openai 3.54, ``SpeechCreateParams.input``)."""
MAX_UPLOAD_BYTES = 25 * 1024 * 1024
"""The largest file that one call hears (OpenAI's guide «Speech to text»)."""

_MEDIA_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac"}
_ENDINGS = {"opus": "ogg"}


def transcription_form(
    audio: AudioPart,
    model: str,
    *,
    language: str | None,
    prompt: str | None,
    segments: bool,
    options: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, tuple[str, bytes, str]]]:
    """Return the form's fields and its file; raises InvalidValue for sound that the API does not take."""
    if len(audio.data) > MAX_UPLOAD_BYTES:
        raise InvalidValue(
            f"transcribe.audio: got {len(audio.data)} bytes, expected at most {MAX_UPLOAD_BYTES}; split it first"
        )
    if audio.format == "pcm16":
        raise InvalidValue.of(
            "transcribe.audio.format", audio.format, "a format with a header, such as 'wav'"
        )
    form: dict[str, Any] = {"model": model, "response_format": "json"}
    if segments:
        form |= {"response_format": "verbose_json", "timestamp_granularities": ["segment"]}
    if language is not None:
        form["language"] = language
    if prompt is not None:
        form["prompt"] = prompt
    form |= options
    name = "audio." + _ENDINGS.get(audio.format, audio.format)
    media_type = _MEDIA_TYPES.get(audio.format, f"audio/{audio.format}")
    return form, {"file": (name, audio.data, media_type)}


def read_transcript(payload: Mapping[str, Any]) -> Transcript:
    """Return what was said."""
    segments = tuple(
        SpeechSegment(
            text=text_at(segment, "text"),
            start_seconds=number_at(segment, "start") or 0.0,
            end_seconds=number_at(segment, "end") or 0.0,
            speaker=text_at(segment, "speaker") or None,
        )
        for segment in dicts_at(payload, "segments")
    )
    usage = payload.get("usage")
    return Transcript(
        text=text_at(payload, "text"),
        language=text_at(payload, "language") or None,
        duration_seconds=number_at(payload, "duration") or number_at(usage, "seconds"),
        segments=segments,
        usage=Usage(
            input_tokens=int_at(usage, "input_tokens"),
            output_tokens=int_at(usage, "output_tokens"),
            audio_input_tokens=int_at(usage, "input_token_details", "audio_tokens"),
        ),
        raw=dict(payload),
    )


def speech_body(
    text: str,
    model: str,
    *,
    voice: str,
    format: str,
    speed: float | None,
    instructions: str | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the body; raises InvalidValue for a text that is empty or too long."""
    if not 1 <= len(text) <= MAX_SPEECH_CHARACTERS:
        raise InvalidValue(
            f"speak.text: got {len(text)} characters, expected 1 to {MAX_SPEECH_CHARACTERS}"
        )
    wire_format = "pcm" if format == "pcm16" else format
    body = {"model": model, "input": text, "voice": voice, "response_format": wire_format}
    extra = {"speed": speed, "instructions": instructions}
    return {**body, **{key: value for key, value in extra.items() if value is not None}, **options}
