"""Microphone and loudspeaker on a sound system without hardware."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from llm_audio import (
    AudioClip,
    DeviceError,
    DeviceLost,
    Microphone,
    NoDevice,
    RecordingEnd,
    Speaker,
    list_devices,
    play,
    play_async,
    play_stream,
    record,
    record_async,
)
from llm_audio.testing import FakeSoundSystem
from llm_core import AudioDelta, InvalidValue, TextDelta

TONE = AudioClip.tone(440, 1.0, 16_000)


def heard(system: FakeSoundSystem) -> np.ndarray[Any, Any]:
    """Return what was played, without the silence around it."""
    samples = np.concatenate(system.played)[:, 0]
    loud = np.flatnonzero(samples)
    return samples[loud[0] : loud[-1] + 1]


async def until_played(system: FakeSoundSystem, *, blocks: int) -> None:
    """Wait for the loudspeaker's thread."""
    for _ in range(5_000):
        if len(system.played) >= blocks:
            return
        await asyncio.sleep(0.001)


def test_devices_are_listed_and_chosen() -> None:
    system = FakeSoundSystem(devices=2)
    names = [(device.name, device.is_default_input) for device in list_devices(system=system)]
    assert names == [("fake", True), ("fake 2", False)]
    for wanted, name in ((None, "fake"), (1, "fake 2"), ("FAKE", "fake"), ("2", "fake 2")):
        speaker = Speaker(device=wanted, system=system)
        speaker.start()
        speaker.stop()
        assert speaker.device is not None
        assert speaker.device.name == name


@pytest.mark.parametrize(
    ("devices", "wanted", "words"),
    [
        (0, None, "no microphone found; connect one"),
        (2, "fak", "fits several microphones .0: 'fake', 1: 'fake 2'.; name one by its index"),
        (1, "other", "got 'other', expected one of the microphones: 0: 'fake'"),
        (1, 7, "got 7"),
    ],
)
def test_a_device_that_is_not_there_is_named(devices: int, wanted: Any, words: str) -> None:
    with pytest.raises(NoDevice, match=words):
        record(1, device=wanted, system=FakeSoundSystem(devices=devices))


def test_a_device_that_cannot_be_opened_is_named() -> None:
    class Busy(FakeSoundSystem):
        def RawInputStream(self, **options: Any) -> Any:  # noqa: N802
            raise self.PortAudioError("Device unavailable", -9985)

    with pytest.raises(DeviceError, match=r"'fake' cannot be used: .*unavailable"):
        record(1, system=Busy())


def test_a_recording_is_exactly_as_long_as_asked_for() -> None:
    taken = record(0.55, system=FakeSoundSystem(hears=TONE))
    assert taken.clip == TONE[: round(0.55 * 16_000)]
    assert (taken.ended_by, taken.losses) == (RecordingEnd.SECONDS, "")


async def test_recording_in_a_task_gives_the_same() -> None:
    taken = await record_async(0.5, system=FakeSoundSystem(hears=TONE))
    assert taken.clip == TONE[:8_000]


def test_a_recording_ends_when_it_is_told_to() -> None:
    stop, blocks = threading.Event(), []

    def count(block: AudioClip) -> None:
        blocks.append(block)
        if len(blocks) == 10:
            stop.set()

    taken = record(stop=stop, on_block=count, system=FakeSoundSystem(hears=TONE))
    assert (taken.ended_by, len(taken.clip)) == (RecordingEnd.STOP, 10 * 320)


def speech() -> AudioClip:
    """Return two seconds of silence, one of syllables, and two of silence."""
    times = np.arange(16_000) / 16_000
    swell = np.clip(np.sin(2 * np.pi * 4 * times), 0, 1)
    said = AudioClip((0.3 * swell * np.sin(2 * np.pi * 300 * times)).astype(np.float32), 16_000)
    quiet = AudioClip.silence(2, 16_000)
    return AudioClip.join([quiet, said, quiet])


def test_a_recording_until_silence_holds_the_speech() -> None:
    taken = record(until_silence=0.6, system=FakeSoundSystem(hears=speech()))
    assert taken.ended_by is RecordingEnd.SILENCE
    assert taken.clip.duration_seconds == pytest.approx(0.3 + 0.875 + 0.6, abs=0.1)
    assert taken.clip.rms > 0.05


def test_nobody_speaking_is_an_empty_recording() -> None:
    quiet = AudioClip.silence(3, 16_000)
    taken = record(until_silence=0.6, wait_seconds=2, system=FakeSoundSystem(hears=quiet))
    assert (taken.ended_by, len(taken.clip)) == (RecordingEnd.NO_SPEECH, 0)


def test_a_time_limit_ends_speech_that_does_not() -> None:
    taken = record(2.5, until_silence=0.6, system=FakeSoundSystem(hears=speech()))
    assert taken.ended_by is RecordingEnd.SECONDS


def test_what_was_recorded_before_the_device_went_away_is_kept() -> None:
    with pytest.raises(DeviceLost, match="went away") as caught:
        record(5, system=FakeSoundSystem(hears=TONE, unplugged=True))
    assert caught.value.recorded == TONE


async def test_a_device_that_falls_silent_is_given_up() -> None:
    with pytest.raises(DeviceLost, match=r"gave no sound for 0\.05 s") as caught:
        await record_async(5, stall_seconds=0.05, system=FakeSoundSystem(hears=TONE))
    assert caught.value.recorded == TONE
    with pytest.raises(DeviceLost, match="gave no sound"):
        record(5, stall_seconds=0.05, system=FakeSoundSystem())


