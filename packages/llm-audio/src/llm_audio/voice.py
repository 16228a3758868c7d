"""Whether somebody speaks: detectors that are fed block by block, and the end of speech.

A detector compares the level of each 20 ms with the background, which it takes to be the quietest of the last seconds.
Speech rises above that several times a second and falls back to it between words; a fan, hum or hiss does not rise above
itself, however loud it is, and one that is switched on counts as background once it has lasted.
"""

from __future__ import annotations

import math
from collections import deque
from enum import StrEnum
from typing import Any, Protocol

from llm_audio.clip import AudioClip
from llm_audio.errors import AudioDependencyMissing
from llm_audio.sample_format import decibels
from llm_core import InvalidValue

__all__ = [
    "FRAME_SECONDS",
    "EndOfSpeech",
    "EnergyDetector",
    "SpeechState",
    "VoiceDetector",
    "WebRtcDetector",
]

FRAME_SECONDS = 0.02
"""What is judged at once: about two periods of a low voice, and what WebRTC's detector takes."""


class VoiceDetector(Protocol):
    """Says of one stretch of `FRAME_SECONDS` after the other whether it is speech."""

    def is_speech(self, frame: AudioClip) -> bool:
        """Judge the next stretch; its rate and channels are those of the stretch before."""


class EnergyDetector:
    """Takes for speech what is `rise_db` louder than the background, and not below `threshold_dbfs`.

    The background is the quietest level of the last `memory_seconds`, smoothed over 100 ms.
    """

    def __init__(
        self,
        *,
        rise_db: float = 9.0,
        threshold_dbfs: float = -50.0,
        memory_seconds: float = 2.0,
    ) -> None:
        if not rise_db > 0:
            raise InvalidValue.of("rise_db", rise_db, "a number above 0")
        if not memory_seconds >= 10 * FRAME_SECONDS:
            expected = f"{10 * FRAME_SECONDS} seconds or more"
            raise InvalidValue.of("memory_seconds", memory_seconds, expected)
        self._rise_db = rise_db
        self._threshold_dbfs = threshold_dbfs
        self._latest: deque[float] = deque(maxlen=5)
        self._memory: deque[float] = deque(maxlen=round(memory_seconds / FRAME_SECONDS))

    @property
    def background_dbfs(self) -> float:
        """The level of what is taken for background; -120 before anything was heard."""
        return min(self._memory, default=-120.0)

    def is_speech(self, frame: AudioClip) -> bool:
        """Judge the next stretch."""
        level = frame.rms
        self._latest.append(level * level)
        smoothed = decibels(math.sqrt(sum(self._latest) / len(self._latest)))
        self._memory.append(smoothed)
        loud = decibels(level)
        return loud >= self._threshold_dbfs and loud >= self.background_dbfs + self._rise_db


class WebRtcDetector:
    """WebRTC's detector, which knows the spectrum of speech; needs the extra ``vad``.

    `aggressiveness` is 0 (lets much through) to 3. Steady noise, which it may take for speech, is held off by `energy`.
    """

    def __init__(self, *, aggressiveness: int = 2, energy: EnergyDetector | None = None) -> None:
        if aggressiveness not in (0, 1, 2, 3):
            raise InvalidValue.of("aggressiveness", aggressiveness, "0, 1, 2 or 3")
        self._aggressiveness = aggressiveness
        self._energy = energy or EnergyDetector(rise_db=4.0)
        self._vad: Any = None

    def is_speech(self, frame: AudioClip) -> bool:
        """Judge the next stretch; raises AudioDependencyMissing without the extra."""
        is_loud = self._energy.is_speech(frame)
        if self._vad is None:
            self._vad = _webrtcvad().Vad(self._aggressiveness)
        at_16_khz = frame.mono().resample(16_000).to("int16").frames[:320]
        if len(at_16_khz) < 320:
            return False
        return bool(self._vad.is_speech(at_16_khz.tobytes(), 16_000)) and is_loud


class SpeechState(StrEnum):
    """Where one is in an utterance."""

    WAITING = "waiting"
    """Nobody has spoken yet."""
    SPEAKING = "speaking"
    """Somebody speaks, or has paused for less than the silence that ends it."""
    ENDED = "ended"


class EndOfSpeech:
    """Follows sound block by block until somebody has spoken and then been silent for `silence_seconds`.

    `speech_seconds` is how much speech within half a second it takes to believe it, so that a click is none.
    """

    def __init__(
        self,
        *,
        silence_seconds: float = 0.8,
        speech_seconds: float = 0.1,
        detector: VoiceDetector | None = None,
    ) -> None:
        if not silence_seconds > 0:
            raise InvalidValue.of("silence_seconds", silence_seconds, "a number above 0")
        if not 0 < speech_seconds <= 0.5:
            raise InvalidValue.of("speech_seconds", speech_seconds, "above 0, up to 0.5")
        self._detector = detector or EnergyDetector()
        self._silence_seconds = silence_seconds
        self._needed = max(round(speech_seconds / FRAME_SECONDS), 1)
        self._recent: deque[bool] = deque(maxlen=round(0.5 / FRAME_SECONDS))
        self._framer = Framer()
        self._heard = 0
        self._speech_begins: int | None = None
        self._speech_ends = 0

    @property
    def state(self) -> SpeechState:
        """Where one is."""
        if self._speech_begins is None:
            return SpeechState.WAITING
        silent_seconds = (self._heard - self._speech_ends) * FRAME_SECONDS
        # One frame of tolerance for the rounding of the sum.
        is_over = silent_seconds >= self._silence_seconds - FRAME_SECONDS / 2
        return SpeechState.ENDED if is_over else SpeechState.SPEAKING

    @property
    def speech_begins_seconds(self) -> float | None:
        """When speech began, in what was fed; None while waiting."""
        return None if self._speech_begins is None else self._speech_begins * FRAME_SECONDS

    @property
    def speech_ends_seconds(self) -> float:
        """When speech was last heard, in what was fed."""
        return self._speech_ends * FRAME_SECONDS

    def feed(self, block: AudioClip) -> SpeechState:
        """Take the next block, of any length, and return where one is; once it has ended nothing changes."""
        for frame in self._framer.frames_of(block):
            if self.state is SpeechState.ENDED:
                break
            self._note(self._detector.is_speech(frame))
        return self.state

    def _note(self, is_speech: bool) -> None:
        self._heard += 1
        self._recent.append(is_speech)
        if is_speech and sum(self._recent) >= self._needed:
            if self._speech_begins is None:
                self._speech_begins = self._heard - len(self._recent) + self._recent.index(True)
            self._speech_ends = self._heard


class Framer:
    """Cuts blocks of any length into stretches of `FRAME_SECONDS`; keeps what is left for the next."""

    def __init__(self) -> None:
        self._left: AudioClip | None = None

    def frames_of(self, block: AudioClip) -> list[AudioClip]:
        """Return the stretches that are complete with `block`."""
        sound = block if self._left is None else self._left + block
        step = max(round(sound.sample_rate_hz * FRAME_SECONDS), 1)
        whole = len(sound) // step * step
        self._left = sound[whole:]
        return [sound[start : start + step] for start in range(0, whole, step)]


def _webrtcvad() -> Any:
    try:
        import webrtcvad  # type: ignore[import-untyped]
    except ImportError as error:
        raise AudioDependencyMissing(
            "WebRtcDetector needs the package webrtcvad-wheels: install the extra llm-audio[vad]"
        ) from error
    return webrtcvad
