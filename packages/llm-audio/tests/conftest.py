"""What the tests of llm-audio share: a sound system without hardware."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from llm_audio import list_devices
from llm_audio.null_sink import NullSink


@pytest.fixture(scope="module")
def null_sink() -> Iterator[NullSink]:
    """Give a private PulseAudio, in use; where it cannot be had the test is skipped, or fails with `CI` set."""
    _require(NullSink.why_not())
    with NullSink("loop") as sound, sound.activated():
        _require(
            "" if list_devices() else "no way to PulseAudio: apt-get install libasound2-plugins"
        )
        yield sound


def _require(reason: str) -> None:
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
