"""What microphone and loudspeaker have in common: a stream of PortAudio, opened and closed."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from typing import Any, Self

from llm_audio.devices import Device, Direction, device_errors, find_device, load_system
from llm_audio.sample_format import Frames
from llm_audio.waiting import Signal
from llm_core import InvalidValue

__all__ = ["DeviceStream"]

_log = logging.getLogger("llm_audio")

_CLOSE_SECONDS = 2.0
_INVALID_SAMPLE_RATE = -9997
"""``paInvalidSampleRate`` of portaudio.h."""


class DeviceStream(ABC):
    """A stream in one direction; the device's own thread calls `_callback` for each block.

    Where the device does not know the rate, it runs at its own, `device_rate_hz`.
    """

    direction: Direction

    def __init__(
        self,
        *,
        device: int | str | None,
        sample_rate_hz: int,
        channels: int,
        block_seconds: float,
        stall_seconds: float,
        system: Any,
    ) -> None:
        positive = {
            "sample_rate_hz": sample_rate_hz,
            "channels": channels,
            "block_seconds": block_seconds,
            "stall_seconds": stall_seconds,
        }
        for field, value in positive.items():
            if not value > 0:
                raise InvalidValue.of(field, value, "a number above 0")
        self.sample_rate_hz = sample_rate_hz
        self.channels = channels
        self.device: Device | None = None
        """The device in use; None before it is opened."""
        self.device_rate_hz = sample_rate_hz
        self._wanted = device
        self._block_seconds = block_seconds
        self._stall_seconds = stall_seconds
        self._system = system
        self._signal = Signal()
        self._stream: Any = None
        self._ended = False
        self._closing = False

    @property
    def is_lost(self) -> bool:
        """Whether the device stopped by itself."""
        return self._ended and not self._closing

    @abstractmethod
    def start(self) -> None:
        """Open the device, as entering the stream does."""

    def __enter__(self) -> Self:
        self.start()
        return self

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    def _open(self) -> None:
        """Open and start the stream; raises NoDevice, DeviceError, AudioDependencyMissing."""
        self._system = self._system or load_system()
        self.device = find_device(self._wanted, self.direction, system=self._system)
        with device_errors(self._system, f"device {self.device.name!r}"):
            try:
                self._stream = self._make_stream(self.sample_rate_hz)
            except self._system.PortAudioError as error:
                if _INVALID_SAMPLE_RATE not in error.args:
                    raise
                self.device_rate_hz = self.device.default_sample_rate_hz
                self._stream = self._make_stream(self.device_rate_hz)
            self._stream.start()

    def _make_stream(self, rate_hz: int) -> Any:
        assert self.device is not None, "chosen by `_open`"
        # Raw: sounddevice's own way to numpy arrays warns as deprecated since numpy 2.5.
        kind = "RawInputStream" if self.direction == "input" else "RawOutputStream"
        return getattr(self._system, kind)(
            device=self.device.index,
            samplerate=rate_hz,
            channels=self.channels,
            dtype="float32",
            blocksize=round(rate_hz * self._block_seconds),
            # Speech does not need less delay, and low latency loses sound on a busy machine.
            latency="high",
            callback=self._callback,
            finished_callback=self._finished,
        )

    @abstractmethod
    def _callback(self, block: Any, frames: int, time: Any, status: Any) -> None:
        """Take or fill a block of raw samples, on the device's own thread: without waiting."""

    def _as_frames(self, block: Any) -> Frames:
        """Return the samples of a raw block, in place, of the shape (frames, channels)."""
        import numpy as np

        return np.frombuffer(block, np.float32).reshape(-1, self.channels)

    def _finished(self) -> None:
        with self._signal.lock:
            self._ended = True
            self._signal.notify()

    def _close(self) -> None:
        """Stop at once and give the device back; may be called more than once."""
        with self._signal.lock:
            self._closing = True
            stream, self._stream = self._stream, None
        if stream is not None:
            self._give_back(stream)
        self._finished()

    def _give_back(self, stream: Any) -> None:
        """Close the stream, on another thread: with a device that is gone PortAudio may wait for it for ever."""

        def close() -> None:
            with contextlib.suppress(self._system.PortAudioError):  # it is gone all the same
                stream.close()

        closer = threading.Thread(target=close, name="llm-audio closing", daemon=True)
        closer.start()
        closer.join(_CLOSE_SECONDS)
        if closer.is_alive():
            _log.warning("device %r does not let go; it is left to itself", self.device)
            # What sounddevice does at exit would wait in the same way.
            if (at_exit := getattr(self._system, "_exit_handler", None)) is not None:
                atexit.unregister(at_exit)
