"""Sound as callers hold it, and as requests and results do: llm-audio is imported when there is some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

from llm_core import AudioPart, GenerationResult, InvalidValue, MissingDependencyError

__all__ = ["as_audio_parts", "require_llm_audio", "with_playable_audio"]


def as_audio_parts(sound: Any) -> tuple[AudioPart, ...]:
    """Return the parts for one piece of sound or several: an `AudioClip`, the path of a file, or an `AudioPart`.

    WAV and MP3 files go as they are; other files become WAV, which every vendor takes.
    Raises InvalidValue for anything else, and what reading a file raises.
    """
    several = isinstance(sound, Sequence) and not isinstance(sound, str)
    return tuple(_as_part(item) for item in (sound if several else [sound]))


def _as_part(sound: Any) -> AudioPart:
    if isinstance(sound, AudioPart):
        return sound
    llm_audio = require_llm_audio()
    if isinstance(sound, llm_audio.AudioClip):
        part: AudioPart = sound.to("int16").to_part()
        return part
    if not isinstance(sound, str | PathLike):
        raise InvalidValue.of(
            "audio", sound, "an AudioClip, an AudioPart or a path, or some of them"
        )
    from pathlib import Path

    path = Path(sound)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidValue(f"audio: {path} cannot be read: {error.strerror}") from error
    clip = llm_audio.AudioClip.decode(data, name=str(path))
    seen = llm_audio.format_of_bytes(data)
    return AudioPart(data=data, format=seen) if seen in ("wav", "mp3") else _as_part(clip)


def with_playable_audio(result: GenerationResult[Any]) -> GenerationResult[Any]:
    """Return the result with an `audio` that can be saved and played, where there is some and llm-audio is installed."""
    if result.audio is None:
        return result
    try:
        llm_audio = require_llm_audio()
    except MissingDependencyError:
        return result
    return replace(result, audio=llm_audio.PlayableAudio.of(result.audio))


def require_llm_audio() -> Any:
    """Return the module llm_audio; MissingDependencyError names the extra without it."""
    try:
        import llm_audio
    except ImportError as error:
        raise MissingDependencyError(
            "sound needs the package llm-audio: install the extra llm-service[audio]"
        ) from error
    return llm_audio
