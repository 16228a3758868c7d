"""Real devices: a null sink's loudspeaker and its monitor, by PortAudio. These tests take real time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from llm_audio import (
    AudioClip,
    DeviceError,
    DeviceLost,
    Microphone,
    Speaker,
    list_devices,
    play,
    record,
)
from llm_audio.null_sink import NullSink

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("null_sink")]
RATE = 48_000


def peak_hz(clip: AudioClip) -> float:
    """Return the strongest frequency, to a tenth of a hertz."""
    samples = clip.mono().to("float32").frames[:, 0]
    size = 10 * clip.sample_rate_hz
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    return float(np.argmax(spectrum) * clip.sample_rate_hz / size)


def loud_part(clip: AudioClip) -> AudioClip:
    loud = np.flatnonzero(np.abs(clip.frames[:, 0]) > 0.01)
    return clip[int(loud[0]) : int(loud[-1]) + 1]


def test_a_tone_comes_back_whole_while_it_is_played() -> None:
    tone = AudioClip.tone(440, 2.0, RATE)
    with Microphone(sample_rate_hz=RATE) as microphone:
        playback = play(tone)
        time.sleep(0.3)  # what was played last is on its way to the microphone
        microphone.stop()
        back = loud_part(AudioClip.join(list(microphone)))
    assert peak_hz(back) == pytest.approx(440, abs=1)
    assert back.duration_seconds == pytest.approx(2.0, abs=0.02)
    assert np.abs(np.diff(back.frames[:, 0])).max() < 0.06, "a click: sound is missing inside"
    assert back.rms == pytest.approx(tone.rms, rel=0.02)
    assert (playback.gaps, microphone.losses) == (0, "")


def test_a_recording_of_seconds_has_no_overrun() -> None:
    done = threading.Event()

    def hum() -> None:
        with Speaker(sample_rate_hz=RATE, buffer_seconds=0.5) as speaker:
            while not done.is_set():
                speaker.write(AudioClip.tone(440, 0.5, RATE))

    player = threading.Thread(target=hum)
    player.start()
    taken = record(5.0, sample_rate_hz=RATE)
    done.set()
    player.join()
    assert taken.losses == ""
    assert len(taken.clip) == 5 * RATE
    assert peak_hz(taken.clip) == pytest.approx(440, abs=1)


def test_the_devices_of_the_sound_server_are_listed() -> None:
    devices = list_devices()
    assert any(device.name == "pulse" for device in devices)
    assert sum(device.is_default_output for device in devices) == 1


def test_what_was_recorded_before_the_sound_server_died_is_kept(null_sink: NullSink) -> None:
    """In a process of its own, with a server of its own: PortAudio does not get over the loss."""
    code = """
import os
from llm_audio import AudioClip, DeviceLost, record
from llm_audio.null_sink import NullSink
with NullSink() as sound:
    os.environ.update(sound.environment)
    heard = 0
    def count(block):
        global heard
        heard += len(block)
        if heard >= 8000:
            sound.kill()
    try:
        record(30, on_block=count, stall_seconds=2)
    except DeviceLost as error:
        print(error, error.recorded.duration_seconds >= 0.5, len(error.recorded) == heard)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.startswith("microphone ")
    assert done.stdout.endswith("True True\n"), done


def test_without_a_device_the_error_says_what_to_do() -> None:
    code = """
from llm_audio import AudioClip, NoDevice, record
for act in (AudioClip.tone(440, 1, 8000).play, lambda: record(1)):
    try: act()
    except NoDevice as error: print(error)
"""
    environment = {**os.environ, "PULSE_SERVER": "unix:/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done
    assert "no loudspeaker found; connect one" in lines[0]
    assert "no microphone found; connect one" in lines[1]


def test_a_recording_until_silence_hears_a_voice_through_the_device() -> None:
    times = np.arange(RATE) / RATE
    swell = np.clip(np.sin(2 * np.pi * 4 * times), 0, 1)
    voice = AudioClip((0.3 * swell * np.sin(2 * np.pi * 300 * times)).astype(np.float32), RATE)

    def talk() -> None:
        time.sleep(1.0)
        play(voice)

    talker = threading.Thread(target=talk)
    talker.start()
    taken = record(15, until_silence=0.5)
    talker.join()
    assert taken.ended_by == "silence"
    assert taken.clip.duration_seconds == pytest.approx(0.3 + 0.875 + 0.5, abs=0.2)


def test_an_impossible_number_of_channels_is_named() -> None:
    with pytest.raises(DeviceError, match="cannot be used"):
        record(1, channels=999)
    assert issubclass(DeviceLost, DeviceError)
