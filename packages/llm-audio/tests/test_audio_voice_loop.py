"""A voice without any network: flite speaks, we play and record until silence, pocketsphinx understands."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from llm_audio import AudioClip, RecordingEnd, play, record

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("null_sink")]

# Such as pocketsphinx understands from flite's own file; what it mishears there says nothing about us.
SENTENCES = [
    "the weather is nice today",
    "i would like a cup of coffee",
    "please open the window",
    "what time is it",
]


@pytest.fixture(scope="module")
def flite() -> str:
    found = shutil.which("flite")
    if found is None:
        reason = "no flite: apt-get install flite"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def spoken(flite: str, sentence: str, folder: Path) -> AudioClip:
    path = folder / "said.wav"
    subprocess.run(
        [flite, "-voice", "slt", "-t", sentence, "-o", str(path)], check=True, timeout=30
    )
    return AudioClip.read(path)


def understood(clip: AudioClip) -> str:
    from pocketsphinx import Decoder  # type: ignore[import-untyped]

    decoder = Decoder(samprate=16_000, loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw(clip.encode("pcm16"), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_is_said_is_understood(flite: str, sentence: str, tmp_path: Path) -> None:
    said = spoken(flite, sentence, tmp_path)

    def talk() -> None:
        time.sleep(1.5)
        play(said)

    talker = threading.Thread(target=talk)
    talker.start()
    taken = record(20, until_silence=0.8, sample_rate_hz=16_000)
    talker.join()
    assert taken.ended_by is RecordingEnd.SILENCE
    assert understood(taken.clip) == sentence
