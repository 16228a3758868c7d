"""Speech that the simulator makes: a tone for each token, a quarter of a second long, whose pitch is the word's."""

from __future__ import annotations

import functools
import io
import math
import struct
import wave
import zlib
from collections.abc import Sequence

SAMPLE_RATE = 24_000
"""Of the 16-bit mono samples, as OpenAI's `pcm` has them."""

FORMATS = ("wav", "mp3", "pcm", "pcm16")
"""What is spoken; there is no encoder here for `opus`, `aac` and `flac`."""

_PIECE_SAMPLES = SAMPLE_RATE // 4
_LOWEST_HZ, _STEP_HZ, _STEPS = 300, 4, 600
"""Multiples of 4 Hz fit a whole number of times into a quarter of a second: the pieces join without a click."""
_SILENT_MP3_FRAME = b"\xff\xfb\x90\x64" + bytes(413)
"""MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes whose zeros decode to 1,152 silent samples."""
_MP3_FRAME_SECONDS = 1152 / 44_100


def tone_hz(piece: str) -> int:
    """Return the pitch of a token: one of 600 from 300 to 2,696 Hz, the same for the same word on every machine.

    White space around it does not count. So whoever hears the sound can tell whether all of a text is there, in order.
    """
    return _LOWEST_HZ + _STEP_HZ * (zlib.crc32(piece.strip().encode()) % _STEPS)


def speak(pieces: Sequence[str]) -> bytes:
    """Make the samples of one tone after the other, a quarter of a second for each token."""
    return b"".join(_tone(tone_hz(piece)) for piece in pieces)


@functools.lru_cache(maxsize=_STEPS)
def _tone(frequency_hz: int) -> bytes:
    turn = 2 * math.pi * frequency_hz / SAMPLE_RATE
    samples = [round(8000 * math.sin(turn * i)) for i in range(_PIECE_SAMPLES)]
    return struct.pack(f"<{_PIECE_SAMPLES}h", *samples)


def encode(samples: bytes, form: str) -> bytes:
    """Write samples as `wav`, as `mp3` (silence as long as they are), or as they are."""
    if form == "wav":
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(samples)
        return out.getvalue()
    if form == "mp3":
        seconds = len(samples) / 2 / SAMPLE_RATE
        return _SILENT_MP3_FRAME * max(math.ceil(seconds / _MP3_FRAME_SECONDS), 1)
    return samples
