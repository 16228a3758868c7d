"""OpenAI's Audio endpoints as the official package sees them."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest

from llm_sim import SimServer
from llm_sim.sound import tone_hz


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        SimServer([{"exact": "hello.wav", "reply": "Hello there, world"}]) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        yield client


def sound(seconds: float) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\x01\r\n\x00" * int(4000 * seconds))
    return out.getvalue()


def transcribe(client: openai.OpenAI, **options: Any) -> Any:
    given: dict[str, Any] = {"model": "gpt-4o-transcribe", **options}
    return client.audio.transcriptions.create(file=("hello.wav", sound(1.5)), **given)


def test_a_file_is_transcribed_by_its_name(client: openai.OpenAI) -> None:
    made = transcribe(client, prompt="greeting", timestamp_granularities=["word"])
    assert made.text == "Hello there, world"
    assert made.usage.input_token_details.audio_tokens == 15
    assert made.usage.output_tokens == 4
    unknown = client.audio.transcriptions.create(model="whisper-1", file=("x.mp3", b"\xff"))
    assert unknown.text == "x.mp3"


def test_every_format_is_written(client: openai.OpenAI) -> None:
    assert transcribe(client, response_format="text") == "Hello there, world\n"
    assert "00:00:00,000 --> 00:00:01,500" in transcribe(client, response_format="srt")
    assert transcribe(client, response_format="vtt").startswith("WEBVTT\n\n00:00:00.000 -->")
    verbose = transcribe(client, response_format="verbose_json")
    assert (verbose.duration, verbose.segments[0].end) == (1.5, 1.5)


def test_a_transcript_is_streamed(client: openai.OpenAI) -> None:
    events = list(transcribe(client, stream=True))
    assert "".join(e.delta for e in events[:-1]) == "Hello there, world"
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == "Hello there, world"


def test_a_stream_of_sound_can_fail_half_way(client: openai.OpenAI) -> None:
    spoiled = client.with_options(default_headers={"x-llm-sim-fault": "error_event"})
    with pytest.raises(openai.APIError, match="had an error"):
        list(transcribe(spoiled, stream=True))
    body = {"model": "m", "voice": "v", "input": "one two", "stream_format": "sse"}
    response = spoiled.post("/audio/speech", body=body, cast_to=httpx.Response)
    assert "had an error" in response.text
    assert "speech.audio.done" not in response.text


def test_a_translation_is_a_transcription(client: openai.OpenAI) -> None:
    answer = httpx.post(
        f"{client.base_url}audio/translations",
        headers={"authorization": "Bearer k"},
        files={"file": ("hello.wav", sound(1))},
        data={"model": "whisper-1"},
    )
    assert answer.json()["text"] == "Hello there, world"


@pytest.mark.parametrize("shape", ["wav", "pcm", "mp3"])
def test_speech_lasts_as_long_as_its_words(client: openai.OpenAI, shape: Any) -> None:
    made = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input="one two three four", response_format=shape
    ).read()
    if shape == "wav":
        with wave.open(io.BytesIO(made)) as file:
            assert file.getnframes() / file.getframerate() == 1.0
    elif shape == "pcm":
        assert len(made) == 48_000
    else:
        assert len(made) % 417 == 0
        assert made.startswith(b"\xff\xfb")


def test_each_word_has_its_pitch(client: openai.OpenAI) -> None:
    spoken = "one two one"
    made = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input=spoken, response_format="pcm"
    ).read()
    samples = struct.unpack(f"<{len(made) // 2}h", made)
    one, two, again = (samples[start : start + 6_000] for start in (0, 6_000, 12_000))
    assert one == again != two
    for tone, word in ((one, "one"), (two, "two")):
        rising = sum(before < 0 <= after for before, after in pairwise(tone))
        assert rising * 4 == pytest.approx(tone_hz(f" {word} "), abs=4)


def test_speech_is_streamed_as_events(client: openai.OpenAI) -> None:
    body = {"model": "m", "voice": "v", "input": "one two", "stream_format": "sse"}
    response = client.post("/audio/speech", body=body, cast_to=httpx.Response)
    assert response.text.count("speech.audio.delta") >= 2
    assert "speech.audio.done" in response.text


@pytest.mark.parametrize(
    "options",
    [
        {"input": "x" * 4097},
        {"voice": ""},
        {"response_format": "opus"},
        {"speed": 9},
        {"extra_body": {"colour": "red"}},
    ],
)
def test_bad_speech_is_refused(client: openai.OpenAI, options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"model": "m", "voice": "v", "input": "x", **options}
    with pytest.raises(openai.BadRequestError):
        client.audio.speech.create(**given)


def test_bad_forms_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Supported values are: 'json'"):
        transcribe(client, response_format="pdf")
    with pytest.raises(openai.BadRequestError, match="multipart/form-data"):
        client.post("/audio/transcriptions", body={"model": "m"}, cast_to=object)
    url = f"{client.base_url}audio/transcriptions"
    headers = {"authorization": "Bearer k"}
    answer = httpx.post(url, headers=headers, files={"other": b"x"}, data={"model": "m"})
    assert answer.json()["error"]["param"] == "file"
    headers["content-type"] = "multipart/form-data; boundary=x"
    answer = httpx.post(url, headers=headers, content=b"not a form")
    assert "Could not parse multipart form" in answer.json()["error"]["message"]
