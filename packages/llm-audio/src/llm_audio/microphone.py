"""`Microphone`: sound from a device as it comes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any

from llm_audio.clip import AudioClip
from llm_audio.device_stream import DeviceStream
from llm_audio.devices import Direction
from llm_audio.errors import DeviceLost
from llm_audio.sample_format import Frames
from llm_core import InvalidValue

__all__ = ["Microphone"]

_log = logging.getLogger("llm_audio")


class Microphone(DeviceStream):
    """A microphone as a stream of short clips, for threads and for tasks::

        with Microphone() as microphone:
            for block in microphone: ...

        async with Microphone() as microphone:
            async for block in microphone: ...

    Entering waits until the first sound is there, so that nothing said from then on is lost.
    Blocks that are not fetched wait, up to `buffer_seconds` of them. What comes when there is no room for it is lost,
    counted in `overruns` and `lost_frames`, and logged; so is what the device itself lost (`device_overruns`).
    Iterating ends after `stop`, with what had come until then, and raises DeviceLost when the device goes away, or gives
    nothing for `stall_seconds`.
    """

    direction: Direction = "input"

    def __init__(
        self,
        *,
        device: int | str | None = None,
        sample_rate_hz: int = 16_000,
        channels: int = 1,
        block_seconds: float = 0.02,
        buffer_seconds: float = 30.0,
        stall_seconds: float = 5.0,
        system: Any = None,
    ) -> None:
        """Choose a microphone; nothing is opened before `start`, or before the stream is entered.

        `device` is an index or a part of a name (see `list_devices`); None is the system's default.
        """
        super().__init__(
            device=device,
            sample_rate_hz=sample_rate_hz,
            channels=channels,
            block_seconds=block_seconds,
            stall_seconds=stall_seconds,
            system=system,
        )
        if not buffer_seconds >= block_seconds:
            raise InvalidValue.of("buffer_seconds", buffer_seconds, "at least block_seconds")
        self.overruns = 0
        """How often the buffer was full."""
        self.lost_frames = 0
        """How many frames were lost by it."""
        self.device_overruns = 0
        """How often the device said that it had lost some itself."""
        self._capacity_seconds = buffer_seconds
        self._blocks: deque[Frames] = deque()
        self._waiting_frames = 0
        self._is_full = False
        self._resampler: Any = None
        self._logged = 0

    def start(self) -> None:
        """Open the device and wait until it gives sound; raises DeviceError, AudioDependencyMissing."""
        self._open()
        if self.device_rate_hz != self.sample_rate_hz:
            import soxr  # type: ignore[import-untyped]

            self._resampler = soxr.ResampleStream(
                self.device_rate_hz, self.sample_rate_hz, self.channels, dtype="float32"
            )
        self._signal.wait(self._has_news, self._stall_seconds)
        if not self._blocks:
            words = self._lost_words
            self._close()
            raise DeviceLost(words)

    def stop(self) -> None:
        """Stop recording; what has come can still be fetched. May be called more than once, from any thread."""
        self._close()

    def read(self) -> AudioClip | None:
        """Wait for the next block; None after `stop`, once everything is fetched. Raises DeviceLost."""
        arrived = self._signal.wait(self._has_news, self._stall_seconds)
        return self._next(arrived=arrived)

    async def read_async(self) -> AudioClip | None:
        """Do as `read` does, and let other tasks run meanwhile."""
        arrived = await self._signal.wait_async(self._has_news, self._stall_seconds)
        return self._next(arrived=arrived)

    def _has_news(self) -> bool:
        return bool(self._blocks) or self._ended

    def _next(self, *, arrived: bool) -> AudioClip | None:
        with self._signal.lock:
            block = self._blocks.popleft() if self._blocks else None
            if block is not None:
                self._waiting_frames -= len(block)
            losses = self.overruns + self.device_overruns
        if losses > self._logged:
            self._logged = losses
            _log.warning("the microphone lost sound: %s", self.losses)
        if block is not None:
            return self._as_clip(block)
        if self.is_lost or not arrived:
            words = self._lost_words
            self._close()
            raise DeviceLost(words)
        return None

    @property
    def losses(self) -> str:
        """What was lost until now, in words; empty if nothing was."""
        words = []
        if self.overruns:
            words.append(f"{self.lost_frames} frames in {self.overruns} overruns of the buffer")
        if self.device_overruns:
            words.append(f"{self.device_overruns} overruns of the device")
        return " and ".join(words)

    @property
    def _lost_words(self) -> str:
        name = self.device.name if self.device else "?"
        if self._ended and not self._closing:
            return f"microphone {name!r} went away while it was in use"
        return f"microphone {name!r} gave no sound for {self._stall_seconds} s"

    def _as_clip(self, block: Frames) -> AudioClip:
        if self._resampler is not None:
            block = self._resampler.resample_chunk(block)
        return AudioClip(block, self.sample_rate_hz)

    def _callback(self, block: Any, frames: int, time: Any, status: Any) -> None:
        with self._signal.lock:
            if status and status.input_overflow:
                self.device_overruns += 1
            if self._waiting_frames + frames > self._capacity_seconds * self.device_rate_hz:
                self.overruns += not self._is_full
                self.lost_frames += frames
                self._is_full = True
            else:
                self._is_full = False
                self._blocks.append(self._as_frames(block).copy())
                self._waiting_frames += frames
            self._signal.notify()

    def __iter__(self) -> Iterator[AudioClip]:
        while (block := self.read()) is not None:
            yield block

    async def __aiter__(self) -> AsyncIterator[AudioClip]:
        while (block := await self.read_async()) is not None:
            yield block

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
