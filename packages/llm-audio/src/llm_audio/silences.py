"""Where nobody speaks: the ends of a recording, and the places at which a long one may be cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_audio.clip import AudioClip
from llm_audio.sample_format import Frames, decibels, to_float32
from llm_audio.voice import FRAME_SECONDS
from llm_core import InvalidValue

__all__ = ["ClipPiece", "find_silences", "speech_span", "split_at_silences"]

_RISE_DB = 9.0
_THRESHOLD_DBFS = -50.0
"""As `EnergyDetector`'s."""
_BACKGROUND_SECONDS = 2.0
"""How far to either side the background is looked for: steady noise fills it, speech has pauses in it."""
_CLICK_SECONDS = 0.1
"""What is shorter is no speech, unless more follows within `_PAUSE_SECONDS`."""
_PAUSE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class ClipPiece:
    """A part of a longer clip."""

    clip: AudioClip
    start_seconds: float
    """Where it begins in the whole."""
    overlap_seconds: float = 0.0
    """How much of its beginning the piece before holds as well; 0 where the cut is in a silence."""


def speech_span(clip: AudioClip) -> tuple[float, float] | None:
    """Return when speech begins and ends in `clip`, in seconds; None if there is none.

    Steady noise is none, however loud; nor is a click.
    """
    stretches = [
        (start, end)
        for start, end in _joined(_runs(_speech_frames(clip), wanted=True))
        if (end - start) * FRAME_SECONDS >= _CLICK_SECONDS
    ]
    if not stretches:
        return None
    return stretches[0][0] * FRAME_SECONDS, min(
        stretches[-1][1] * FRAME_SECONDS, clip.duration_seconds
    )


def find_silences(clip: AudioClip, *, min_seconds: float = 0.3) -> list[tuple[float, float]]:
    """Return (start, end) in seconds of every stretch of at least `min_seconds` in which nobody speaks, in order."""
    if not min_seconds > 0:
        raise InvalidValue.of("min_seconds", min_seconds, "a number above 0")
    return [
        (start * FRAME_SECONDS, end * FRAME_SECONDS)
        for start, end in _runs(_speech_frames(clip), wanted=False)
        if (end - start) * FRAME_SECONDS >= min_seconds
    ]


def split_at_silences(
    clip: AudioClip,
    *,
    max_seconds: float,
    min_silence_seconds: float = 0.3,
    overlap_seconds: float = 2.0,
) -> list[ClipPiece]:
    """Cut a clip into pieces of at most `max_seconds`, in order, that hold all of it.

    A cut lies in the middle of the last silence of a piece's second half; where there is none, the next piece begins
    `overlap_seconds` before the cut, so that every word is whole in one of the two.
    Raises InvalidValue unless `max_seconds` is more than twice the overlap.
    """
    if not 0 <= overlap_seconds < max_seconds / 2:
        expected = "0 or more, and less than half of max_seconds"
        raise InvalidValue.of("overlap_seconds", overlap_seconds, expected)
    if clip.duration_seconds <= max_seconds:
        return [ClipPiece(clip, 0.0)]
    silences = find_silences(clip, min_seconds=min_silence_seconds)
    middles = [(start + end) / 2 for start, end in silences]
    pieces: list[ClipPiece] = []
    begin = overlap = 0.0
    while clip.duration_seconds - begin > max_seconds:
        latest = begin + max_seconds
        cut = next((m for m in reversed(middles) if begin + max_seconds / 2 < m <= latest), None)
        pieces.append(ClipPiece(clip.slice(begin, cut or latest), begin, overlap))
        overlap = overlap_seconds if cut is None else 0.0
        begin = cut or latest - overlap_seconds
    pieces.append(ClipPiece(clip.slice(begin), begin, overlap))
    return pieces


def _speech_frames(clip: AudioClip) -> list[bool]:
    """Tell of each `FRAME_SECONDS` whether it is louder than the background around it."""
    import numpy as np

    step = max(round(clip.sample_rate_hz * FRAME_SECONDS), 1)
    count = len(clip) // step
    if not count:
        return []
    samples = to_float32(clip.frames[: count * step]).reshape(count, -1)
    power = np.mean(np.square(samples, dtype=np.float64), axis=1)
    quietest = decibels(0.0)
    levels = np.maximum(10 * np.log10(np.maximum(power, 1e-12)), quietest)
    smooth = np.convolve(np.pad(power, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    background = 10 * np.log10(np.maximum(_sliding_minimum(smooth), 1e-12))
    is_loud = (levels >= _THRESHOLD_DBFS) & (levels >= background + _RISE_DB)
    return [bool(loud) for loud in is_loud]


def _sliding_minimum(values: Frames) -> Frames:
    """Return of each value the least within `_BACKGROUND_SECONDS` to either side."""
    import numpy as np

    reach = round(_BACKGROUND_SECONDS / FRAME_SECONDS)
    padded = np.pad(values, reach, mode="edge")
    windows: Frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    least: Frames = windows.min(axis=1)
    return least


def _runs(flags: list[bool], *, wanted: bool) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each unbroken run of `wanted`, the end exclusive."""
    start = None
    for place, flag in enumerate([*flags, not wanted]):
        if flag is wanted and start is None:
            start = place
        elif flag is not wanted and start is not None:
            yield start, place
            start = None


def _joined(runs: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join runs that only a short pause keeps apart."""
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and (start - joined[-1][1]) * FRAME_SECONDS <= _PAUSE_SECONDS:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
