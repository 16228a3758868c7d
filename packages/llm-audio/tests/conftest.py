"""What the tests of llm-audio share: a sound system without hardware."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from llm_audio.null_sink import NullSink


@pytest.fixture(scope="module")
def null_sink() -> Iterator[NullSink]:
    """Give a private PulseAudio, in use; where it cannot be had the test is skipped, or fails with `CI` set."""
    if reason := NullSink.why_not():
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with NullSink("loop") as sound, sound.activated():
        yield sound
