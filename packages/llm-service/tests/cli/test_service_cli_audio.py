"""`llm-service record | play | transcribe | say | talk`, with a simulator as OpenAI and null sinks as hardware."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_audio import AudioClip
from llm_audio.null_sink import NullSink
from llm_audio.testing import FakeSoundSystem
from llm_sim import SimServer
from llm_sim.sound import tone_hz


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    rules = [
        {"exact": "audio.wav", "reply": "What is the capital of France?"},
        {"contains": "capital of France", "reply": "Paris of course"},
    ]
    with SimServer({"rules": rules, "default": "echo"}) as server:
        yield server


@pytest.fixture(scope="module")
def two_sinks() -> Iterator[NullSink]:
    """A room: `mouth` is what the user speaks into, `ear` what the program plays to."""
    reason = NullSink.why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    with NullSink("ear", "mouth") as sound:
        yield sound


@pytest.fixture
def room(shell: Any, two_sinks: NullSink) -> Any:
    shell.environment |= {
        **two_sinks.environment,
        "PULSE_SINK": "ear",
        "PULSE_SOURCE": "mouth.monitor",
    }
    return shell


def speak_into(room: Any, path: Path, *, after_seconds: float, times: int = 1) -> threading.Thread:
    """Play a file to the microphone, from another program, after a while."""

    def run() -> None:
        for _ in range(times):
            time.sleep(after_seconds)
            subprocess.run(
                ["paplay", "--device=mouth", str(path)],
                env={**os.environ, **room.environment},
                timeout=30,
                check=True,
            )

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def voice(folder: Path) -> Path:
    times = np.arange(16_000) / 16_000
    swell = np.clip(np.sin(2 * np.pi * 4 * times), 0, 1)
    samples = (0.3 * swell * np.sin(2 * np.pi * 300 * times)).astype(np.float32)
    return AudioClip(samples, 16_000).to("int16").save(folder / "voice.wav")


def test_say_writes_a_file(shell: Any) -> None:
    done = shell("say", "one two", "-o", "said.wav")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    clip = AudioClip.read(shell.folder / "said.wav").to("float32")
    first = np.abs(np.fft.rfft(clip.slice(0, 0.25).frames[:, 0])).argmax() * 4
    assert first == tone_hz("one")
    assert clip.duration_seconds == 0.5


def test_say_reads_a_pipe_and_wants_a_text(shell: Any) -> None:
    assert shell("say", "-o", "said.flac", stdin="one two\n").returncode == 0
    assert AudioClip.read(shell.folder / "said.flac").duration_seconds == 0.5
    assert "no text" in shell.one_line(shell("say"))


def test_transcribe_prints_what_is_said(shell: Any) -> None:
    AudioClip.tone(440, 1, 16_000).save(shell.folder / "asked.wav")
    done = shell("transcribe", "asked.wav")
    assert (done.returncode, done.stdout) == (0, "What is the capital of France?\n")
    done = shell("transcribe", "asked.wav", "--times", "-m", "whisper-1")
    assert done.stdout == "    0.00  What is the capital of France?\n"


def test_what_cannot_be_done_is_one_line(shell: Any) -> None:
    shell.write("page.wav", "<html>")
    assert "nowhere.wav: no such file" in shell.one_line(shell("transcribe", "nowhere.wav"))
    assert "nowhere.wav: No such file" in shell.one_line(shell("play", "nowhere.wav"))
    assert "is no sound" in shell.one_line(shell("play", "page.wav"))
    done = shell("transcribe", "page.wav")
    assert done.returncode == 1
    assert (
        "audio: page.wav: begins with b'<html>\\n', which is no sound; expected WAV" in done.stderr
    )
    assert "AudioPart" not in done.stderr


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("nowhere/x.wav", "nowhere/x.wav: its folder does not exist"),
        ("x.xyz", "x.xyz: ends in '.xyz', expected one of wav, "),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_there_is_sound(
    shell: Any, file: str, said: str
) -> None:
    before = shell.sim.report().calls
    for command in (["say", "Hello.", "-o", file], ["record", file, "-s", "1"]):
        assert said in shell.one_line(shell(*command))
    assert shell.sim.report().calls == before


def test_without_a_device_the_commands_say_so(room: Any) -> None:
    room.environment["PULSE_SERVER"] = "unix:/nonexistent"
    AudioClip.tone(440, 1, 16_000).save(room.folder / "tone.wav")
    for command in (["play", "tone.wav"], ["record", "x.wav", "-s", "1"], ["say", "Hello."]):
        done = room.spawn(*command)
        assert done.returncode == 2
        assert "found; connect one" in done.stderr
    assert not (room.folder / "x.wav").exists()


def test_record_takes_the_seconds_asked_for(room: Any) -> None:
    done = room.spawn("record", "taken.wav", "-s", "0.7", "--rate", "48000")
    assert done.returncode == 0, done
    assert done.stderr.endswith("taken.wav: 0.70 s\n")
    assert len(AudioClip.read(room.folder / "taken.wav")) == 33_600


def test_play_is_heard(room: Any) -> None:
    AudioClip.tone(440, 0.5, 16_000).save(room.folder / "tone.wav")
    assert room.spawn("play", "tone.wav").returncode == 0


@pytest.mark.skipif(
    not shutil.which("paplay"), reason="no paplay: apt-get install pulseaudio-utils"
)
def test_talk_answers_by_voice(room: Any) -> None:
    """Two turns: what is said twice is answered twice, on the other loudspeaker."""
    recorder = ["parec", "--device=ear.monitor", "--format=s16le", "--rate=24000", "--channels=1"]
    with (room.folder / "heard.raw").open("wb") as file:
        environment = {**os.environ, **room.environment}
        ears = subprocess.Popen([*recorder, "--latency-msec=60"], env=environment, stdout=file)
    talker = speak_into(room, voice(room.folder), after_seconds=5, times=2)
    done = room.spawn("talk", "-m", "gpt-5-mini", "--turns", "2")
    talker.join()
    ears.terminate()
    ears.wait(timeout=10)
    assert done.returncode == 0, done
    assert done.stdout == "> What is the capital of France?\nParis of course\n" * 2
    heard = (room.folder / "heard.raw").read_bytes()
    samples = np.frombuffer(heard[: len(heard) // 2 * 2], "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples))
    for word in ("Paris", "of", "course"):
        place = round(tone_hz(word) * len(samples) / 24_000)
        assert spectrum[place - 50 : place + 50].max() > 20 * np.median(spectrum)


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a stand-in in the place of sounddevice, for commands in this process."""

    def use(system: FakeSoundSystem) -> FakeSoundSystem:
        monkeypatch.setattr("llm_audio.device_stream.load_system", lambda: system)
        monkeypatch.setattr("llm_audio.devices.load_system", lambda: system)
        return system

    return use


