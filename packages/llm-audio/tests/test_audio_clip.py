"""Clips: what they hold, and what can be done with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llm_audio import AudioClip, LevelMeter
from llm_core import InvalidValue

rates = st.sampled_from([8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000])
int16_frames = hnp.arrays(
    np.int16, st.tuples(st.integers(0, 400), st.integers(1, 3)), elements=st.integers(-32768, 32767)
)
float_frames = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 400), st.integers(1, 3)),
    elements=st.floats(-1, 1, width=32),
)
clips = st.builds(AudioClip, int16_frames | float_frames, rates)


def peak_hz(clip: AudioClip) -> float:
    """Return the strongest frequency, to a tenth of a hertz."""
    samples = clip.mono().to("float32").frames[:, 0]
    size = max(len(samples), 10 * clip.sample_rate_hz)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    return float(np.argmax(spectrum) * clip.sample_rate_hz / size)


def test_a_clip_says_what_it_holds() -> None:
    clip = AudioClip(np.zeros((24_000, 2), np.int16), 48_000)
    assert (clip.duration_seconds, clip.channels, clip.sample_format) == (0.5, 2, "int16")
    assert repr(clip) == "AudioClip(0.500 s, 48000 Hz, 2 ch, int16)"
    assert (len(clip), bool(clip), bool(clip[:0])) == (24_000, True, False)


def test_its_frames_cannot_be_written_to() -> None:
    clip = AudioClip.silence(1, 8_000)
    with pytest.raises(ValueError, match="read-only"):
        clip.frames[0] = 1


@pytest.mark.parametrize(
    ("frames", "rate", "complaint"),
    [
        (np.zeros(3), 8_000, "float64"),
        (np.zeros((2, 2, 2), np.int16), 8_000, "shape"),
        (np.zeros((2, 0), np.int16), 8_000, "shape"),
        (np.array([np.nan], np.float32), 8_000, "NaN"),
        (np.zeros(3, np.int16), 0, "got 0"),
        (np.zeros(3, np.int16), True, "got True"),
        (np.zeros(3, np.int16), 8_000.0, "got 8000.0"),
        (np.zeros(3, np.int16), 1_000_000, "1 to 768000"),
    ],
)
def test_what_is_no_sound_is_refused(frames: object, rate: int, complaint: str) -> None:
    with pytest.raises(InvalidValue, match=complaint):
        AudioClip(frames, rate)


def test_a_tone_has_its_pitch_level_and_length() -> None:
    clip = AudioClip.tone(440, 1.0, 16_000, level_dbfs=-6)
    assert peak_hz(clip) == pytest.approx(440, abs=0.2)
    assert clip.peak == pytest.approx(10 ** (-6 / 20), rel=1e-3)
    assert clip.rms == pytest.approx(clip.peak / 2**0.5, rel=1e-3)


def test_an_empty_clip_has_no_level() -> None:
    assert (AudioClip.silence(0, 8_000).peak, AudioClip.silence(0, 8_000).rms) == (0.0, 0.0)


@given(clips, st.integers(0, 500), st.integers(0, 500))
def test_two_slices_joined_are_the_whole(clip: AudioClip, first: int, second: int) -> None:
    start, end = sorted((first, second))
    parts = [clip[:start], clip[start:end], clip[end:]]
    assert AudioClip.join(parts) == clip


@given(clips, st.floats(0, 0.1), st.floats(0, 0.1))
def test_a_slice_in_seconds_is_the_slice_in_frames(
    clip: AudioClip, start: float, end: float
) -> None:
    rate = clip.sample_rate_hz
    expected = clip[round(start * rate) : max(round(start * rate), round(end * rate))]
    assert clip.slice(start, end) == expected
    assert clip.slice(start) == clip[round(start * rate) :]


@given(st.lists(clips, min_size=1, max_size=4))
def test_joined_clips_last_as_long_as_all_together(parts: list[AudioClip]) -> None:
    parts = [part.mono() for part in parts]
    rate = parts[0].sample_rate_hz
    joined = AudioClip.join(parts)
    assert len(joined) == sum(round(len(p) * rate / p.sample_rate_hz) for p in parts)
    assert (joined.sample_rate_hz, joined.sample_format) == (rate, parts[0].sample_format)
    assert joined[: len(parts[0])] == parts[0]


@given(clips, rates)
def test_resampling_keeps_length_channels_and_format(clip: AudioClip, rate: int) -> None:
    made = clip.resample(rate)
    assert len(made) == round(len(clip) * rate / clip.sample_rate_hz)
    assert (made.channels, made.sample_format) == (clip.channels, clip.sample_format)


@given(rates, rates, st.floats(100, 3_000))
def test_resampling_there_and_back_keeps_what_both_rates_can_hold(
    rate: int, other: int, pitch: float
) -> None:
    clip = AudioClip.tone(pitch, 0.2, rate)
    back = clip.resample(other).resample(rate)
    inner = slice(rate // 20, -rate // 20)  # the ends lack a neighbourhood to be computed from
    assert np.abs(back.frames[inner] - clip.frames[inner]).max() < 2e-3


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    high = AudioClip.tone(7_000, 0.5, 48_000).resample(8_000)
    assert high.slice(0.1, 0.4).peak < 1e-3


@given(clips)
def test_int16_survives_the_way_to_float32_and_back(clip: AudioClip) -> None:
    samples = clip.to("int16")
    assert samples.to("float32").to("int16") == samples


def test_gain_is_in_decibels_and_int16_stops_at_full_scale() -> None:
    clip = AudioClip.tone(440, 0.1, 8_000, level_dbfs=-12)
    assert clip.gain(6).peak == pytest.approx(clip.peak * 10 ** (6 / 20), rel=1e-4)
    loud = clip.to("int16").gain(40)
    assert (loud.frames.max(), loud.frames.min()) == (32767, -32768)
    with pytest.raises(InvalidValue, match="inf"):
        clip.gain(float("inf"))


def test_stereo_repeats_mono_and_mono_is_the_mean() -> None:
    left, right = np.full(4, 1000, np.int16), np.full(4, 3000, np.int16)
    clip = AudioClip(np.stack([left, right], axis=1), 8_000)
    assert clip.mono().frames[:, 0].tolist() == [2000] * 4
    assert clip.mono().stereo().frames.tolist() == [[2000, 2000]] * 4
    assert clip.stereo() is clip
    assert AudioClip(np.zeros((4, 3), np.int16), 8_000).stereo().channels == 2


def test_adding_joins() -> None:
    clip = AudioClip.tone(440, 0.1, 8_000)
    assert clip + clip == AudioClip.join([clip, clip])
    assert clip.__add__(1) is NotImplemented
    assert clip != 1
    assert len({clip, AudioClip.tone(440, 0.1, 8_000)}) == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda clip: clip[::2],
        lambda clip: clip[0],
        lambda clip: clip.slice(-1),
        lambda clip: clip.slice(0, float("nan")),
        lambda clip: clip.resample(0),
        lambda clip: clip.like(AudioClip(np.zeros((1, 3), np.int16), 8_000)),
        lambda clip: AudioClip.join([]),
        lambda clip: AudioClip.silence(-1, 8_000),
    ],
)
def test_impossible_wishes_are_refused(act: object) -> None:
    with pytest.raises(InvalidValue):
        act(AudioClip.silence(1, 8_000))  # type: ignore[operator]


def test_the_meter_shows_level_and_falling_peak() -> None:
    meter = LevelMeter(fall_db_per_second=20)
    meter.feed(AudioClip.silence(0, 8_000))
    assert meter.bar(10) == " " * 10
    meter.feed(AudioClip.tone(440, 0.1, 8_000, level_dbfs=-3))
    assert meter.rms_dbfs == pytest.approx(-6, abs=0.1)
    assert meter.peak_dbfs == pytest.approx(-3, abs=0.1)
    assert meter.bar(20) == "█" * 18 + "│ "
    meter.feed(AudioClip.silence(1, 8_000))
    assert meter.rms_dbfs == -120
    assert meter.peak_dbfs == pytest.approx(-23, abs=0.1)
