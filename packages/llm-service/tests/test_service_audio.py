"""Sound in requests and results, and speech as operations: against the simulator, and against fakes."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_audio import AudioClip, PlayableAudio
from llm_audio.testing import FakeSoundSystem
from llm_core import (
    AudioOutput,
    AudioPart,
    CostStatus,
    ErrorType,
    LLMCallRequest,
    Modality,
    ProviderResponse,
    TextPart,
    Usage,
)
from llm_core.testing import ManualClock, ScriptedProvider
from llm_gates import RpmGate
from llm_metrics import PriceBook
from llm_providers import OpenAIProvider, SpeechSegment, Transcript
from llm_service import BaseLLMService, operation
from llm_service.audio import AudioOperations, speak, transcribe
from llm_sim import SimServer
from llm_sim.sound import tone_hz
from llm_sim.tokens import split as tokens_of

RATE = 16_000
WORDS = [f"word{chr(97 + n)}" for n in range(26)]
LONG_TEXT = (
    " ".join(
        f"Sentence {n} tells of {WORDS[n % 26]}, of {WORDS[n * 7 % 26]} and of number {n * 37}."
        for n in range(400)
    )[:20_000].rpartition(".")[0]
    + "."
)


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    rules = [{"exact": "audio.wav", "reply": "Hello there, world"}]
    with SimServer({"rules": rules, "default": "echo"}) as server:
        yield server


@pytest.fixture
async def service(sim: SimServer) -> Any:
    provider = OpenAIProvider("key", sim.openai_base_url)
    async with AudioOperations(model="gpt-audio", provider=provider) as service:
        yield service


def heard_pitches(clip: AudioClip) -> list[int]:
    """Return the pitch of each quarter of a second: one token of the simulator."""
    step = clip.sample_rate_hz // 4
    assert len(clip) % step == 0
    quarters = clip.to("float32").frames[:, 0].reshape(-1, step)
    return [int(hz) for hz in np.abs(np.fft.rfft(quarters)).argmax(axis=1) * 4]


async def test_a_long_text_becomes_one_clip_in_order_without_gaps_or_repeats(
    sim: SimServer,
) -> None:
    assert len(LONG_TEXT) > 19_900
    provider = OpenAIProvider("key", sim.openai_base_url)
    gate = RpmGate(3, per_seconds=1.0)
    started: list[float] = []
    loop = asyncio.get_running_loop()
    original = provider.speak

    async def noted(*arguments: Any, **options: Any) -> AudioPart:
        started.append(loop.time())
        return await original(*arguments, **options)

    provider.speak = noted  # type: ignore[method-assign]
    async with BaseLLMService(provider=provider, gate=gate) as service:
        result = await speak(service, LONG_TEXT, voice="alloy", max_characters=2_500)
    clip = result.unwrap()
    expected = [tone_hz(token) for token in tokens_of(LONG_TEXT) if token.strip()]
    # White space before a figure is a token of its own; where the text is cut there is none.
    assert [hz for hz in heard_pitches(clip) if hz != tone_hz(" ")] == expected
    assert len(result.attempts) == len(started) == 9
    assert all(b - a >= 1.0 for a, b in zip(started, started[3:], strict=False))


async def test_speech_is_a_clip_and_can_be_saved(service: AudioOperations, tmp_path: Path) -> None:
    result = await service.speak("One two three.", voice="alloy")
    assert result.success
    assert isinstance(result.content, AudioClip)
    assert isinstance(result.audio, PlayableAudio)
    assert AudioClip.read(result.audio.save(tmp_path / "x.wav")) == result.content
    assert result.usage.estimated
    assert result.operation_name == "speak"


async def test_a_chat_models_spoken_answer_can_be_saved(
    service: AudioOperations, tmp_path: Path
) -> None:
    result = await service.generate(
        "Say hello",
        output_modalities=(Modality.TEXT, Modality.AUDIO),
        audio_output=AudioOutput(voice="alloy"),
    )
    assert result.success, result.error
    assert isinstance(result.audio, PlayableAudio)
    assert AudioClip.read(result.audio.save(tmp_path / "x.wav")).duration_seconds > 0
    assert type(result).from_dict(result.to_dict()).audio == result.audio


def test_a_sound_is_transcribed_for_sync_callers(sim: SimServer) -> None:
    provider = OpenAIProvider("key", sim.openai_base_url)
    with AudioOperations(provider=provider) as service:
        result = service.transcribe_sync(AudioClip.tone(440, 1, RATE))
        assert result.unwrap().text == result.raw_content == "Hello there, world"
        spoken = service.speak_sync("Hi.", voice="alloy")
        assert spoken.unwrap().duration_seconds == 0.5


async def test_inside_an_operation_the_calls_are_the_operations() -> None:
    class Guide(AudioOperations):
        @operation()
        async def directions(self) -> Any:
            return await self.speak("Go on.", voice="v")

    provider: Any = Voice()
    async with Guide(provider=provider) as guide:
        result = await guide.directions()
    assert (result.success, result.operation_name) == (True, "directions")


class Ear:
    """A provider that hears the tones of `Spoken` as words, and counts what it is given."""

    name = "openai"

    def __init__(self, *, segments: bool = False) -> None:
        self.given: list[AudioPart] = []
        self.options: list[dict[str, Any]] = []
        self.in_flight = self.most_in_flight = 0
        self.fail_at: int | None = None
        self._segments = segments

    async def transcribe(self, audio: AudioPart, *, model: str, **options: Any) -> Transcript:
        self.given.append(audio)
        self.options.append({"model": model, **options})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        words = heard_words(AudioClip.from_part(audio))
        if self.fail_at is not None and len(self.given) > self.fail_at:
            raise KeyError("broken")
        segments = [SpeechSegment(text=w, start_seconds=t, end_seconds=t + 0.5) for w, t in words]
        return Transcript(
            text=" ".join(word for word, _ in words),
            language="en",
            segments=tuple(segments) if self._segments else (),
            usage=Usage(input_tokens=10, audio_input_tokens=10, output_tokens=5),
        )

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        return ProviderResponse(provider="ear", model="m", parts=(TextPart(text="?"),))

    def stream(self, request: LLMCallRequest) -> Any:
        raise AssertionError

    async def aclose(self) -> None:
        return None


def spoken(words: Sequence[int], *, pause_seconds: float) -> AudioClip:
    """Return numbers as tones of half a second, each swelling, with pauses in between."""
    times = np.arange(RATE // 2) / RATE
    swell = np.clip(np.sin(2 * np.pi * 2 * times), 0.0, 1) + 1e-4
    tones = [0.4 * swell * np.sin(2 * np.pi * (400 + 20 * word) * times) for word in words]
    pause = np.zeros(round(pause_seconds * RATE))
    return AudioClip(
        np.concatenate([part for tone in tones for part in (tone, pause)]).astype(np.float32), RATE
    )


def heard_words(clip: AudioClip) -> list[tuple[str, float]]:
    """Return the numbers spoken and when; a swell that is cut is no word."""
    samples = clip.to("float32").frames[:, 0]
    loud = np.convolve(np.abs(samples), np.ones(160) / 160, "same") > 0.02
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(np.int8), [0]])))
    words = []
    for start, end in edges.reshape(-1, 2):
        if end - start < 0.23 * RATE:
            continue
        spectrum = np.abs(np.fft.rfft(samples[start:end] * np.hanning(end - start), RATE))
        words.append((f"n{round((int(spectrum.argmax()) - 400) / 20)}", float(start / RATE)))
    return words


def in_numbers(count: int) -> str:
    return " ".join(f"n{n}" for n in range(count))


async def test_a_long_sound_is_heard_in_pieces_cut_at_silences() -> None:
    ear = Ear(segments=True)
    async with BaseLLMService(provider=ear) as service:
        clip = spoken(range(60), pause_seconds=0.5)
        result = await transcribe(service, clip, max_seconds=12, segments=True, language="en")
    transcript = result.unwrap()
    assert transcript.text == in_numbers(60)
    assert len(ear.given) == 6
    assert ear.most_in_flight > 1
    assert all(AudioClip.from_part(part).duration_seconds <= 12 for part in ear.given)
    assert ear.options[0] == {"model": "gpt-4o-transcribe", "segments": True, "language": "en"}
    starts = [segment.start_seconds for segment in transcript.segments]
    assert starts == pytest.approx([float(n) for n in range(60)], abs=0.05)
    assert transcript.duration_seconds == pytest.approx(60, abs=0.1)
    assert (result.usage.input_tokens, len(result.attempts)) == (60, 6)


async def test_where_there_is_no_silence_what_pieces_share_is_kept_once() -> None:
    ear = Ear(segments=True)
    async with BaseLLMService(provider=ear) as service:
        clip = spoken(range(60), pause_seconds=0.0)
        result = await transcribe(service, clip, max_seconds=9.8, overlap_seconds=2.3)
    assert result.unwrap().text == in_numbers(60)
    assert [s.text for s in result.unwrap().segments] == in_numbers(60).split()


async def test_a_file_over_the_vendors_size_is_cut(tmp_path: Path) -> None:
    ear = Ear()
    path = spoken(range(20), pause_seconds=0.5).resample(48_000).save(tmp_path / "talk.flac")
    async with BaseLLMService(provider=ear) as service:
        result = await transcribe(service, path, max_bytes=200_000)
    assert result.unwrap().text == in_numbers(20)
    assert all(len(part.data) <= 200_000 for part in ear.given)


async def test_a_file_that_fits_goes_as_it_is(tmp_path: Path) -> None:
    ear = Ear()
    path = spoken(range(3), pause_seconds=0.5).save(tmp_path / "talk.flac")
    async with BaseLLMService(provider=ear) as service:
        await transcribe(service, path, prompt="numbers")
    assert ear.given == [AudioPart(data=path.read_bytes(), format="flac")]
    assert ear.options[0]["prompt"] == "numbers"


async def test_a_format_that_only_the_vendor_knows_goes_as_it_is(tmp_path: Path) -> None:
    provider = ScriptedProvider(["unused"])
    path = tmp_path / "talk.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A ")
    given: list[AudioPart] = []

    async def hear(audio: AudioPart, *, model: str) -> Transcript:
        given.append(audio)
        return Transcript(text="")

    provider.transcribe = hear  # type: ignore[attr-defined]
    async with BaseLLMService(provider=provider) as service:
        result = await transcribe(service, path)
        assert (result.unwrap().text, given[0].format) == ("", "m4a")
        refused = await transcribe(service, path, max_bytes=5)
    assert refused.error is not None
    assert "MP4" in refused.error.message


async def test_a_failed_piece_fails_the_whole_and_keeps_what_was_heard() -> None:
    ear = Ear()
    ear.fail_at = 2
    async with BaseLLMService(provider=ear) as service:
        clip = spoken(range(60), pause_seconds=0.5)
        result = await transcribe(service, clip, max_seconds=12, in_flight=1)
    assert not result.success
    assert result.content is not None
    assert in_numbers(60).startswith(result.content.text)
    assert len(result.attempts) == 3


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        ("nowhere.wav", "nowhere.wav"),
        (7, "got 7, expected an AudioClip"),
        (AudioClip.silence(0, RATE), "no frames"),
        (AudioPart(data=b"<html>"), "is no sound"),
    ],
)
async def test_what_cannot_be_transcribed_is_a_result_that_says_why(audio: Any, words: str) -> None:
    async with BaseLLMService(provider=Ear()) as service:
        result = await transcribe(service, audio)
    assert result.error is not None
    assert words in result.error.message


async def test_providers_without_speech_and_bad_wishes_are_results(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "page.wav").write_text("<html>", encoding="utf-8")
    async with AudioOperations(provider=ScriptedProvider(["x"]), model="m") as service:
        for result, words in (
            (await service.speak("Hello.", voice="v"), "has no text to speech"),
            (await service.transcribe(AudioClip.tone(440, 1, RATE)), "has no speech to text"),
            (await service.speak(" ", voice="v"), "not empty"),
            (await service.speak("Hello.", voice="v", max_characters=0), "1 or more"),
            (await service.speak("Hello.", voice="v", colour="red"), "colour: is no field"),
            (await service.speak("Hello.", voice="v", pipeline=[]), "speak: got pipeline"),
            (await service.transcribe("a.wav", langage="de"), "did you mean 'language'?"),
            (await service.transcribe(tmp_path / "empty.wav"), "is empty"),
            (await service.transcribe(tmp_path / "page.wav"), "page.wav: begins with"),
        ):
            assert result.error is not None
            assert words in result.error.message


class Voice:
    """A provider that speaks a tone of a tenth of a second for each word."""

    name = "openai"

    def __init__(self, *, broken: int = 0) -> None:
        self.texts: list[str] = []
        self.broken = broken

    async def speak(self, text: str, *, voice: str, model: str, format: str) -> AudioPart:
        self.texts.append(text)
        if self.broken:
            self.broken -= 1
            return AudioPart(data=b"<html>sorry</html>", format=format)
        return AudioClip.tone(440, 0.1 * len(text.split()), RATE).to("int16").to_part()

    invoke, stream, aclose = Ear.invoke, Ear.stream, Ear.aclose


async def test_cost_is_by_characters_by_tokens_or_by_the_minute() -> None:
    book = PriceBook()
    text = "Twenty letters here."
    provider: Any = Voice()
    async with BaseLLMService(provider=provider, price_book=book) as service:
        by_letter = await speak(service, text, voice="v", model="tts-1")
        by_token = await speak(service, text, voice="v", model="gpt-4o-mini-tts")
    assert by_letter.cost.amount == Decimal("15") * len(text) / 1_000_000
    assert by_token.cost.status is CostStatus.ESTIMATED
    assert by_token.cost.amount == pytest.approx(Decimal("0.000079"), rel=Decimal("0.2"))
    ear = Ear()
    async with BaseLLMService(provider=ear, price_book=book) as service:
        clip = spoken(range(30), pause_seconds=0.5)
        reported = await transcribe(service, clip, model="gpt-4o-transcribe")
    assert reported.cost.status is CostStatus.PRICED
    named: Any = Ear()
    named.transcribe = _nothing_counted
    async with BaseLLMService(provider=named, price_book=book) as service:
        by_minute = await transcribe(service, clip, model="whisper-1")
    assert by_minute.cost.amount == Decimal("0.003")


async def _nothing_counted(audio: AudioPart, *, model: str) -> Transcript:
    return Transcript(text="words")


async def test_what_is_no_sound_is_asked_for_again() -> None:
    provider: Any = Voice(broken=1)
    clock = ManualClock()
    service = BaseLLMService(provider=provider, clock=clock)
    task = asyncio.create_task(speak(service, "Hello there.", voice="v"))
    await clock.run_for(30)
    result = await asyncio.wait_for(task, timeout=5)
    assert result.success
    assert [attempt.error and attempt.error.type for attempt in result.attempts] == [
        ErrorType.SERVER_ERROR,
        None,
    ]


async def test_one_deadline_covers_all_pieces() -> None:
    provider: Any = Voice()
    clock = ManualClock()
    service = BaseLLMService(provider=provider, clock=clock, gate=RpmGate(1, clock=clock))
    text = "One two three. Four five six. Seven eight nine."
    task = asyncio.create_task(
        speak(service, text, voice="v", max_characters=16, deadline_seconds=90)
    )
    await clock.run_for(200)
    result = await asyncio.wait_for(task, timeout=5)
    assert not result.success
    assert result.content is not None
    assert provider.texts == ["One two three.", "Four five six."]
    assert result.content.duration_seconds == pytest.approx(0.6)


async def test_speech_is_heard_while_it_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    system = FakeSoundSystem()
    monkeypatch.setattr("llm_audio.device_stream.load_system", lambda: system)
    monkeypatch.setattr("llm_audio.devices.load_system", lambda: system)
    provider: Any = Voice()
    taken: list[AudioClip] = []

    async def take(clip: AudioClip) -> None:
        taken.append(clip)

    async with AudioOperations(provider=provider) as service:
        text = " ".join(["some words here."] * 40)
        result = await service.speak(text, voice="v", play=True, on_clip=take)
    assert len(provider.texts[0]) <= 300
    assert AudioClip.join(taken) == result.unwrap()
    played = np.concatenate(system.played)
    wanted = np.count_nonzero(result.unwrap().frames)
    assert np.count_nonzero(played) == wanted


async def test_sound_goes_into_requests_from_clips_and_paths(tmp_path: Path) -> None:
    clip = AudioClip.tone(440, 0.2, RATE).to("int16")
    wav, flac = clip.save(tmp_path / "a.wav"), clip.save(tmp_path / "a.flac")
    provider = ScriptedProvider(["one", "two"])
    async with BaseLLMService(provider=provider, model="m") as service:
        await service.generate("What is said?", audio=[clip, wav, str(flac), clip.to_part("mp3")])
        result = await service.generate("What is said?", audio=flac)
    parts = provider.requests[0].messages[0].content[1:]
    assert [part.format for part in parts] == ["wav", "wav", "wav", "mp3"]
    assert [AudioClip.from_part(part) == clip for part in parts[:3]] == [True] * 3
    assert result.request is not None
    assert AudioClip.from_part(result.request.audio[0]) == clip


@pytest.mark.parametrize(
    ("audio", "words"), [("nowhere.wav", "cannot be read"), (3, "got 3"), (__file__, "no sound")]
)
async def test_what_is_no_sound_is_refused_before_anything_is_sent(audio: Any, words: str) -> None:
    provider = ScriptedProvider(["one"])
    async with BaseLLMService(provider=provider, model="m") as service:
        result = await service.generate("?", audio=audio)
    assert result.error is not None
    assert re.search(words, result.error.message)
    assert provider.requests == []


async def test_without_llm_audio_results_keep_plain_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llm_audio", None)
    part = AudioPart(data=b"RIFF")
    response = ProviderResponse(provider="p", model="m", parts=(part,))
    async with BaseLLMService(provider=ScriptedProvider([response, "x"]), model="m") as service:
        result = await service.generate("?")
        refused = await service.generate("?", audio="x.wav")
    assert type(result.audio) is AudioPart
    assert refused.error is not None
    assert "llm-service[audio]" in refused.error.message
