"""`record`: a stretch of sound from a microphone, for a time, until silence, or until told to stop."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

from llm_audio.clip import AudioClip
from llm_audio.errors import DeviceLost
from llm_audio.microphone import Microphone
from llm_audio.voice import EndOfSpeech, SpeechState, VoiceDetector
from llm_core import InvalidValue, Value, immutable

__all__ = ["Recording", "RecordingEnd", "StopSignal", "record", "record_async"]

_LEAD_SECONDS = 0.3
"""Kept before the first speech: soft beginnings are below any detector's threshold."""


class RecordingEnd(StrEnum):
    """Why a recording ended."""

    SECONDS = "seconds"
    """The time asked for has passed."""
    SILENCE = "silence"
    """Somebody has spoken and then been silent."""
    NO_SPEECH = "no_speech"
    """Nobody spoke within the time to wait for it."""
    STOP = "stop"
    """It was told to."""


class StopSignal(Protocol):
    """Such as `threading.Event` or `asyncio.Event`."""

    def is_set(self) -> bool:
        """Tell whether to stop."""


@immutable
class Recording(Value):
    """What was recorded."""

    clip: AudioClip
    ended_by: RecordingEnd
    losses: str = ""
    """What the microphone lost on the way, in words; empty for a recording without a gap."""


def record(
    seconds: float | None = None,
    *,
    until_silence: float | None = None,
    stop: StopSignal | None = None,
    wait_seconds: float | None = None,
    detector: VoiceDetector | None = None,
    on_block: Callable[[AudioClip], None] | None = None,
    **microphone: Any,
) -> Recording:
    """Record for exactly `seconds`, until nobody speaks for `until_silence` seconds, or until `stop` is set.

    At least one of the three; with several the first that comes true ends it.
    With `until_silence` the recording begins a moment before the first speech, ends with the silence, and is empty
    (`RecordingEnd.NO_SPEECH`) if nobody speaks within `wait_seconds`; `detector` says what speech is.
    `on_block` is called with each block as it comes, such as for a `LevelMeter`. The rest goes to `Microphone`.
    Raises DeviceLost when the device goes away; its `recorded` is what there was.
    """
    take = _Take(seconds, until_silence, stop, wait_seconds, detector, on_block)
    with Microphone(**microphone) as source:
        try:
            for block in source:
                if take.feed(block):
                    break
        except DeviceLost as error:
            error.recorded = take.clip
            raise
    return take.recording(source)


async def record_async(
    seconds: float | None = None,
    *,
    until_silence: float | None = None,
    stop: StopSignal | None = None,
    wait_seconds: float | None = None,
    detector: VoiceDetector | None = None,
    on_block: Callable[[AudioClip], None] | None = None,
    **microphone: Any,
) -> Recording:
    """Do as `record` does, and let other tasks run meanwhile."""
    take = _Take(seconds, until_silence, stop, wait_seconds, detector, on_block)
    async with Microphone(**microphone) as source:
        try:
            async for block in source:
                if take.feed(block):
                    break
        except DeviceLost as error:
            error.recorded = take.clip
            raise
    return take.recording(source)


class _Take:
    """A recording in progress: blocks in, and whether it is over."""

    def __init__(
        self,
        seconds: float | None,
        until_silence: float | None,
        stop: StopSignal | None,
        wait_seconds: float | None,
        detector: VoiceDetector | None,
        on_block: Callable[[AudioClip], None] | None,
    ) -> None:
        if seconds is None and until_silence is None and stop is None:
            raise InvalidValue("record: got none of seconds, until_silence and stop, expected one")
        for field, value in (("seconds", seconds), ("wait_seconds", wait_seconds)):
            if value is not None and not value > 0:
                raise InvalidValue.of(field, value, "a number above 0")
        self._seconds = seconds
        self._stop = stop
        self._wait_seconds = wait_seconds
        self._on_block = on_block
        self._speech: EndOfSpeech | None = None
        if until_silence is not None:
            self._speech = EndOfSpeech(silence_seconds=until_silence, detector=detector)
        self._blocks: list[AudioClip] = []
        self._heard_seconds = 0.0
        self._kept_seconds = 0.0
        self._ended_by = RecordingEnd.STOP

    def feed(self, block: AudioClip) -> bool:
        """Take the next block; True if the recording is over."""
        self._blocks.append(block)
        self._heard_seconds += block.duration_seconds
        self._kept_seconds += block.duration_seconds
        if self._on_block is not None:
            self._on_block(block)
        ended_by = self._end_after(block)
        self._ended_by = ended_by or RecordingEnd.STOP
        return ended_by is not None

    def _end_after(self, block: AudioClip) -> RecordingEnd | None:
        if self._speech is not None:
            state = self._speech.feed(block)
            if state is SpeechState.ENDED:
                return RecordingEnd.SILENCE
            if state is SpeechState.WAITING:
                self._forget_old()
                if self._wait_seconds is not None and self._heard_seconds >= self._wait_seconds:
                    self._blocks.clear()
                    return RecordingEnd.NO_SPEECH
        if self._stop is not None and self._stop.is_set():
            return RecordingEnd.STOP
        # Half a frame of tolerance for the rounding of the sum.
        slack = 0.5 / block.sample_rate_hz
        if self._seconds is not None and self._heard_seconds >= self._seconds - slack:
            return RecordingEnd.SECONDS
        return None

    def _forget_old(self) -> None:
        """Keep only what may turn out to lie just before speech: its lead, and what the detector needed to be sure."""
        while self._kept_seconds - self._blocks[0].duration_seconds > _LEAD_SECONDS + 0.5:
            self._kept_seconds -= self._blocks.pop(0).duration_seconds

    @property
    def clip(self) -> AudioClip | None:
        """What there is so far."""
        if not self._blocks:
            return None
        clip = AudioClip.join(self._blocks)
        if self._ended_by is RecordingEnd.SECONDS and self._speech is None:
            return clip.slice(0.0, self._seconds)
        begins = self._speech.speech_begins_seconds if self._speech else None
        if begins is None:
            return clip
        forgotten_seconds = self._heard_seconds - self._kept_seconds
        return clip.slice(max(begins - _LEAD_SECONDS - forgotten_seconds, 0.0))

    def recording(self, source: Microphone) -> Recording:
        """Return the result."""
        clip = self.clip or AudioClip.silence(
            0.0, source.sample_rate_hz, channels=source.channels
        ).to("float32")
        return Recording(clip=clip, ended_by=self._ended_by, losses=source.losses)
