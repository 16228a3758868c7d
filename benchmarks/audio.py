"""A minute of sound through a device without an overrun, how exactly a tone comes back, and what clips cost.

    hatch run bench audio                     # all of it, about 80 seconds
    hatch run bench audio --seconds 0         # without the recording

Needs no sound hardware: a private PulseAudio daemon with a null sink (Debian: pulseaudio, libasound2-plugins,
libportaudio2) plays to its own monitor. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from llm_audio import AudioClip, Microphone, Recording, Speaker, play, record, split_at_silences
from llm_audio.null_sink import NullSink

RATE = 48_000
TONE_HZ = 440.0
LENGTH_TOLERANCE_SECONDS = 0.020
PITCH_TOLERANCE_HZ = 1.0
ROUNDS = 5


def peak_hz(clip: AudioClip) -> float:
    """Return the strongest frequency, to a tenth of a hertz."""
    samples = clip.mono().to("float32").frames[:, 0]
    size = max(len(samples), 10 * clip.sample_rate_hz)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    return float(np.argmax(spectrum) * clip.sample_rate_hz / size)


def tone_back() -> tuple[float, float]:
    """Play a tone of two seconds, record it at the same time; return its pitch and its length as it came back."""
    with Microphone(sample_rate_hz=RATE) as microphone:
        play(AudioClip.tone(TONE_HZ, 2.0, RATE))
        time.sleep(0.3)
        microphone.stop()
        clip = AudioClip.join(list(microphone))
    loud = np.flatnonzero(np.abs(clip.frames[:, 0]) > 0.01)
    back = clip[int(loud[0]) : int(loud[-1]) + 1]
    return peak_hz(back), back.duration_seconds


def long_recording(seconds: float) -> tuple[Recording, Speaker]:
    """Record for a while what is played at the same time."""
    done = threading.Event()
    speaker = Speaker(sample_rate_hz=RATE, buffer_seconds=0.5)

    def hum() -> None:
        with speaker:
            while not done.is_set():
                speaker.write(AudioClip.tone(TONE_HZ, 0.5, RATE))

    player = threading.Thread(target=hum)
    player.start()
    taken = record(seconds, sample_rate_hz=RATE)
    done.set()
    player.join()
    return taken, speaker


def median_seconds(act: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def print_costs() -> None:
    """Print what a minute of sound costs to work on."""
    random = np.random.default_rng(1)
    noise = 0.1 * random.standard_normal(60 * RATE).astype(np.float32)
    minute = AudioClip(noise, RATE).to("int16")
    acts: dict[str, Callable[[], object]] = {
        "resample to 16 kHz": lambda: minute.resample(16_000),
        "trim": minute.trim,
        "split at silences": lambda: split_at_silences(minute, max_seconds=20),
        **{
            f"write {name}": partial(minute.encode, name) for name in ("wav", "flac", "opus", "mp3")
        },
    }
    print("\nA minute of noise at 48 kHz, in milliseconds (median of five):")
    for name, act in acts.items():
        print(f"  {name:20} {median_seconds(act) * 1000:8.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the long recording")
    seconds = parser.parse_args().seconds
    if reason := NullSink.why_not():
        print(reason, file=sys.stderr)
        return 2
    missed = []
    with NullSink() as sound, sound.activated():
        for number in range(ROUNDS):
            pitch, length = tone_back()
            print(f"tone {number + 1}: {pitch:.1f} Hz, {length:.4f} s of 2 s")
            if (
                abs(pitch - TONE_HZ) > PITCH_TOLERANCE_HZ
                or abs(length - 2) > LENGTH_TOLERANCE_SECONDS
            ):
                missed.append(f"tone {number + 1}")
        if seconds:
            taken, speaker = long_recording(seconds)
            losses = taken.losses or "nothing lost"
            print(
                f"{taken.clip.duration_seconds:.3f} s recorded while playing: {losses}; {peak_hz(taken.clip):.1f} Hz; "
                f"{speaker.gaps} gaps, {speaker.device_underruns} underruns of the player"
            )
            if taken.losses:
                missed.append("recording")
    print_costs()
    print("missed: " + ", ".join(missed) if missed else "all targets met")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
