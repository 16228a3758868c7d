"""A minute of sound through a device without an overrun, how exactly a tone comes back, and what clips cost.

    hatch run bench audio                     # a minute and a half
    hatch run bench audio --seconds 5         # with a short recording; writes no page

Needs no sound hardware: a private PulseAudio daemon with a null sink (Debian: pulseaudio, libasound2-plugins,
libportaudio2) plays to its own monitor. Exit code 1 if a target is missed, 2 if there is no such daemon.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import numpy as np
from benchmarks.harness import (
    Finding,
    Headline,
    Measured,
    Page,
    Table,
    findings_table,
    missed_targets,
    publish,
    read_options,
    spread,
    take_turns,
)
from benchmarks.harness.plots import Panel, bars

from llm_audio import AudioClip, Microphone, Recording, Speaker, play, record, split_at_silences
from llm_audio.null_sink import NullSink

RATE = 48_000
TONE_HZ = 440.0
TONE_SECONDS = 2.0
LENGTH_TOLERANCE_SECONDS = 0.020
PITCH_TOLERANCE_HZ = 1.0
SECONDS = 60.0
METHOD = f"""\
The device is a null sink of a private PulseAudio daemon, recorded from its monitor: nothing is heard, and no hardware sets
the pace. A tone of {TONE_HZ:g} Hz and {TONE_SECONDS:g} s is played while the microphone records, in every round; what counts
is the round that is farthest off. The long recording lasts {SECONDS:g} s, while another thread plays to the same sink; lost is
what the recording itself reports as lost.
The costs are of a minute of noise at 48 kHz, mono, 16 bits; they take turns, and figures are CPU time of the process, the
median of the rounds, in brackets their middle half."""


def peak_hz(clip: AudioClip) -> float:
    """Return the strongest frequency, to a tenth of a hertz."""
    samples = clip.mono().to("float32").frames[:, 0]
    size = max(len(samples), 10 * clip.sample_rate_hz)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    return float(np.argmax(spectrum) * clip.sample_rate_hz / size)


def tone_back() -> tuple[float, float]:
    """Play a tone, record it at the same time; return its pitch and its length as it came back."""
    with Microphone(sample_rate_hz=RATE) as microphone:
        play(AudioClip.tone(TONE_HZ, TONE_SECONDS, RATE))
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


def through_the_device(rounds: int, seconds: float) -> list[Finding]:
    """Return how tones and a long recording came back."""
    with NullSink() as sound, sound.activated():
        tones = [tone_back() for _ in range(rounds)]
        taken, speaker = long_recording(seconds)
    pitch = max((pitch for pitch, _ in tones), key=lambda one: abs(one - TONE_HZ))
    length = max((length for _, length in tones), key=lambda one: abs(one - TONE_SECONDS))
    return [
        Finding(
            what=f"pitch of a tone of {TONE_HZ:g} Hz, the worst of {rounds}",
            found=f"{pitch:.1f} Hz",
            target=f"± {PITCH_TOLERANCE_HZ:g} Hz",
            met=abs(pitch - TONE_HZ) <= PITCH_TOLERANCE_HZ,
        ),
        Finding(
            what=f"its length, {TONE_SECONDS:g} s, the worst of {rounds}",
            found=f"{length:.4f} s",
            target=f"± {LENGTH_TOLERANCE_SECONDS * 1e3:g} ms",
            met=abs(length - TONE_SECONDS) <= LENGTH_TOLERANCE_SECONDS,
        ),
        Finding(
            what=f"lost in {taken.clip.duration_seconds:.1f} s recorded while playing",
            found=str(taken.losses or "nothing"),
            target="nothing",
            met=not taken.losses,
        ),
        Finding(
            what="… gaps and underruns of the player",
            found=f"{speaker.gaps}, {speaker.device_underruns}",
        ),
    ]


def costs(rounds: int) -> list[Measured]:
    """Return the CPU milliseconds of what can be done with a minute of sound."""
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
    works = {name: partial(cpu_milliseconds, act) for name, act in acts.items()}
    return take_turns(works, rounds=rounds, ours=list(works))


def cpu_milliseconds(act: Callable[[], object]) -> float:
    started = time.process_time_ns()
    act()
    return (time.process_time_ns() - started) / 1e6


def main() -> int:
    """Play, record, time, print, write; return 1 if a target is missed."""
    options = read_options(
        __doc__,
        rounds=5,
        has_peers=False,
        seconds={"type": float, "default": SECONDS, "help": "length of the long recording"},
    )
    if reason := NullSink.why_not():
        print(reason, file=sys.stderr)
        return 2
    seconds = options.given.seconds
    options = replace(options, dry_run=options.dry_run or seconds != SECONDS)
    device = through_the_device(options.rounds, seconds)
    timed = costs(options.rounds)
    if not options.dry_run:
        bars("audio", [Panel("A minute of sound at 48 kHz, CPU ms", timed, 1)])
    pitch, length, lost, _ = device
    page = Page(
        name="audio",
        title="Sound through a device, and what clips cost",
        summary=[
            Headline(
                what="a tone through loudspeaker and microphone: pitch, length; lost in a minute",
                ours=f"{pitch.found} of {TONE_HZ:g}, {length.found} of {TONE_SECONDS:g}; {lost.found}",
                others="",
            )
        ],
        tables=[
            findings_table("Through the device", device),
            Table(
                "A minute of sound",
                ("", "CPU ms"),
                [(one.name, spread(one, 1)) for one in timed],
            ),
        ],
        better=None,
        method=METHOD,
        versions=", ".join(
            f"{name} {version(name)}" for name in ("numpy", "soxr", "soundfile", "sounddevice")
        ),
        picture_says="What it costs to work on a minute of sound",
        missed=missed_targets(device),
    )
    return publish(page, options)


if __name__ == "__main__":
    sys.exit(main())
