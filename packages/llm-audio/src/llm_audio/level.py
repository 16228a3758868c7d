"""How loud it is: levels in dBFS and a meter of them."""

from __future__ import annotations

from llm_audio.clip import AudioClip
from llm_audio.sample_format import decibels

__all__ = ["LevelMeter"]

_FLOOR_DBFS = -60.0
"""Where the bar begins: about the noise of a quiet room in a common microphone."""


class LevelMeter:
    """Shows the level of sound that passes by, block after block.

    `rms_dbfs` is the latest block's, `peak_dbfs` the highest of late: it falls by `fall_db_per_second`.
    Both are -120 for silence and 0 at full scale.
    """

    def __init__(self, *, fall_db_per_second: float = 20.0) -> None:
        self.rms_dbfs = -120.0
        self.peak_dbfs = -120.0
        self._fall = fall_db_per_second

    def feed(self, block: AudioClip) -> None:
        """Take the next block; an empty one changes nothing."""
        if not block:
            return
        self.rms_dbfs = decibels(block.rms)
        fallen = self.peak_dbfs - self._fall * block.duration_seconds
        self.peak_dbfs = max(decibels(block.peak), fallen, -120.0)

    def bar(self, width: int = 30) -> str:
        """Return the level as text of `width` characters, from -60 dBFS on the left to 0 on the right."""
        full = self._column(self.rms_dbfs, width)
        peak = self._column(self.peak_dbfs, width)
        cells = ["█" if column < full else " " for column in range(width)]
        if peak > full:
            cells[peak - 1] = "│"
        return "".join(cells)

    @staticmethod
    def _column(dbfs: float, width: int) -> int:
        share = (dbfs - _FLOOR_DBFS) / -_FLOOR_DBFS
        return round(min(max(share, 0.0), 1.0) * width)
