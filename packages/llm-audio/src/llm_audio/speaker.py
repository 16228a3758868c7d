"""`Speaker`: sound to a device while it is being made."""

from __future__ import annotations

import logging
from collections import deque
from types import TracebackType
from typing import Any

from llm_audio.clip import AudioClip
from llm_audio.device_stream import DeviceStream
from llm_audio.devices import Direction
from llm_audio.errors import DeviceLost
from llm_audio.sample_format import Frames
from llm_core import InvalidValue

__all__ = ["Speaker"]

_log = logging.getLogger("llm_audio")

_PRIME_SECONDS = 0.1
"""Playing begins, and goes on after a gap, once this much is there: pieces that come unevenly make no stutter."""
_LEAD_SECONDS = 0.2
"""Silence before the first sound: a device that has just been opened may swallow some (PulseAudio up to 60 ms)."""
_TAIL_SECONDS = 0.3
"""Silence after the last sound: what PortAudio has in its buffers when a stream ends may never be heard."""


class Speaker(DeviceStream):
    """A loudspeaker as a stream, for threads and for tasks::

        with Speaker() as speaker:
            speaker.write(clip)

        async with Speaker() as speaker:
            await speaker.send(clip)

    Leaving waits until everything is heard; leaving by an exception, or `stop`, ends it at once.
    Up to `buffer_seconds` wait to be heard, and writing more waits for room. Where the next sound is late there is a gap,
    which is counted in `gaps`; `device_underruns` counts those of the device itself.
    Raises DeviceLost from `write`, `send` and `finish` when the device goes away.
    """

    direction: Direction = "output"

    def __init__(
        self,
        *,
        device: int | str | None = None,
        sample_rate_hz: int = 24_000,
        channels: int = 1,
        block_seconds: float = 0.02,
        buffer_seconds: float = 5.0,
        stall_seconds: float = 5.0,
        system: Any = None,
    ) -> None:
        """Choose a loudspeaker; nothing is opened before `start`, or before the stream is entered.

        `device` is an index or a part of a name (see `list_devices`); None is the system's default.
        Clips of another rate or number of channels are converted.
        """
        super().__init__(
            device=device,
            sample_rate_hz=sample_rate_hz,
            channels=channels,
            block_seconds=block_seconds,
            stall_seconds=stall_seconds,
            system=system,
        )
        if not buffer_seconds >= 2 * _PRIME_SECONDS:
            expected = f"{2 * _PRIME_SECONDS} seconds or more"
            raise InvalidValue.of("buffer_seconds", buffer_seconds, expected)
        self.gaps = 0
        """How often the next sound was late."""
        self.device_underruns = 0
        """How often the device said that it got its sound too late."""
        self._capacity_seconds = buffer_seconds
        self._blocks: deque[Frames] = deque()
        self._waiting_frames = 0
        self._played_frames = 0
        self._lead_frames = round(_LEAD_SECONDS * sample_rate_hz)
        self._tail_frames = 0
        self._flowing = False
        self._finishing = False

    @property
    def played_seconds(self) -> float:
        """How much was given to the device; it is heard a moment later."""
        return self._played_frames / self.device_rate_hz

    def start(self) -> None:
        """Open the device; raises DeviceError, AudioDependencyMissing."""
        self._open()

    def write(self, clip: AudioClip) -> None:
        """Add sound to what is to be heard; waits while the buffer is full."""
        for block in self._blocks_of(clip):
            room = self._signal.wait(self._has_room, self._patience_seconds)
            self._put(block, had_room=room)

    async def send(self, clip: AudioClip) -> None:
        """Do as `write` does, and let other tasks run meanwhile."""
        for block in self._blocks_of(clip):
            room = await self._signal.wait_async(self._has_room, self._patience_seconds)
            self._put(block, had_room=room)

    def finish(self) -> None:
        """Wait until everything is heard, and close; raises DeviceLost."""
        self._begin_end()
        self._end(self._signal.wait(lambda: self._ended, self._rest_seconds))

    async def finish_async(self) -> None:
        """Do as `finish` does, and let other tasks run meanwhile."""
        self._begin_end()
        self._end(await self._signal.wait_async(lambda: self._ended, self._rest_seconds))

    def stop(self) -> None:
        """End at once: what waits is not heard. May be called more than once, from any thread."""
        self._close()

    def _blocks_of(self, clip: AudioClip) -> list[Frames]:
        """Return the sound as the device takes it, in blocks of a tenth of a second."""
        shape = AudioClip(_no_frames(self.channels), self.device_rate_hz)
        frames = clip.like(shape).frames
        step = max(round(self.device_rate_hz * 0.1), 1)
        return [frames[start : start + step] for start in range(0, len(frames), step)]

    @property
    def _patience_seconds(self) -> float:
        return self._capacity_seconds + self._stall_seconds

    @property
    def _rest_seconds(self) -> float:
        return (
            self._waiting_frames / self.device_rate_hz
            + _LEAD_SECONDS
            + _TAIL_SECONDS
            + self._stall_seconds
        )

    def _has_room(self) -> bool:
        most = self._capacity_seconds * self.device_rate_hz
        return self._ended or self._waiting_frames + self.device_rate_hz * 0.1 <= most

    def _put(self, block: Frames, *, had_room: bool) -> None:
        with self._signal.lock:
            if self._ended or not had_room:
                self._close()
                raise DeviceLost(self._lost_words)
            self._blocks.append(block)
            self._waiting_frames += len(block)

    def _begin_end(self) -> None:
        with self._signal.lock:
            self._finishing = True

    def _end(self, ended: bool) -> None:
        lost = not ended or self._waiting_frames > 0
        self._close()
        if self.gaps or self.device_underruns:
            _log.warning(
                "playback had %d gaps and %d underruns of the device",
                self.gaps,
                self.device_underruns,
            )
        if lost:
            raise DeviceLost(self._lost_words)

    @property
    def _lost_words(self) -> str:
        name = self.device.name if self.device else "?"
        return f"loudspeaker {name!r} went away, or took no sound for {self._stall_seconds} s"

    def _callback(self, block: Any, frames: int, time: Any, status: Any) -> None:
        with self._signal.lock:
            if status and status.output_underflow:
                self.device_underruns += 1
            room = self._as_frames(block)
            filled = self._fill(room)
            room[filled:] = 0
            if self._finishing and not self._blocks:
                self._tail_frames += frames - filled
                if self._tail_frames >= _TAIL_SECONDS * self.device_rate_hz:
                    raise self._system.CallbackStop
            elif filled < frames and self._flowing:
                self.gaps += 1
                self._flowing = False
            self._signal.notify()

    def _fill(self, block: Frames) -> int:
        """Copy what waits into the device's block; returns the number of frames."""
        if self._lead_frames > 0:
            self._lead_frames -= len(block)
            return 0
        enough = self._waiting_frames >= _PRIME_SECONDS * self.device_rate_hz
        self._flowing = self._flowing or enough or self._finishing
        filled = 0
        while self._flowing and filled < len(block) and self._blocks:
            piece = self._blocks.popleft()
            taken = piece[: len(block) - filled]
            block[filled : filled + len(taken)] = taken
            filled += len(taken)
            if len(taken) < len(piece):
                self._blocks.appendleft(piece[len(taken) :])
        self._waiting_frames -= filled
        self._played_frames += filled
        return filled

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.stop()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.finish_async()
        else:
            self.stop()


def _no_frames(channels: int) -> Frames:
    import numpy as np

    return np.zeros((0, channels), np.float32)
