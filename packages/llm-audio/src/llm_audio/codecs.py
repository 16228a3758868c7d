"""Bytes of sound files to samples and back: WAV here, FLAC, OGG and MP3 by soundfile."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_audio.errors import (
    AudioDependencyMissing,
    AudioFormatError,
    EmptyAudio,
    NotAudio,
    TruncatedAudio,
    UnsupportedCodec,
)
from llm_audio.sample_format import Frames, to_int16
from llm_audio.wave_file import Sound, read_wave, write_wave
from llm_core import InvalidValue

__all__ = ["FORMATS", "decode", "encode", "format_of_bytes", "format_of_path"]


@dataclass(frozen=True, slots=True)
class _Codec:
    """How libsndfile calls a format, and what the format can hold."""

    container: str
    subtype: str
    max_channels: int
    rates_hz: tuple[int, ...] = ()
    """The only rates it knows; empty for any."""


_OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)  # RFC 6716, section 2.1.3
_MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_CODECS = {
    "flac": _Codec("FLAC", "PCM_16", 8),
    "ogg": _Codec("OGG", "VORBIS", 255),
    "opus": _Codec("OGG", "OPUS", 255, _OPUS_RATES_HZ),
    "mp3": _Codec("MP3", "MPEG_LAYER_III", 2, _MP3_RATES_HZ),
}
FORMATS = ("wav", "flac", "ogg", "opus", "mp3", "pcm16")
"""What clips are written in; ``ogg`` is Vorbis, ``opus`` is Opus in an Ogg file."""

_ENDINGS = {".wave": "wav", ".oga": "ogg", ".pcm": "pcm16"}
_BLOCK_FRAMES = 16_384
"""How much goes to or from libsndfile at a time: what a header claims is never allocated at once, and its Vorbis
encoder keeps a block on the stack."""


def decode(
    data: bytes,
    format: str | None = None,
    *,
    sample_rate_hz: int | None = None,
    channels: int = 1,
    name: str = "data",
) -> Sound:
    """Return the samples of a file, or of raw ``pcm16``; raises AudioFormatError."""
    if not data:
        raise EmptyAudio(f"{name}: empty, expected the bytes of a sound file")
    if format == "pcm16":
        return _read_pcm16(data, sample_rate_hz, channels, name)
    seen = format_of_bytes(data)
    if seen is None:
        raise NotAudio(
            f"{name}: begins with {data[:12]!r}, which is no sound; expected WAV, FLAC, OGG or MP3"
        )
    if seen not in FORMATS:
        raise UnsupportedCodec(
            f"{name}: {seen} cannot be read here; convert it to WAV, FLAC, OGG or MP3"
        )
    sound = (
        _read_wave_or_more(data, name) if seen == "wav" else _read_by_soundfile(data, seen, name)
    )
    if not len(sound.frames):
        if sound.missing:
            raise TruncatedAudio(f"{name}: truncated {seen}, {sound.missing}")
        raise EmptyAudio(f"{name}: {seen} without a single frame of sound")
    return sound


def encode(frames: Frames, sample_rate_hz: int, format: str) -> bytes:
    """Return the bytes of a file; raises EmptyAudio, UnsupportedCodec, AudioFormatError."""
    if format not in FORMATS:
        raise UnsupportedCodec(f"format: got {format!r}, expected one of {', '.join(FORMATS)}")
    if not len(frames):
        raise EmptyAudio(f"{format}: the clip has no frames, expected at least one to write")
    if format == "pcm16":
        return to_int16(frames).astype("<i2").tobytes()
    if format == "wav":
        return write_wave(frames, sample_rate_hz)
    return _write_by_soundfile(frames, sample_rate_hz, format)


def format_of_path(path: Path) -> str:
    """Return the format that a path's ending stands for; raises UnsupportedCodec for any other ending."""
    ending = path.suffix.lower()
    format = _ENDINGS.get(ending, ending.removeprefix("."))
    if format not in FORMATS:
        raise UnsupportedCodec(f"{path}: ends in {ending!r}, expected one of {', '.join(FORMATS)}")
    return format


def format_of_bytes(data: bytes) -> str | None:
    """Return the format that the first bytes show, also of some that cannot be read here; None for no sound."""
    if data[:4] == b"RIFF" and (data[8:12] == b"WAVE" or len(data) < 12):
        return "wav"
    if data[:4] == b"fLaC":
        return "flac"
    if data[:4] == b"OggS":
        return "opus" if b"OpusHead" in data[:128] else "ogg"
    if data[4:8] == b"ftyp":
        return "aac in an MP4 file"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "a WebM or Matroska file"
    if data[:4] in (b"FORM", b"RF64", b".snd"):
        return {b"FORM": "an AIFF file", b"RF64": "an RF64 file"}.get(data[:4], "an AU file")
    if data[:3] == b"ID3":
        return "mp3"
    return _format_of_sync(data)


