"""A sound system without hardware, for tests of what records and plays."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from llm_audio.clip import AudioClip
from llm_audio.sample_format import Frames

__all__ = ["FakeSoundSystem"]


class FakeSoundSystem:
    """Stands in for the module sounddevice: pass it as `system`.

    It has one microphone and one loudspeaker, both called ``fake``. As soon as a microphone is opened it gives `hears`,
    all at once, and then nothing, or, with `unplugged`, the news that it is gone. A loudspeaker takes everything at once
    into `played`.
    """

    class PortAudioError(Exception):
        """What PortAudio complains of."""

    class CallbackStop(Exception):
        """Ends a stream from within its callback."""

    def __init__(
        self,
        *,
        hears: AudioClip | None = None,
        unplugged: bool = False,
        rates_hz: tuple[int, ...] = (),
        devices: int = 1,
        overflows: bool = False,
    ) -> None:
        self.hears = hears
        self.unplugged = unplugged
        self.rates_hz = rates_hz
        """The only rates that its devices know; empty for any. The first is their default."""
        self.overflows = overflows
        """Whether the microphone says that it lost sound."""
        self.played: list[Frames] = []
        """What was played, block by block."""
        self.opened_rates_hz: list[int] = []
        self._devices = devices
        self.default = SimpleNamespace(device=(0, 0) if devices else (-1, -1))

    def query_hostapis(self) -> tuple[dict[str, Any], ...]:
        """Return the one system of devices."""
        return ({"name": "Fake"},)

    def query_devices(self) -> list[dict[str, Any]]:
        """Return the devices."""
        rate = self.rates_hz[0] if self.rates_hz else 48_000
        row = {
            "hostapi": 0,
            "max_input_channels": 2,
            "max_output_channels": 2,
            "default_samplerate": float(rate),
        }
        names = ["fake", *(f"fake {number}" for number in range(2, self._devices + 1))]
        return [{"name": name, **row} for name in names[: self._devices]]

    def RawInputStream(self, **options: Any) -> _InputStream:  # noqa: N802 - sounddevice's name
        """Open the microphone."""
        self._open(options)
        return _InputStream(self, options)

    def RawOutputStream(self, **options: Any) -> _OutputStream:  # noqa: N802 - sounddevice's name
        """Open the loudspeaker."""
        self._open(options)
        return _OutputStream(self, options)

    def _open(self, options: dict[str, Any]) -> None:
        rate = options["samplerate"]
        if self.rates_hz and rate not in self.rates_hz:
            raise self.PortAudioError("Invalid sample rate", -9997)
        self.opened_rates_hz.append(rate)


class _Stream:
    def __init__(self, system: FakeSoundSystem, options: dict[str, Any]) -> None:
        self.system = system
        self.rate_hz: int = options["samplerate"]
        self.channels: int = options["channels"]
        self.block_frames: int = options["blocksize"]
        self.callback: Callable[..., None] = options["callback"]
        self.finished: Callable[[], None] = options["finished_callback"]

    def close(self) -> None:
        """Give the device back."""


class _InputStream(_Stream):
    def start(self) -> None:
        """Give everything that is heard, at once."""
        import numpy as np

        shape = AudioClip(np.zeros((0, self.channels), np.float32), self.rate_hz)
        frames = self.system.hears.like(shape).frames if self.system.hears else shape.frames
        status = SimpleNamespace(input_overflow=True) if self.system.overflows else None
        for start in range(0, len(frames), self.block_frames):
            block = frames[start : start + self.block_frames]
            self.callback(block.tobytes(), len(block), None, status)
        if self.system.unplugged:
            self.finished()


class _OutputStream(_Stream):
    def start(self) -> None:
        """Take sound on a thread of its own, as a device does, as fast as it comes."""
        import threading

        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._run, name="fake loudspeaker", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        import numpy as np

        while not self.closed.is_set() and not self.system.unplugged:
            block = np.zeros((self.block_frames, self.channels), np.float32)
            try:
                self.callback(block.data, self.block_frames, None, None)
            except self.system.CallbackStop:
                break
            self.system.played.append(block)
            self.closed.wait(0.0005)
        self.finished()

    def close(self) -> None:
        """Stop the thread."""
        import threading

        self.closed.set()
        if threading.current_thread() is not self.thread:
            self.thread.join(timeout=5)
