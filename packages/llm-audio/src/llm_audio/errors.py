"""What can go wrong with sound.

::

    AudioError                      (an LLMError)
    ├── AudioFormatError            the data must change                  (also a ValueError)
    │   ├── NotAudio                it is no sound that is known here
    │   ├── UnsupportedCodec        it is sound, in a form that cannot be read or written here
    │   ├── EmptyAudio              there is nothing in it
    │   └── TruncatedAudio          it ends before its end; `recovered` keeps what is there
    ├── AudioDependencyMissing      an extra or a system library is not installed
    └── DeviceError                 the sound hardware, or the way to it, failed
        ├── NoDevice                there is none, or none of that name
        └── DeviceLost              it went away while in use; `recorded` keeps what it had given
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_core import ErrorType, LLMError, MissingDependencyError

if TYPE_CHECKING:
    from llm_audio.clip import AudioClip

__all__ = [
    "AudioDependencyMissing",
    "AudioError",
    "AudioFormatError",
    "DeviceError",
    "DeviceLost",
    "EmptyAudio",
    "NoDevice",
    "NotAudio",
    "TruncatedAudio",
    "UnsupportedCodec",
]


class AudioError(LLMError):
    """Root of what goes wrong with sound."""

    error_type = ErrorType.INVALID_REQUEST


class AudioFormatError(AudioError, ValueError):
    """The data is no sound that can be used; the message says what it looks like."""


class NotAudio(AudioFormatError):
    """The data is in no format of sound that is known here."""


class UnsupportedCodec(AudioFormatError):
    """The data is sound, or is to become sound, in a form that cannot be read or written here."""


class EmptyAudio(AudioFormatError):
    """The data holds no sound at all."""


class TruncatedAudio(AudioFormatError):
    """The data ends before the end that it announces."""

    def __init__(self, message: str, *, recovered: AudioClip | None = None) -> None:
        super().__init__(message)
        self.recovered = recovered
        """What could be read of it; None if nothing could."""


class AudioDependencyMissing(AudioError, MissingDependencyError):
    """An extra, or a library of the system, is not installed; the message says what to install."""

    error_type = ErrorType.MISSING_DEPENDENCY


class DeviceError(AudioError):
    """The sound hardware, or the way to it, failed."""

    error_type = ErrorType.INTERNAL


class NoDevice(DeviceError):
    """There is no such device; the message lists those that there are."""


class DeviceLost(DeviceError):
    """The device went away, or fell silent for good, while it was in use."""

    def __init__(self, message: str, *, recorded: AudioClip | None = None) -> None:
        super().__init__(message)
        self.recorded = recorded
        """What it had given until then; None for a loudspeaker."""
