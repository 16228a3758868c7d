"""WAV files by the standard library and numpy.

Not by the module `wave`: on Python 3.11 it knows neither float samples nor the extensible header, and it takes the
length that a streaming server could not know (0xFFFFFFFF) for an error.
The layout is that of Microsoft's «Multiple channel audio data and WAVE files» and RFC 2361 for the format tags.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_audio.errors import AudioFormatError, NotAudio, TruncatedAudio, UnsupportedCodec
from llm_audio.sample_format import Frames
from llm_core import Value, immutable

if TYPE_CHECKING:
    from llm_audio.clip import AudioClip

__all__ = ["Sound", "read_wave", "write_wave"]

_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_TAG_NAMES = {0x0002: "ADPCM", 0x0006: "A-law", 0x0007: "µ-law", 0x0011: "IMA ADPCM", 0x0055: "MP3"}
_OPEN_LENGTH = 0x7FFF_0000
"""From here up a length means that the writer did not know it: no sound that long fits into the format."""
_MAX_BYTES = 0xFFFF_FFFF - 64


@immutable
class Sound(Value):
    """Samples that were read."""

    frames: Frames
    """Of the shape (frames, channels)."""
    sample_rate_hz: int
    missing: str = ""
    """What the file announces and does not hold; empty if it is whole."""

    def require_whole(self, name: str, clip: AudioClip) -> None:
        """Raise TruncatedAudio, keeping `clip`, if something is missing."""
        if self.missing:
            words = (
                f"{name}: truncated, {self.missing}; {clip.duration_seconds:.3f} s could be read"
            )
            raise TruncatedAudio(words, recovered=clip)


@dataclass(frozen=True, slots=True)
class _Format:
    """The chunk ``fmt ``."""

    tag: int
    channels: int
    sample_rate_hz: int
    bits: int

    @classmethod
    def parse(cls, chunk: bytes, name: str) -> _Format:
        if len(chunk) < 16:
            raise TruncatedAudio(f"{name}: truncated inside the WAV header")
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
        if tag == _EXTENSIBLE and len(chunk) >= 40:
            (tag,) = struct.unpack_from("<H", chunk, 24)
        if not channels or not rate:
            raise NotAudio(
                f"{name}: a WAV header of {channels} channels at {rate} Hz, expected at least one of each"
            )
        return cls(tag, channels, rate, bits)

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


def read_wave(data: bytes, name: str) -> Sound:
    """Read a WAV file of PCM with 8, 16, 24 or 32 bits, or of 32 or 64-bit floats.

    8 and 16 bits come as int16, all else as float32.
    Raises UnsupportedCodec for other contents.
    """
    header: _Format | None = None
    place = 12
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, place)
        place += 8
        if kind == b"fmt ":
            header = _Format.parse(data[place : place + size], name)
        elif kind == b"data":
            if header is None:
                raise NotAudio(f"{name}: a WAV file whose sound comes before its header")
            return _read_samples(data, place, size, header, name)
        place += size + size % 2
    raise TruncatedAudio(f"{name}: truncated, a WAV file that ends before its sound begins")


def _read_samples(data: bytes, place: int, size: int, header: _Format, name: str) -> Sound:
    convert = _converter(header)
    if convert is None:
        known = _TAG_NAMES.get(header.tag, f"format {header.tag:#06x}")
        raise UnsupportedCodec(f"{name}: a WAV file of {known} with {header.bits} bits")
    there = len(data) - place
    is_open = size >= _OPEN_LENGTH or (size == 0 and there > 0)
    taken = there if is_open else min(size, there)
    count = taken // header.frame_bytes
    missing = "" if is_open or taken == size else f"{size} bytes of sound announced, {there} there"
    samples = convert(data[place : place + count * header.frame_bytes])
    return Sound(
        frames=samples.reshape(count, header.channels),
        sample_rate_hz=header.sample_rate_hz,
        missing=missing,
    )


def _converter(header: _Format) -> Callable[[bytes], Frames] | None:
    """Return what turns the bytes of such samples into int16 or float32; None for what is not known."""
    import numpy as np

    def from_8_bits(data: bytes) -> Frames:
        return (np.frombuffer(data, np.uint8).astype(np.int16) - 128) * np.int16(256)

    def from_24_bits(data: bytes) -> Frames:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)

    def from_64_bit_floats(data: bytes) -> Frames:
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # what does not fit is refused as infinite later
            return np.frombuffer(data, "<f8").astype(np.float32)

    converters: dict[tuple[int, int], Callable[[bytes], Frames]] = {
        (_PCM, 8): from_8_bits,
        (_PCM, 16): lambda data: np.frombuffer(data, "<i2").astype(np.int16),
        (_PCM, 24): from_24_bits,
        (_PCM, 32): lambda data: (np.frombuffer(data, "<i4") / 2.0**31).astype(np.float32),
        (_FLOAT, 32): lambda data: np.frombuffer(data, "<f4").astype(np.float32),
        (_FLOAT, 64): from_64_bit_floats,
    }
    return converters.get((header.tag, header.bits))


def write_wave(frames: Frames, sample_rate_hz: int) -> bytes:
    """Return a WAV file of 16-bit PCM or 32-bit floats, as the samples are; AudioFormatError beyond 4 GB."""
    is_float = frames.dtype.kind == "f"
    samples = frames.astype("<f4" if is_float else "<i2").tobytes()
    if len(samples) > _MAX_BYTES:
        raise AudioFormatError(f"WAV: {len(samples)} bytes of sound, expected at most {_MAX_BYTES}")
    channels, width = frames.shape[1], 4 if is_float else 2
    header = struct.pack(
        "<HHIIHH",
        _FLOAT if is_float else _PCM,
        channels,
        sample_rate_hz,
        sample_rate_hz * channels * width,
        channels * width,
        8 * width,
    )
    # What is no PCM says how many frames there are.
    fact = struct.pack("<4sII", b"fact", 4, len(frames)) if is_float else b""
    body = b"WAVE" + struct.pack("<4sI", b"fmt ", len(header)) + header + fact
    body += struct.pack("<4sI", b"data", len(samples))
    padding = b"\0" * (len(samples) % 2)
    size = len(body) + len(samples) + len(padding)
    return b"".join([b"RIFF", struct.pack("<I", size), body, samples, padding])