def test_what_was_recorded_is_kept_when_the_microphone_goes_away(shell: Any, hardware: Any) -> None:
    hardware(FakeSoundSystem(hears=AudioClip.tone(440, 0.5, 16_000), unplugged=True))
    done = shell("record", "kept.wav", "-s", "9")
    assert done.returncode == 1
    assert "kept.wav: 0.50 s" in done.stderr
    assert "went away" in done.stderr
    assert AudioClip.read(shell.folder / "kept.wav").duration_seconds == 0.5


def test_a_recording_until_silence_with_nothing_lost_says_nothing(
    shell: Any, hardware: Any
) -> None:
    said = AudioClip.read(voice(shell.folder))
    quiet = AudioClip.silence(2, 16_000)
    hardware(FakeSoundSystem(hears=AudioClip.join([quiet, said, quiet])))
    done = shell("record", "taken.flac", "--until-silence", "--microphone", "0", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert AudioClip.read(shell.folder / "taken.flac").duration_seconds == pytest.approx(2, abs=0.2)


def test_nothing_recorded_is_no_file(shell: Any, hardware: Any) -> None:
    hardware(FakeSoundSystem(unplugged=True))
    assert "went away" in shell.one_line(shell("record", "none.wav", "-s", "1"))
    assert not (shell.folder / "none.wav").exists()


def test_talk_ends_when_nobody_speaks(shell: Any, hardware: Any) -> None:
    hardware(FakeSoundSystem(hears=AudioClip.silence(25, 16_000)))
    done = shell("talk", "-m", "gpt-5-mini", "--wait", "20")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_talk_tells_that_the_microphone_went_away(shell: Any, hardware: Any) -> None:
    hardware(FakeSoundSystem(hears=AudioClip.silence(1, 16_000), unplugged=True))
    assert "went away" in shell.one_line(shell("talk", "-m", "gpt-5-mini"))


def test_talk_answers_in_one_turn_on_a_stand_in(shell: Any, hardware: Any) -> None:
    said = AudioClip.read(voice(shell.folder))
    quiet = AudioClip.silence(2, 16_000)
    system = hardware(FakeSoundSystem(hears=AudioClip.join([quiet, said, quiet])))
    done = shell("talk", "-m", "gpt-5-mini", "--turns", "1", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "> What is the capital of France?\nParis of course\n"
    played = np.concatenate(system.played)[:, 0]
    assert np.count_nonzero(played) == pytest.approx(0.75 * 24_000, abs=200)


def test_talk_tells_a_call_that_failed(shell: Any, hardware: Any) -> None:
    said = AudioClip.read(voice(shell.folder))
    quiet = AudioClip.silence(2, 16_000)
    hardware(FakeSoundSystem(hears=AudioClip.join([quiet, said, quiet])))
    shell.environment["OPENAI_BASE_URL"] = shell.sim.openai_base_url + "/nowhere"
    done = shell("talk", "-m", "gpt-5-mini", "--turns", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("llm-service: ")


def test_an_interrupt_ends_a_recording_and_keeps_it(room: Any) -> None:
    recorder = room.start("record", "kept.wav")
    time.sleep(4.0)  # real time: the program starts, opens the device, and records
    recorder.send_signal(signal.SIGINT)
    _, told = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, told
    assert "kept.wav" in told
    assert AudioClip.read(room.folder / "kept.wav").duration_seconds > 0.5
