"""`AudioClip`: a stretch of sound in memory."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llm_audio.codecs import decode, encode, format_of_path
from llm_audio.errors import NotAudio
from llm_audio.sample_format import (
    MAX_SAMPLE_RATE_HZ,
    Frames,
    SampleFormat,
    to_float32,
    to_int16,
)
from llm_core import AudioPart, InvalidValue

__all__ = ["AudioClip"]


class AudioClip:
    """Sound as frames in memory; never changed, every method returns a new clip.

    A frame is one sample of each channel. `frames` has the shape (frames, channels), or (frames,) for mono, in float32,
    where full scale is -1 to 1, or in int16. The array is shared, not copied, and is not to be written to afterwards.
    Raises InvalidValue for another type or shape, for NaN or infinite samples, and for an impossible sample rate.
    """

    __slots__ = ("_frames", "_sample_rate_hz")

    def __init__(self, frames: Any, sample_rate_hz: int) -> None:
        import numpy as np

        array = np.asarray(frames)
        if array.dtype not in (np.float32, np.int16):
            raise InvalidValue.of("AudioClip.frames", array.dtype.name, "float32 or int16 samples")
        if array.ndim == 1:
            array = array[:, np.newaxis]
        if array.ndim != 2 or array.shape[1] < 1:
            raise InvalidValue.of("AudioClip.frames", array.shape, "the shape (frames, channels)")
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise InvalidValue("AudioClip.frames: got NaN or infinity, expected finite samples")
        whole = isinstance(sample_rate_hz, int) and not isinstance(sample_rate_hz, bool)
        if not whole or not 1 <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
            expected = f"a whole number from 1 to {MAX_SAMPLE_RATE_HZ}"
            raise InvalidValue.of("AudioClip.sample_rate_hz", sample_rate_hz, expected)
        view = array.view()
        view.setflags(write=False)
        self._frames: Frames = view
        self._sample_rate_hz = sample_rate_hz

    @classmethod
    def silence(cls, seconds: float, sample_rate_hz: int, *, channels: int = 1) -> AudioClip:
        """Return `seconds` of nothing, in int16."""
        import numpy as np

        count = round(_not_negative("seconds", seconds) * sample_rate_hz)
        return cls(np.zeros((count, channels), np.int16), sample_rate_hz)

    @classmethod
    def tone(
        cls, frequency_hz: float, seconds: float, sample_rate_hz: int, *, level_dbfs: float = -6.0
    ) -> AudioClip:
        """Return a mono sine in float32 whose peak is `level_dbfs` below full scale; for tests and signals."""
        import numpy as np

        count = round(_not_negative("seconds", seconds) * sample_rate_hz)
        turns = np.arange(count) * (frequency_hz / sample_rate_hz)
        wave = 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * turns)
        return cls(wave.astype(np.float32), sample_rate_hz)

    @classmethod
    def join(cls, clips: Iterable[AudioClip]) -> AudioClip:
        """Return `clips` one after the other, without anything in between.

        All are brought to the rate, the channels and the sample format of the first.
        Raises InvalidValue for no clips at all.
        """
        import numpy as np

        parts = list(clips)
        if not parts:
            raise InvalidValue("AudioClip.join: got no clips, expected at least one")
        first = parts[0]
        return cls(
            np.concatenate([part.like(first).frames for part in parts]), first.sample_rate_hz
        )

    @classmethod
    def read(cls, path: str | Path) -> AudioClip:
        """Read a file: WAV, FLAC, OGG (Vorbis or Opus) or MP3, whatever it is called.

        All but WAV need the extra ``files``. Raises OSError if it cannot be read, AudioFormatError for what is in it.
        """
        return cls.decode(Path(path).read_bytes(), name=str(path))

    @classmethod
    def decode(
        cls,
        data: bytes,
        format: str | None = None,
        *,
        sample_rate_hz: int | None = None,
        channels: int = 1,
        name: str = "data",
    ) -> AudioClip:
        """Return the sound in the bytes of a file; `name` is what errors call it.

        The format is seen from the bytes; only for ``pcm16``, which has no header, it must be given, with its
        `sample_rate_hz` and `channels`.
        A WAV whose header leaves its length open, as streaming servers write it, is read to the end of the data.
        """
        sound = decode(data, format, sample_rate_hz=sample_rate_hz, channels=channels, name=name)
        try:
            clip = cls(sound.frames, sound.sample_rate_hz)
        except InvalidValue as error:
            raise NotAudio(f"{name}: {error}") from None
        sound.require_whole(name, clip)
        return clip

    @classmethod
    def from_base64(cls, text: str, format: str | None = None, **options: Any) -> AudioClip:
        """Return the sound in base64, as requests and replies carry it; `options` are those of `decode`."""
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise NotAudio(f"base64: {error}") from None
        return cls.decode(data, format, name="base64", **options)

    @classmethod
    def from_part(cls, part: AudioPart) -> AudioClip:
        """Return the sound of a message's part or of `GenerationResult.audio`."""
        return cls.decode(
            part.data, part.format, sample_rate_hz=part.sample_rate_hz, name="AudioPart.data"
        )

    @property
    def frames(self) -> Frames:
        """The samples, read-only, of the shape (frames, channels)."""
        return self._frames

    @property
    def sample_rate_hz(self) -> int:
        """Frames a second."""
        return self._sample_rate_hz

    @property
    def channels(self) -> int:
        """1 for mono, 2 for stereo."""
        return int(self._frames.shape[1])

    @property
    def sample_format(self) -> SampleFormat:
        """``float32`` or ``int16``."""
        return "int16" if self._frames.dtype.kind == "i" else "float32"

    @property
    def duration_seconds(self) -> float:
        """How long it lasts."""
        return len(self) / self._sample_rate_hz

    @property
    def peak(self) -> float:
        """The largest magnitude of any sample, where 1 is full scale; 0 for an empty clip."""
        import numpy as np

        if not len(self):
            return 0.0
        return float(np.abs(to_float32(self._frames)).max())

    @property
    def rms(self) -> float:
        """The root of the mean square of all samples, where 1 is full scale; 0 for an empty clip."""
        import numpy as np

        if not len(self):
            return 0.0
        return float(np.sqrt(np.mean(np.square(to_float32(self._frames), dtype=np.float64))))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def __bool__(self) -> bool:
        """Tell whether there is at least one frame."""
        return len(self) > 0

    def __getitem__(self, span: slice) -> AudioClip:
        """Return the frames of a slice, such as ``clip[:48_000]``, exactly."""
        if not isinstance(span, slice) or span.step not in (None, 1):
            raise InvalidValue.of("AudioClip[]", span, "a slice of frames without a step")
        return AudioClip(self._frames[span], self._sample_rate_hz)

    def __add__(self, other: AudioClip) -> AudioClip:
        """Return the two joined."""
        if not isinstance(other, AudioClip):
            return NotImplemented
        return AudioClip.join([self, other])

    def __eq__(self, other: object) -> bool:
        """Tell whether rate, sample format, channels and every sample are the same."""
        import numpy as np

        if not isinstance(other, AudioClip):
            return NotImplemented
        return (
            self._sample_rate_hz == other._sample_rate_hz
            and self._frames.dtype == other._frames.dtype
            and np.array_equal(self._frames, other._frames)
        )

    def __hash__(self) -> int:
        return hash((self._sample_rate_hz, self._frames.shape, self._frames[:64].tobytes()))

    def __repr__(self) -> str:
        return (
            f"AudioClip({self.duration_seconds:.3f} s, {self._sample_rate_hz} Hz, "
            f"{self.channels} ch, {self.sample_format})"
        )

    def slice(self, start_seconds: float = 0.0, end_seconds: float | None = None) -> AudioClip:
        """Return the part from `start_seconds` to before `end_seconds` (None: the end).

        What lies outside of the clip is left out, without an error; times are rounded to the nearest frame.
        """
        start = round(_not_negative("start_seconds", start_seconds) * self._sample_rate_hz)
        if end_seconds is None:
            return self[start:]
        end = round(_not_negative("end_seconds", end_seconds) * self._sample_rate_hz)
        return self[start : max(start, end)]

    def resample(self, sample_rate_hz: int) -> AudioClip:
        """Return the same sound at another rate, in ``round(len(clip) * new / old)`` frames.

        By soxr at its high quality: what the new rate cannot hold is filtered out, the rest is as it was.
        """
        import numpy as np
        import soxr  # type: ignore[import-untyped]

        # The constructor checks the new rate before soxr sees it.
        empty = AudioClip(self._frames[:0], sample_rate_hz)
        if sample_rate_hz == self._sample_rate_hz:
            return self
        wanted = round(len(self) * sample_rate_hz / self._sample_rate_hz)
        if not wanted:
            return empty
        made = soxr.resample(self._frames, self._sample_rate_hz, sample_rate_hz)[:wanted]
        missing = wanted - len(made)
        if missing:
            made = np.pad(made, ((0, missing), (0, 0)))
        return AudioClip(made, sample_rate_hz)

    def gain(self, decibels: float) -> AudioClip:
        """Return it louder, or softer below 0; int16 samples stop at full scale, float32 may go beyond."""
        import numpy as np

        if not math.isfinite(decibels):
            raise InvalidValue.of("decibels", decibels, "a finite number")
        factor = np.float32(10 ** (decibels / 20))
        louder = AudioClip(to_float32(self._frames) * factor, self._sample_rate_hz)
        return louder.to(self.sample_format)

    def mono(self) -> AudioClip:
        """Return the mean of all channels."""
        if self.channels == 1:
            return self
        mean = to_float32(self._frames).mean(axis=1, keepdims=True)
        return AudioClip(mean, self._sample_rate_hz).to(self.sample_format)

    def stereo(self) -> AudioClip:
        """Return two channels: mono on both sides, more than two mixed down to mono first."""
        import numpy as np

        if self.channels == 2:
            return self
        return AudioClip(np.repeat(self.mono().frames, 2, axis=1), self._sample_rate_hz)

    def to(self, sample_format: SampleFormat) -> AudioClip:
        """Return it in ``float32`` or ``int16``; what is beyond full scale is clipped in int16."""
        if sample_format == self.sample_format:
            return self
        convert = to_int16 if sample_format == "int16" else to_float32
        return AudioClip(convert(self._frames), self._sample_rate_hz)

    def like(self, other: AudioClip) -> AudioClip:
        """Return it in the rate, channels and sample format of `other`.

        Raises InvalidValue if `other` has more than two channels and this has another number of them.
        """
        clip = self
        if clip.channels != other.channels:
            if other.channels > 2:
                raise InvalidValue.of("channels", self.channels, f"{other.channels}, as the other")
            clip = clip.mono() if other.channels == 1 else clip.stereo()
        return clip.resample(other.sample_rate_hz).to(other.sample_format)

    def trim(self, *, margin_seconds: float = 0.1) -> AudioClip:
        """Return it without the silence and steady noise before and after the speech in it, but for a margin.

        Without speech in it nothing is left.
        """
        from llm_audio.silences import speech_span

        span = speech_span(self)
        if span is None:
            return self[:0]
        start_seconds, end_seconds = span
        return self.slice(max(start_seconds - margin_seconds, 0.0), end_seconds + margin_seconds)

    def encode(self, format: str = "wav") -> bytes:
        """Return the bytes of a file in ``wav``, ``flac``, ``ogg`` (Vorbis), ``opus`` or ``mp3``; or raw ``pcm16``.

        All but the first and the last need the extra ``files``. WAV keeps the sample format; FLAC keeps int16 exactly and
        float32 to 24 bits. Opus and MP3 know certain rates only: others are resampled to the next higher one.
        Raises EmptyAudio for an empty clip, UnsupportedCodec for an unknown format.
        """
        return encode(self._frames, self._sample_rate_hz, format)

    def save(self, path: str | Path, format: str | None = None) -> Path:
        """Write a file in the format given, or in that of the path's ending; returns the path.

        An existing file is replaced, at once and whole: if writing fails, it is as it was.
        """
        path = Path(path)
        data = self.encode(format or format_of_path(path))
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def to_base64(self, format: str = "wav") -> str:
        """Return the encoded sound as text, as requests carry it."""
        return base64.b64encode(self.encode(format)).decode("ascii")

    def to_part(self, format: str = "wav", *, transcript: str | None = None) -> AudioPart:
        """Return the sound for a message, or for `GenerationRequest.audio`."""
        return AudioPart(
            data=self.encode(format),
            format=format,
            sample_rate_hz=self._sample_rate_hz if format == "pcm16" else None,
            transcript=transcript,
        )

    def play(self, *, device: int | str | None = None) -> None:
        """Play it and return when it has been heard; needs the extra ``device``."""
        from llm_audio.playback import play

        play(self, device=device)


def _not_negative(field: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise InvalidValue.of(field, value, "a number of seconds, 0 or more")
    return value
