"""`play`: a clip, or sound that is still being made."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from llm_audio.clip import AudioClip
from llm_audio.speaker import Speaker
from llm_core import AudioDelta, AudioPart, StreamEvent, Value, immutable

__all__ = ["Playback", "play", "play_async", "play_stream"]


@immutable
class Playback(Value):
    """How playing went."""

    seconds: float
    """How much sound was played."""
    gaps: int = 0
    """How often the next sound was late."""
    device_underruns: int = 0
    """How often the device itself got its sound too late."""


def play(
    clip: AudioClip | AudioPart, *, device: int | str | None = None, system: Any = None
) -> Playback:
    """Play a clip and return when it has been heard; raises DeviceError, AudioDependencyMissing."""
    clip = _as_clip(clip)
    speaker = _speaker_for(clip, device, system)
    with speaker:
        speaker.write(clip)
    return _report(speaker)


async def play_async(
    clip: AudioClip | AudioPart, *, device: int | str | None = None, system: Any = None
) -> Playback:
    """Do as `play` does, and let other tasks run meanwhile; cancelling ends the sound at once."""
    clip = _as_clip(clip)
    speaker = _speaker_for(clip, device, system)
    async with speaker:
        await speaker.send(clip)
    return _report(speaker)


async def play_stream(
    pieces: AsyncIterable[AudioClip | AudioPart | StreamEvent],
    *,
    sample_rate_hz: int = 24_000,
    device: int | str | None = None,
    system: Any = None,
) -> Playback:
    """Play pieces of sound as they come, and return when the last has been heard.

    `pieces` are clips, or a service's stream, of which the audio is played and everything else passed over; the audio of a
    stream is raw 16-bit mono at `sample_rate_hz` (OpenAI's are 24 kHz).
    Cancelling ends the sound at once. What `pieces` raises is raised here, after the sound has ended.
    """
    speaker: Speaker | None = None
    samples = _Samples(sample_rate_hz)
    try:
        async for piece in pieces:
            clip = (
                samples.take(piece.data) if isinstance(piece, AudioDelta) else _clip_or_none(piece)
            )
            if not clip:
                continue
            if speaker is None:
                speaker = await _speaker_for(clip, device, system).__aenter__()
            await speaker.send(clip)
        if speaker is None:
            return Playback(seconds=0.0)
        await speaker.finish_async()
        return _report(speaker)
    finally:
        if speaker is not None:
            speaker.stop()


class _Samples:
    """Raw 16-bit samples that come in pieces, which need not end where a sample does."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._left = b""

    def take(self, data: bytes) -> AudioClip | None:
        data = self._left + data
        whole = len(data) // 2 * 2
        self._left = data[whole:]
        if not whole:
            return None
        return AudioClip.decode(data[:whole], "pcm16", sample_rate_hz=self._sample_rate_hz)


def _clip_or_none(piece: object) -> AudioClip | None:
    return _as_clip(piece) if isinstance(piece, AudioClip | AudioPart) else None


def _as_clip(sound: AudioClip | AudioPart) -> AudioClip:
    return AudioClip.from_part(sound) if isinstance(sound, AudioPart) else sound


def _speaker_for(clip: AudioClip, device: int | str | None, system: Any) -> Speaker:
    return Speaker(
        device=device,
        sample_rate_hz=clip.sample_rate_hz,
        channels=min(clip.channels, 2),
        system=system,
    )


def _report(speaker: Speaker) -> Playback:
    return Playback(
        seconds=speaker.played_seconds,
        gaps=speaker.gaps,
        device_underruns=speaker.device_underruns,
    )
