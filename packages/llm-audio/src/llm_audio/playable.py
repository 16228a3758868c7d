"""`PlayableAudio`: the sound of a result, with what one wants to do to it."""

from __future__ import annotations

from pathlib import Path

from llm_audio.clip import AudioClip
from llm_audio.codecs import format_of_path
from llm_core import AudioPart

__all__ = ["PlayableAudio"]


class PlayableAudio(AudioPart):
    """An `AudioPart` that can be saved, played and looked into.

    It is equal to the plain part of the same data and is written to JSON as one, so that it may stand wherever a part may.
    """

    __slots__ = ()

    @classmethod
    def of(cls, part: AudioPart) -> PlayableAudio:
        """Return `part` as one of these."""
        return cls(
            data=part.data,
            format=part.format,
            sample_rate_hz=part.sample_rate_hz,
            transcript=part.transcript,
            reference_id=part.reference_id,
        )

    @property
    def clip(self) -> AudioClip:
        """The sound as frames, decoded at each access; AudioFormatError if it is no sound."""
        return AudioClip.from_part(self)

    def save(self, path: str | Path) -> Path:
        """Write a file in the format of the path's ending; returns the path.

        The bytes are written as they came where that is the format they are in.
        """
        path = Path(path)
        if format_of_path(path) != self.format or self.format == "pcm16":
            return self.clip.save(path)
        path.write_bytes(self.data)
        return path

    def play(self, *, device: int | str | None = None) -> None:
        """Play it and return when it has been heard; needs the extra ``device``."""
        self.clip.play(device=device)

    def __eq__(self, other: object) -> bool:
        """Tell whether `other` is a part with the same fields, playable or not."""
        if not isinstance(other, AudioPart):
            return NotImplemented
        return self._fields() == PlayableAudio.of(other)._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def _fields(self) -> tuple[object, ...]:
        return self.data, self.format, self.sample_rate_hz, self.transcript, self.reference_id
