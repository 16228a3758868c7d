"""Speech, silence and noise: detectors, trimming, the end of speech, and cutting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_audio import (
    AudioClip,
    EndOfSpeech,
    EnergyDetector,
    SpeechState,
    WebRtcDetector,
    find_silences,
    speech_span,
    split_at_silences,
)
from llm_core import InvalidValue

RATE = 16_000


def noise(seconds: float, level_dbfs: float, *, seed: int = 1) -> AudioClip:
    """Return white noise, as of a fan."""
    random = np.random.default_rng(seed)
    samples = random.standard_normal(round(seconds * RATE)) * 10 ** (level_dbfs / 20)
    return AudioClip(samples.astype(np.float32), RATE)


def syllables(seconds: float, level_dbfs: float = -15) -> AudioClip:
    """Return what rises and falls as speech does: a buzz of 150 Hz in four syllables a second."""
    times = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 150 * n * times) / n for n in range(1, 20))
    swell = np.clip(np.sin(2 * np.pi * 4 * times), 0, 1)
    samples = 10 ** (level_dbfs / 20) * buzz * swell
    return AudioClip(samples.astype(np.float32), RATE)


def mixed(*clips: AudioClip) -> AudioClip:
    return AudioClip(np.sum([clip.frames for clip in clips], axis=0, dtype=np.float32), RATE)


def in_noise(level_dbfs: float) -> AudioClip:
    """Return two seconds of noise, two of speech in the noise, and three more of noise."""
    quiet = AudioClip.silence(2, RATE).to("float32")
    said = AudioClip.join([quiet, syllables(2), quiet, quiet.slice(0, 1)])
    return mixed(said, noise(7, level_dbfs))


def heard(clip: AudioClip, follower: EndOfSpeech, block_frames: int = 333) -> EndOfSpeech:
    for start in range(0, len(clip), block_frames):
        follower.feed(clip[start : start + block_frames])
    return follower


@pytest.mark.parametrize("level_dbfs", [-90, -45, -35])
def test_speech_is_found_in_silence_and_in_steady_noise(level_dbfs: float) -> None:
    span = speech_span(in_noise(level_dbfs))
    assert span is not None
    assert span == pytest.approx((2.0, 3.95), abs=0.1)


@pytest.mark.parametrize("level_dbfs", [-60, -30, -10])
def test_steady_noise_is_no_speech_however_loud(level_dbfs: float) -> None:
    assert speech_span(noise(5, level_dbfs)) is None
    assert heard(noise(5, level_dbfs), EndOfSpeech()).state is SpeechState.WAITING
    hum = AudioClip.tone(50, 5, RATE, level_dbfs=level_dbfs)
    assert heard(hum, EndOfSpeech()).state is SpeechState.WAITING


def test_a_click_is_no_speech() -> None:
    click = AudioClip.join(
        [AudioClip.silence(1, RATE), noise(0.04, -6).to("int16"), AudioClip.silence(1, RATE)]
    )
    assert speech_span(click) is None
    assert heard(click, EndOfSpeech()).state is SpeechState.WAITING


@pytest.mark.parametrize("level_dbfs", [-90, -45, -35])
def test_the_end_of_speech_is_noticed_after_the_silence_asked_for(level_dbfs: float) -> None:
    follower = heard(in_noise(level_dbfs), EndOfSpeech(silence_seconds=0.6))
    assert follower.state is SpeechState.ENDED
    assert follower.speech_begins_seconds == pytest.approx(2.0, abs=0.1)
    assert follower.speech_ends_seconds == pytest.approx(3.9, abs=0.1)


def test_a_pause_within_speech_does_not_end_it() -> None:
    pause = AudioClip.silence(0.5, RATE)
    said = AudioClip.join([syllables(1), pause, syllables(1)])
    follower = heard(said, EndOfSpeech(silence_seconds=0.8))
    assert follower.state is SpeechState.SPEAKING
    assert heard(AudioClip.silence(1, RATE).to("float32"), follower).state is SpeechState.ENDED
    ended = follower.speech_ends_seconds
    follower.feed(syllables(1))
    assert follower.speech_ends_seconds == ended


def test_noise_that_is_switched_on_while_listening_does_not_keep_speech_going() -> None:
    said = AudioClip.join([AudioClip.silence(1, RATE).to("float32"), syllables(1), noise(5, -25)])
    follower = heard(said, EndOfSpeech(silence_seconds=0.8))
    assert follower.state is SpeechState.ENDED


def test_webrtcs_detector_hears_speech_and_no_steady_noise() -> None:
    assert heard(noise(5, -20), EndOfSpeech(detector=WebRtcDetector())).state is SpeechState.WAITING
    said = AudioClip.join([AudioClip.silence(1, RATE), syllables(2).to("int16")])
    follower = heard(said.resample(48_000), EndOfSpeech(detector=WebRtcDetector()))
    assert follower.state is SpeechState.SPEAKING
    assert not WebRtcDetector().is_speech(said[:10])


def test_trimming_leaves_speech_with_a_margin() -> None:
    trimmed = in_noise(-45).trim(margin_seconds=0.2)
    assert trimmed.duration_seconds == pytest.approx(2.35, abs=0.15)
    assert noise(3, -40).trim() == noise(3, -40)[:0]
    assert not AudioClip.silence(0.01, RATE).trim()


def test_silences_are_listed_with_their_times() -> None:
    clip = in_noise(-50)
    (first, second) = find_silences(clip)
    assert first == pytest.approx((0, 2.0), abs=0.1)
    assert second == pytest.approx((3.9, 7), abs=0.1)


def test_a_long_clip_is_cut_in_its_silences() -> None:
    turn = AudioClip.join([syllables(3).to("int16"), AudioClip.silence(1, RATE)])
    clip = AudioClip.join([turn] * 6)
    pieces = split_at_silences(clip, max_seconds=10)
    assert [piece.overlap_seconds for piece in pieces] == [0, 0, 0]
    assert [piece.start_seconds for piece in pieces] == pytest.approx([0, 7.45, 15.45], abs=0.1)
    assert AudioClip.join([piece.clip for piece in pieces]) == clip


def test_where_there_is_no_silence_the_pieces_overlap() -> None:
    clip = syllables(25)
    pieces = split_at_silences(clip, max_seconds=10, overlap_seconds=2)
    assert [(p.start_seconds, p.overlap_seconds) for p in pieces] == [(0, 0), (8, 2), (16, 2)]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 4), st.floats(0, 1)), min_size=1, max_size=8),
    st.floats(2.5, 12),
)
def test_pieces_hold_everything_and_none_is_too_long(
    turns: list[tuple[float, float]], max_seconds: float
) -> None:
    parts = [
        [syllables(said), AudioClip.silence(quiet, RATE).to("float32")] for said, quiet in turns
    ]
    clip = AudioClip.join([clip for pair in parts for clip in pair])
    pieces = split_at_silences(clip, max_seconds=max_seconds, overlap_seconds=1)
    assert all(p.clip.duration_seconds <= max_seconds + 1 / RATE for p in pieces)
    whole = pieces[0].clip
    for piece in pieces[1:]:
        whole = AudioClip.join([whole, piece.clip[round(piece.overlap_seconds * RATE) :]])
    assert abs(len(whole) - len(clip)) <= len(pieces)
    assert len(pieces) <= 2 + clip.duration_seconds / (max_seconds / 2 - 1e-9)


@pytest.mark.parametrize(
    "act",
    [
        lambda: EnergyDetector(rise_db=0),
        lambda: EnergyDetector(memory_seconds=0.1),
        lambda: WebRtcDetector(aggressiveness=4),
        lambda: EndOfSpeech(silence_seconds=0),
        lambda: EndOfSpeech(speech_seconds=1),
        lambda: find_silences(noise(1, -20), min_seconds=0),
        lambda: split_at_silences(noise(1, -20), max_seconds=1, overlap_seconds=0.5),
    ],
)
def test_impossible_settings_are_refused(act: object) -> None:
    with pytest.raises(InvalidValue):
        act()  # type: ignore[operator]