def _format_of_sync(data: bytes) -> str | None:
    """Tell MP3 and AAC, which begin with twelve set bits (eleven for MPEG 2.5), from other bytes."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    if data[1] & 0xF6 == 0xF0:
        return "aac"
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    bitrate, rate = data[2] >> 4, data[2] >> 2 & 3
    return "mp3" if version != 1 and layer != 0 and bitrate != 15 and rate != 3 else None


def _read_pcm16(data: bytes, sample_rate_hz: int | None, channels: int, name: str) -> Sound:
    import numpy as np

    if sample_rate_hz is None:
        raise InvalidValue.of("sample_rate_hz", None, "a rate, as pcm16 has no header")
    if channels < 1:
        raise InvalidValue.of("channels", channels, "1 or more")
    count = len(data) // (2 * channels)
    if not count:
        raise EmptyAudio(f"{name}: {len(data)} bytes, expected at least one frame of pcm16")
    samples = np.frombuffer(data, "<i2", count=count * channels).astype(np.int16)
    missing = "" if len(data) == 2 * channels * count else "pcm16 that ends inside a frame"
    return Sound(
        frames=samples.reshape(count, channels), sample_rate_hz=sample_rate_hz, missing=missing
    )


def _read_wave_or_more(data: bytes, name: str) -> Sound:
    """Read a WAV file here; one in a codec of its own by soundfile, if that is there."""
    try:
        return read_wave(data, name)
    except UnsupportedCodec:
        try:
            return _read_by_soundfile(data, "wav", name)
        except AudioDependencyMissing:
            pass
        raise


def _read_by_soundfile(data: bytes, format: str, name: str) -> Sound:
    import numpy as np

    soundfile = _soundfile(format)
    blocks: list[Frames] = []

    # Reads on from where it is: soundfile itself seeks after each block, and seeking in MP3 is inexact.
    sequential_file = type("SequentialFile", (soundfile.SoundFile,), {"seekable": lambda _: False})
    with _library_errors(soundfile, data, format, name), sequential_file(io.BytesIO(data)) as f:
        kind = "int16" if f.subtype in ("PCM_16", "PCM_S8") else "float32"
        announced, rate, channels = f.frames, f.samplerate, f.channels
        while len(block := f.read(_BLOCK_FRAMES, dtype=kind, always_2d=True)):
            blocks.append(block)
    frames = np.concatenate(blocks) if blocks else np.zeros((0, channels), kind)
    missing = _missing(data, format, announced, len(frames))
    return Sound(frames=frames, sample_rate_hz=rate, missing=missing)


def _missing(data: bytes, format: str, announced: int, read: int) -> str:
    """Say what a file lacks; empty if it is whole, or if its format cannot tell."""
    if format in ("ogg", "opus"):
        return "" if _ends_ogg(data) else "the last page of the Ogg stream is missing"
    if format == "mp3" and not any(mark in data[:8192] for mark in (b"Xing", b"Info")):
        return ""  # without that header the announced length is only a guess from the first frame
    return f"{announced} frames announced, {read} there" if read < announced else ""


def _ends_ogg(data: bytes) -> bool:
    """Tell whether the last page is marked as the last of its stream, and is whole (RFC 3533, section 6)."""
    page = data[data.rfind(b"OggS") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return bool(lengths) and bool(page[5] & 4) and len(page) >= 27 + len(lengths) + sum(lengths)


def _write_by_soundfile(frames: Frames, sample_rate_hz: int, format: str) -> bytes:
    from llm_audio.clip import AudioClip

    codec = _CODECS[format]
    if frames.shape[1] > codec.max_channels:
        raise UnsupportedCodec(
            f"{format}: got {frames.shape[1]} channels, expected at most {codec.max_channels}"
        )
    clip = AudioClip(frames, sample_rate_hz)
    if codec.rates_hz and sample_rate_hz not in codec.rates_hz:
        higher = (rate for rate in codec.rates_hz if rate > sample_rate_hz)
        clip = clip.resample(next(higher, codec.rates_hz[-1]))
    soundfile = _soundfile(format)
    subtype = codec.subtype
    if format == "flac" and clip.sample_format == "float32":
        subtype = "PCM_24"
    out = io.BytesIO()
    try:
        with soundfile.SoundFile(
            out,
            "w",
            samplerate=clip.sample_rate_hz,
            channels=clip.channels,
            format=codec.container,
            subtype=subtype,
        ) as f:
            for start in range(0, len(clip), _BLOCK_FRAMES):
                f.write(clip.frames[start : start + _BLOCK_FRAMES])
    except (soundfile.SoundFileError, ValueError) as error:
        raise UnsupportedCodec(f"{format}: {clip!r} cannot be written: {error}") from None
    return out.getvalue()


def _soundfile(format: str) -> Any:
    try:
        import soundfile  # type: ignore[import-untyped]
    except ImportError as error:
        raise AudioDependencyMissing(
            f"{format} needs the package soundfile: install the extra llm-audio[files]"
        ) from error
    except OSError as error:
        raise AudioDependencyMissing(
            f"{format} needs the library libsndfile, which soundfile did not find ({error}): "
            "apt-get install libsndfile1"
        ) from error
    return soundfile


@contextmanager
def _library_errors(soundfile: Any, data: bytes, format: str, name: str) -> Iterator[None]:
    """Turn what libsndfile complains of into our errors."""
    try:
        yield
    except AudioFormatError:
        raise
    except (soundfile.SoundFileError, ValueError, TypeError, OverflowError) as error:
        reason = str(error).rpartition(": ")[2]
        if format in ("ogg", "opus") and _missing(data, format, 0, 0):
            raise TruncatedAudio(f"{name}: truncated {format} ({reason})") from None
        if format == "flac" and "lost sync" in reason:
            raise TruncatedAudio(f"{name}: truncated or damaged flac ({reason})") from None
        raise NotAudio(f"{name}: begins like {format} and is damaged ({reason})") from None
