"""Speech that the simulator makes: a tone, a quarter of a second for each token."""

from __future__ import annotations

import io
import math
import struct
import wave

SAMPLE_RATE = 24_000
"""Of the 16-bit mono samples, as OpenAI's `pcm` has them."""

FORMATS = ("wav", "mp3", "pcm", "pcm16")
"""What is spoken; there is no encoder here for `opus`, `aac` and `flac`."""

_PERIOD = 600
"""440 Hz fits 11 times in 600 samples: the pieces join without a click."""
_SILENT_MP3_FRAME = b"\xff\xfb\x90\x64" + bytes(413)
"""MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes whose zeros decode to 1,152 silent samples."""
_MP3_FRAME_SECONDS = 1152 / 44_100


def speak(token_count: int) -> bytes:
    """Make the samples of a tone of 440 Hz."""
    turn = 2 * math.pi * 440 / SAMPLE_RATE
    period = [round(8000 * math.sin(turn * i)) for i in range(_PERIOD)]
    return struct.pack(f"<{_PERIOD}h", *period) * (SAMPLE_RATE // 4 // _PERIOD * token_count)


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
