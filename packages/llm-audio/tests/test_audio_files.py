"""Files: every format there and back, and everything that is none."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_audio import (
    AudioClip,
    AudioDependencyMissing,
    AudioError,
    EmptyAudio,
    NotAudio,
    PlayableAudio,
    TruncatedAudio,
    UnsupportedCodec,
)
from llm_core import AudioPart, GenerationResult, InvalidValue

TONE = AudioClip.tone(440, 1.0, 48_000)
ENCODED = {name: TONE.encode(name) for name in ("wav", "flac", "ogg", "opus", "mp3")}


def noise_db(made: AudioClip, original: AudioClip) -> float:
    """Return how far below the signal the difference is, at the best alignment within 10 ms."""
    a, b = original.frames[4800:-4800, 0], made.frames[:, 0]
    differences = [a - b[4800 + shift : 4800 + shift + len(a)] for shift in range(-480, 481)]
    least = min(float(np.mean(np.square(d))) for d in differences)
    return 10 * float(np.log10(max(least, 1e-20) / np.mean(np.square(a))))


@pytest.mark.parametrize(
    ("name", "worst_db"), [("wav", -150), ("flac", -120), ("ogg", -30), ("opus", -30), ("mp3", -30)]
)
def test_a_format_gives_back_what_was_written(name: str, worst_db: float, tmp_path: Path) -> None:
    path = TONE.save(tmp_path / f"tone.{name}")
    back = AudioClip.read(path)
    assert (back.sample_rate_hz, back.channels) == (48_000, 1)
    assert back.duration_seconds == pytest.approx(1.0, abs=0.001)
    assert noise_db(back, TONE) < worst_db
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["wav", "flac", "pcm16"])
@given(st.binary(min_size=4, max_size=400).filter(lambda data: len(data) % 4 == 0))
def test_a_lossless_format_gives_back_every_int16_sample(name: str, data: bytes) -> None:
    clip = AudioClip(np.frombuffer(data, "<i2").reshape(-1, 2), 44_100)
    back = AudioClip.decode(clip.encode(name), name, sample_rate_hz=44_100, channels=2)
    assert back == clip


@pytest.mark.parametrize(("name", "rate"), [("opus", 48_000), ("mp3", 48_000)])
def test_a_codec_of_few_rates_gets_one_of_them(name: str, rate: int) -> None:
    clip = AudioClip.tone(440, 0.5, 47_000)
    back = AudioClip.decode(clip.encode(name))
    assert back.sample_rate_hz == rate
    assert back.duration_seconds == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("bits", [8, 24, 32])
def test_wav_of_other_widths_is_read(bits: int) -> None:
    full = {8: 127, 24: 2**23 - 1, 32: 2**31 - 1}[bits]
    values = [0, full, -full, full // 2]
    raw = [
        (v + 128 if bits == 8 else v).to_bytes(bits // 8, "little", signed=bits > 8) for v in values
    ]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(bits // 8)
        file.setframerate(8_000)
        file.writeframes(b"".join(raw))
    clip = AudioClip.decode(out.getvalue())
    assert clip.sample_format == ("int16" if bits == 8 else "float32")
    got = clip.to("float32").frames[:, 0]
    assert got.tolist() == pytest.approx([0, 1, -1, 0.5], abs=0.01)


def chunks(*pairs: tuple[bytes, bytes], claim: dict[bytes, int] | None = None) -> bytes:
    """Put a WAV file together; `claim` gives chunks another length than they have."""
    body = b"WAVE"
    for kind, data in pairs:
        size = (claim or {}).get(kind, len(data))
        body += kind + struct.pack("<I", size) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fmt(tag: int = 1, channels: int = 1, rate: int = 8_000, bits: int = 16) -> bytes:
    width = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)


def test_wav_of_floats_and_with_an_extensible_header_is_read() -> None:
    sixty_four = struct.pack("<3d", 0.0, 0.5, -1.0)
    clip = AudioClip.decode(chunks((b"fmt ", fmt(3, bits=64)), (b"data", sixty_four)))
    assert clip.frames[:, 0].tolist() == [0.0, 0.5, -1.0]
    extensible = fmt(0xFFFE) + struct.pack("<HHI", 22, 16, 0) + struct.pack("<H14x", 1)
    odd = (b"LIST", b"odd")
    clip = AudioClip.decode(chunks((b"fmt ", extensible), odd, (b"data", b"\1\0\2\0")))
    assert clip.frames[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0])
def test_wav_of_open_length_is_read_to_its_end(length: int) -> None:
    """Streaming servers write the header before they know how long they will speak."""
    data = chunks((b"fmt ", fmt()), (b"data", b"\1\0\2\0\3\0"), claim={b"data": length})
    assert AudioClip.decode(data).frames[:, 0].tolist() == [1, 2, 3]


def test_wav_in_another_codec_is_left_to_libsndfile() -> None:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, TONE.frames, 48_000, format="WAV", subtype="ULAW")
    assert noise_db(AudioClip.decode(out.getvalue()), TONE) < -25


def test_base64_and_parts_carry_a_clip_there_and_back() -> None:
    clip = TONE.to("int16")
    assert AudioClip.from_base64(clip.to_base64()) == clip
    assert AudioClip.from_part(clip.to_part("flac", transcript="la")) == clip
    raw = clip.to_part("pcm16")
    assert (raw.format, raw.sample_rate_hz) == ("pcm16", 48_000)
    assert AudioClip.from_part(raw) == clip


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", EmptyAudio, "empty"),
        (b"<!doctype html>", NotAudio, "<!doctype ht"),
        (b'{"error": 1}', NotAudio, "which is no sound"),
        (b"\xff\xd8\xff\xe0 a jpeg", NotAudio, "no sound"),
        (b"\0\0\0\x20ftypM4A ", UnsupportedCodec, "MP4"),
        (b"\xff\xf1\x50\x80", UnsupportedCodec, "aac"),
        (b"\x1a\x45\xdf\xa3", UnsupportedCodec, "WebM"),
        (b"FORM1234AIFF", UnsupportedCodec, "AIFF"),
        (b".snd1234", UnsupportedCodec, "AU"),
        (b"RIFF", TruncatedAudio, "before its sound"),
        (chunks((b"fmt ", fmt()[:10])), TruncatedAudio, "header"),
        (chunks((b"data", b"\0\0")), NotAudio, "before its header"),
        (chunks((b"fmt ", fmt(channels=0)), (b"data", b"")), NotAudio, "0 channels"),
        (chunks((b"fmt ", fmt(rate=4_000_000)), (b"data", b"\0\0")), NotAudio, "4000000"),
        (chunks((b"fmt ", fmt()), (b"data", b"")), EmptyAudio, "single frame"),
        (chunks((b"fmt ", fmt(3, bits=32)), (b"data", b"\0\0\xc0\x7f")), NotAudio, "NaN"),
        (chunks((b"fmt ", fmt(0x99)), (b"data", b"\0\0")), AudioError, "damaged|0x0099"),
        (b"fLaC" + bytes(60), NotAudio, "damaged"),
        (b"ID3" + bytes(60), NotAudio, "damaged"),
    ],
)
def test_what_is_no_sound_is_named(data: bytes, kind: type[AudioError], words: str) -> None:
    with pytest.raises(kind, match=words):
        AudioClip.decode(data)


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "opus", "mp3"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_named(name: str, share: float) -> None:
    data = ENCODED[name]
    with pytest.raises(TruncatedAudio, match="truncated") as caught:
        AudioClip.decode(data[: int(len(data) * share)])
    if name == "wav":
        assert caught.value.recovered is not None
        assert caught.value.recovered.duration_seconds == pytest.approx(share, abs=0.01)


def test_raw_samples_need_a_rate_and_whole_frames() -> None:
    with pytest.raises(InvalidValue, match="pcm16 has no header"):
        AudioClip.decode(b"\0\0", "pcm16")
    with pytest.raises(InvalidValue, match="channels"):
        AudioClip.decode(b"\0\0", "pcm16", sample_rate_hz=8_000, channels=0)
    with pytest.raises(EmptyAudio, match="1 bytes"):
        AudioClip.decode(b"\0", "pcm16", sample_rate_hz=8_000)
    with pytest.raises(TruncatedAudio, match="inside a frame"):
        AudioClip.decode(b"\0\0\0", "pcm16", sample_rate_hz=8_000)
    with pytest.raises(NotAudio, match="base64"):
        AudioClip.from_base64("no base64!")


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCodec, match="'aac'"):
        TONE.encode("aac")
    with pytest.raises(UnsupportedCodec, match=r"ends in '\.txt'"):
        TONE.save(tmp_path / "tone.txt")
    with pytest.raises(EmptyAudio, match="no frames"):
        TONE[:0].encode()
    with pytest.raises(UnsupportedCodec, match="3 channels"):
        AudioClip(np.zeros((9, 3), np.int16), 8_000).encode("mp3")
    with pytest.raises(UnsupportedCodec, match="cannot be written"):
        AudioClip(np.zeros((9, 1), np.int16), 700_000).encode("flac")
    with pytest.raises(FileNotFoundError):
        TONE.save(tmp_path / "nowhere" / "tone.wav")
    assert list(tmp_path.iterdir()) == []


def is_sound_or_refused(data: bytes) -> bool:
    """Tell whether there is sound, or an error of ours that says something; any other error is let through."""
    try:
        return bool(AudioClip.decode(data))
    except AudioError as error:
        return bool(str(error))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    name=st.sampled_from(sorted(ENCODED)),
    place=st.integers(0, 200),
    change=st.binary(min_size=1, max_size=12),
    keep=st.integers(0, 20_000),
)
def test_a_damaged_header_is_an_error_or_sound(
    name: str, place: int, change: bytes, keep: int
) -> None:
    data = ENCODED[name]
    data = (data[:place] + change + data[place + len(change) :])[: max(keep, place)]
    assert is_sound_or_refused(data)


@given(st.binary(max_size=300), st.sampled_from([b"", b"RIFF1234WAVE", b"fLaC", b"OggS", b"ID3"]))
def test_any_bytes_are_an_error_or_sound(data: bytes, start: bytes) -> None:
    assert is_sound_or_refused(start + data)


WITHOUT = """
import sys
sys.modules[{missing!r}] = None
from llm_audio import AudioClip, AudioDependencyMissing, WebRtcDetector, list_devices
clip = AudioClip.tone(440, 0.1, 8000)
assert AudioClip.decode(clip.encode()) == clip
for act in ({acts}):
    try: act()
    except AudioDependencyMissing as error: print(error)
