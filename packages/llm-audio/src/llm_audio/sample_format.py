"""Samples as numbers: float32 and int16, and the way between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frames: TypeAlias = npt.NDArray[Any]
else:
    Frames = Any

__all__ = [
    "MAX_SAMPLE_RATE_HZ",
    "Frames",
    "SampleFormat",
    "decibels",
    "to_float32",
    "to_int16",
]

SampleFormat = Literal["float32", "int16"]
"""How one sample is stored."""

MAX_SAMPLE_RATE_HZ = 768_000
"""The highest rate that converters are built for; a header that says more is damaged."""

_FULL_SCALE = 32_768
"""Of int16; float32's is 1. Dividing by it is exact, so int16 survives the way there and back."""
_QUIETEST_DBFS = -120.0


def to_float32(frames: Frames) -> npt.NDArray[np.float32]:
    """Return samples as float32; the same array if they are."""
    import numpy as np

    if frames.dtype == np.float32:
        return frames
    return frames.astype(np.float32) / np.float32(_FULL_SCALE)


def to_int16(frames: Frames) -> npt.NDArray[np.int16]:
    """Return samples as int16, rounded, and clipped at full scale; the same array if they are."""
    import numpy as np

    if frames.dtype == np.int16:
        return frames
    scaled = np.rint(frames * np.float32(_FULL_SCALE))
    return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def decibels(amplitude: float) -> float:
    """Return an amplitude, where 1 is full scale, in dBFS; silence is -120."""
    return 20 * math.log10(max(amplitude, 10 ** (_QUIETEST_DBFS / 20)))