def test_what_found_no_room_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    system = FakeSoundSystem(hears=TONE, overflows=True)
    with Microphone(buffer_seconds=0.5, system=system) as microphone:
        microphone.stop()
        kept = AudioClip.join(list(microphone))
    assert kept == TONE[:8_000]
    assert (microphone.overruns, microphone.lost_frames) == (1, 8_000)
    assert (
        microphone.losses == "8000 frames in 1 overruns of the buffer and 50 overruns of the device"
    )
    assert caplog.messages == [f"the microphone lost sound: {microphone.losses}"]


async def test_a_device_of_another_rate_is_converted() -> None:
    system = FakeSoundSystem(hears=TONE, rates_hz=(44_100, 48_000))
    async with Microphone(system=system) as microphone:
        microphone.stop()
        got = AudioClip.join([block async for block in microphone])
    assert system.opened_rates_hz == [44_100]
    assert got.sample_rate_hz == 16_000
    assert got.duration_seconds == pytest.approx(1.0, abs=0.03)
    assert got.slice(0.2, 0.8).rms == pytest.approx(TONE.rms, rel=0.01)
    play(TONE, system=system)
    assert len(heard(system)) == pytest.approx(44_100, abs=100)


def test_a_clip_is_played_whole() -> None:
    system = FakeSoundSystem()
    played = play(TONE.to_part(), system=system)
    assert (played.seconds, played.gaps, played.device_underruns) == (1.0, 0, 0)
    wanted = np.trim_zeros(TONE.frames[:, 0])
    assert np.array_equal(heard(system), wanted)


async def test_more_than_the_buffer_holds_waits_for_room() -> None:
    system = FakeSoundSystem()
    async with Speaker(sample_rate_hz=16_000, buffer_seconds=0.3, system=system) as speaker:
        await speaker.send(TONE)
        await speaker.send(TONE)
    assert speaker.played_seconds == 2.0
    assert len(heard(system)) == pytest.approx(32_000, abs=10)


async def test_sound_is_played_while_it_comes() -> None:
    system = FakeSoundSystem()
    raw = TONE.encode("pcm16")

    async def events() -> AsyncIterator[Any]:
        yield TextDelta(text="la")
        for start in range(0, len(raw), 7_777):
            yield AudioDelta(data=raw[start : start + 7_777])
        yield AudioDelta(data=b"")

    played = await play_stream(events(), sample_rate_hz=16_000, system=system)
    assert played.seconds == pytest.approx(1.0)
    wanted = np.trim_zeros(TONE.to("int16").to("float32").frames[:, 0])
    got = heard(system)
    assert np.array_equal(got[got != 0], wanted[wanted != 0])


async def test_a_stream_without_sound_plays_nothing() -> None:
    async def events() -> AsyncIterator[Any]:
        yield TextDelta(text="la")

    assert (await play_stream(events(), system=FakeSoundSystem())).seconds == 0


async def test_sound_that_comes_late_leaves_a_counted_gap(caplog: pytest.LogCaptureFixture) -> None:
    system = FakeSoundSystem()

    async def clips() -> AsyncIterator[AudioClip]:
        yield TONE.slice(0, 0.5)
        await until_played(system, blocks=60)
        yield TONE.slice(0.5)

    played = await play_stream(clips(), system=system)
    assert (played.gaps, played.seconds) == (1, 1.0)
    assert caplog.messages == ["playback had 1 gaps and 0 underruns of the device"]


async def test_cancelling_ends_the_sound_at_once() -> None:
    system = FakeSoundSystem()
    long = AudioClip.tone(440, 300, 8_000)
    task = asyncio.create_task(play_async(long, system=system))
    await until_played(system, blocks=1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(system.played) < 300 / 0.02


async def test_a_loudspeaker_that_goes_away_is_named() -> None:
    with pytest.raises(DeviceLost, match="loudspeaker 'fake' went away"):
        await play_async(AudioClip.tone(440, 60, 8_000), system=FakeSoundSystem(unplugged=True))
    speaker = Speaker(system=FakeSoundSystem(unplugged=True), stall_seconds=0.05)
    speaker.start()
    with pytest.raises(DeviceLost):
        speaker.write(AudioClip.tone(440, 60, 8_000))


def test_underruns_of_the_device_are_counted() -> None:
    class Late(FakeSoundSystem):
        def RawOutputStream(self, **options: Any) -> Any:  # noqa: N802
            from types import SimpleNamespace

            inner = options["callback"]
            late = SimpleNamespace(output_underflow=True)
            options["callback"] = lambda block, frames, time, _: inner(block, frames, time, late)
            return super().RawOutputStream(**options)

    assert play(TONE, system=Late()).device_underruns > 10


def test_leaving_by_an_exception_does_not_wait_for_the_end() -> None:
    system = FakeSoundSystem()
    speaker = Speaker(sample_rate_hz=16_000, system=system)

    def talk() -> None:
        with speaker:
            speaker.write(TONE)
            raise KeyError

    with pytest.raises(KeyError):
        talk()
    assert speaker.played_seconds < 1.0


@pytest.mark.parametrize(
    "act",
    [
        lambda: record(),
        lambda: record(0),
        lambda: record(until_silence=1, wait_seconds=-1),
        lambda: Microphone(sample_rate_hz=0),
        lambda: Microphone(buffer_seconds=0.001),
        lambda: Speaker(channels=0),
        lambda: Speaker(buffer_seconds=0.1),
    ],
)
def test_impossible_settings_are_refused(act: Any) -> None:
    with pytest.raises(InvalidValue):
        act()