"""


@pytest.mark.parametrize(
    ("missing", "acts", "extra"),
    [
        ("soundfile", "lambda: clip.encode('flac'), lambda: AudioClip.decode(b'ID3')", "files"),
        ("sounddevice", "clip.play, list_devices", "device"),
        ("webrtcvad", "lambda: WebRtcDetector().is_speech(clip),", "vad"),
    ],
)
def test_wav_works_without_extras_and_a_missing_one_is_named(
    missing: str, acts: str, extra: str
) -> None:
    code = WITHOUT.format(missing=missing, acts=acts)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    lines = done.stdout.splitlines()
    assert lines
    assert all(f"install the extra llm-audio[{extra}]" in line for line in lines)


def test_a_missing_system_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name in ("sounddevice", "soundfile"):
                raise OSError(f"library of {name} not found")

    for name in ("sounddevice", "soundfile"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(AudioDependencyMissing, match="libportaudio2"):
        TONE.play()
    with pytest.raises(AudioDependencyMissing, match="libsndfile1"):
        TONE.encode("flac")


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, llm_audio; print({'numpy', 'soxr', 'soundfile', 'sounddevice'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout == "set()\n"


def test_the_sound_of_a_result_can_be_saved_and_looked_into(tmp_path: Path) -> None:
    part = TONE.to("int16").to_part(transcript="la")
    sound = PlayableAudio.of(part)
    assert sound.clip == TONE.to("int16")
    assert sound.save(tmp_path / "x.wav").read_bytes() == part.data
    assert AudioClip.read(sound.save(tmp_path / "x.flac")) == TONE.to("int16")
    raw = PlayableAudio.of(TONE.to_part("pcm16"))
    assert AudioClip.read(raw.save(tmp_path / "y.wav")) == TONE.to("int16")


def test_the_sound_of_a_result_is_the_part_that_it_was() -> None:
    part = AudioPart(data=b"x", transcript="la")
    sound = PlayableAudio.of(part)
    assert sound == part
    assert part == sound
    assert hash(sound) == hash(PlayableAudio.of(part))
    assert sound != AudioPart(data=b"y")
    assert sound != 1
    assert sound.to_dict() == part.to_dict()
    made = GenerationResult.from_dict(
        {
            "success": True,
            "timestamps": {"requested_at": "2026-01-01T00:00:00+00:00", "requested": 0},
            "audio": sound.to_dict(),
        }
    )
    assert made.audio == sound
