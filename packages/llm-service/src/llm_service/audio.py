"""Speech as operations of a service: `transcribe` turns sound of any length into text, `speak` text into sound.

Long sound is cut at silences and long text at sentences, into pieces that the vendor takes; the pieces go in parallel
through the service's gates, with its retries, and come back as one result with all attempts on its ledger.
A response cache keeps neither.
Needs the extra ``audio``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_core import (
    AudioOutput,
    AudioPart,
    GenerationRequest,
    GenerationResult,
    InvalidValue,
    Message,
    Modality,
    Usage,
)
from llm_service.operations import current
from llm_service.pieces import Pieces, TakeRaw
from llm_service.request_fields import check_fields
from llm_service.service import BaseLLMService, pieces_of
from llm_service.sound_values import require_llm_audio, with_playable_audio
from llm_service.speech_providers import SpeakingProvider, TranscribingProvider

if TYPE_CHECKING:
    from llm_audio import AudioClip, ClipPiece
    from llm_providers import Transcript

__all__ = ["AudioOperations", "speak", "transcribe"]

SPEECH_MODEL = "gpt-4o-mini-tts"
TRANSCRIPTION_MODEL = "gpt-4o-transcribe"

_MAX_SPEECH_CHARACTERS = 4_096
"""OpenAI's limit for one call (openai 3.54, ``SpeechCreateParams.input``)."""
_MAX_UPLOAD_BYTES = 24 * 1024 * 1024
"""Below OpenAI's 25 MB for one file (guide «Speech to text»), as the form around it counts, too."""
_MAX_UPLOAD_SECONDS = 1_300.0
"""OpenAI's gpt-4o-transcribe refuses more than 1,400 seconds: «longer than 1400 seconds which is the maximum»."""
_MIN_SECONDS = 1.0
"""Pieces that are shorter hold hardly a word."""
_SENT_RATE_HZ = 16_000
"""What speech models hear at; more makes the upload larger and the text no better."""
_FIRST_CHARACTERS = 300
"""About twenty seconds of speech: what is heard first while the rest is being made."""


class AudioOperations(BaseLLMService):
    """A service that also hears and speaks.

    ::

        class Assistant(AudioOperations): ...

        Assistant(model="gpt-5-mini").transcribe_sync("meeting.mp3").content.text
    """

    async def transcribe(
        self, audio: AudioClip | AudioPart | str | Path, **options: Any
    ) -> GenerationResult[Transcript]:
        """Return what is said in `audio`; see `llm_service.audio.transcribe` for the options."""
        return await transcribe(self, audio, **options)

    def transcribe_sync(
        self, audio: AudioClip | AudioPart | str | Path, **options: Any
    ) -> GenerationResult[Transcript]:
        """Do as `transcribe` does, and block until there is a result."""
        return self.run_sync(lambda: transcribe(self, audio, **options))

    async def speak(self, text: str, *, voice: str, **options: Any) -> GenerationResult[AudioClip]:
        """Return `text` spoken; see `llm_service.audio.speak` for the options."""
        return await speak(self, text, voice=voice, **options)

    def speak_sync(self, text: str, *, voice: str, **options: Any) -> GenerationResult[AudioClip]:
        """Do as `speak` does, and block until there is a result."""
        return self.run_sync(lambda: speak(self, text, voice=voice, **options))


async def transcribe(
    service: BaseLLMService,
    audio: AudioClip | AudioPart | str | Path,
    *,
    model: str = TRANSCRIPTION_MODEL,
    language: str | None = None,
    prompt: str | None = None,
    segments: bool = False,
    max_seconds: float = _MAX_UPLOAD_SECONDS,
    max_bytes: int = _MAX_UPLOAD_BYTES,
    overlap_seconds: float = 2.0,
    in_flight: int = 8,
    **fields: Any,
) -> GenerationResult[Transcript]:
    """Return what is said in a clip or a file; never raises but when cancelled, as `BaseLLMService.generate`.

    What is longer than `max_seconds` or larger than `max_bytes` is cut where nobody speaks; where everybody always does,
    pieces overlap by `overlap_seconds` and the words that both have are kept once.
    `language` is an ISO 639-1 code, `prompt` a text in the expected style; `segments` asks for times, which count from the
    beginning of the whole. `fields` are those of `GenerationRequest` that make sense here: tenant, priority,
    deadline_seconds, …; they hold for the whole, and with a `request_id` of yours each of several pieces has one of its
    own, such as ``yours-2``.
    The content is a `Transcript`. If a piece fails, so does the result, with what was heard before it as its content, or
    the fallback value in its place. Attempts, tokens, cost and waits are those of all pieces.
    """
    run: Pieces[_Upload] = pieces_of(service, TranscribingProvider)
    try:
        check_fields(fields, "transcribe", besides=_arguments_of(transcribe))
        _require_number("max_seconds", max_seconds, least=_MIN_SECONDS)
        _require_number("max_bytes", max_bytes, least=1)
        _require_number("overlap_seconds", overlap_seconds, least=0)
        pieces = await asyncio.to_thread(_prepare, audio, max_seconds, max_bytes, overlap_seconds)
        options = {"segments": segments, "language": language, "prompt": prompt}
        options = {name: value for name, value in options.items() if value}
    except Exception as error:  # noqa: BLE001 - what cannot even be asked is a result, as in `generate`
        return run.refuse(error)

    async def make(piece: _Upload) -> GenerationRequest:
        return GenerationRequest(
            messages=(Message.user(await asyncio.to_thread(piece.part)),),
            model=model,
            pipeline=TakeRaw("speech"),
            provider_options={**options, "seconds": piece.seconds},
            **_named(service, "transcribe", fields),
        )

    def join(heard: list[Any], complete: bool) -> dict[str, Any]:
        whole = _joined_transcripts(heard, pieces)
        return {"content": whole, "raw_content": whole.text}

    return await run.answer(pieces, make, join, in_flight=in_flight)


async def speak(
    service: BaseLLMService,
    text: str,
    *,
    voice: str,
    model: str = SPEECH_MODEL,
    format: str = "wav",
    speed: float | None = None,
    instructions: str | None = None,
    max_characters: int = _MAX_SPEECH_CHARACTERS,
    play: bool = False,
    device: int | str | None = None,
    on_clip: Callable[[AudioClip], Awaitable[None]] | None = None,
    in_flight: int = 8,
    **fields: Any,
) -> GenerationResult[AudioClip]:
    """Return a text of any length spoken; no failure of a call is raised, as by `BaseLLMService.generate`.

    A text longer than `max_characters` is cut at sentences and the clips are joined without anything in between.
    With `play` it is heard from the loudspeaker `device` as soon as its beginning is there, and the result comes when the
    last of it has been heard. `on_clip` is awaited for each clip in the order of the text. `fields` are as for `transcribe`.
    The content is an `AudioClip`, `audio` the same as WAV. If a piece fails, so does the result, with what comes before it
    as its content, or the fallback value in its place, which is not played.
    Raises what `on_clip` raises, and DeviceError or AudioDependencyMissing for a loudspeaker that fails or is not there;
    nothing more is sent then.
    """
    run: Pieces[str] = pieces_of(service, SpeakingProvider)
    try:
        llm_audio = require_llm_audio()
        check_fields(fields, "speak", besides=_arguments_of(speak))
        if not isinstance(text, str) or not text.strip():
            raise InvalidValue.of("text", text, "a text that is not empty")
        if on_clip is not None and not callable(on_clip):
            raise InvalidValue.of("on_clip", on_clip, "an async function of a clip")
        _require_number("max_characters", max_characters, least=1, kind=int)
        first = min(_FIRST_CHARACTERS, max_characters) if play or on_clip else None
        pieces = llm_audio.split_text(text, max_characters=max_characters, first_characters=first)
    except Exception as error:  # noqa: BLE001 - what cannot even be asked is a result, as in `generate`
        return run.refuse(error)
    options = {"speed": speed, "instructions": instructions}

    async def make(piece: str) -> GenerationRequest:
        return GenerationRequest(
            user=piece,
            model=model,
            pipeline=TakeRaw("speech"),
            output_modalities=(Modality.AUDIO,),
            audio_output=AudioOutput(voice=voice, format=format),
            provider_options={key: value for key, value in options.items() if value is not None},
            **_named(service, "speak", fields),
        )

    async def clips() -> AsyncGenerator[AudioClip, None]:
        async with aclosing(run.contents(pieces, make, in_flight=in_flight)) as made:
            async for clip in made:
                if on_clip is not None:
                    await on_clip(clip)
                yield clip

    if play:
        # Closed here, so that nothing more is made for a loudspeaker that fails.
        async with aclosing(_ahead(clips())) as ahead:
            await llm_audio.play_stream(ahead, device=device)
    else:
        async for _ in clips():
            pass

    def join(spoken: list[Any], complete: bool) -> dict[str, Any]:
        clip = llm_audio.AudioClip.join(spoken)
        audio = clip.to_part("wav", transcript=text if complete else None)
        return {"content": clip, "audio": audio}

    return with_playable_audio(await asyncio.to_thread(run.merged, join))


def _require_number(name: str, value: Any, *, least: float, kind: Any = int | float) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
        expected = "a whole number" if kind is int else "a number"
        raise InvalidValue.of(name, value, f"{expected}, {least:g} or more")


def _arguments_of(function: Callable[..., Any]) -> Iterable[str]:
    return inspect.signature(function).parameters


def _named(service: BaseLLMService, operation_name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the operation's name, unless they or the operation that is running here have one."""
    return fields if current(service) else {"operation_name": operation_name, **fields}


class _Upload:
    """A piece of sound to be transcribed; a file that the vendor takes goes as it is."""

    def __init__(self, piece: ClipPiece | None, *, as_it_is: AudioPart | None = None) -> None:
        self.piece = piece
        self.seconds = piece.clip.duration_seconds if piece else 0.0
        self._as_it_is = as_it_is

    def part(self) -> AudioPart:
        """Return what is sent: 16-bit WAV at 16 kHz in mono, or the file."""
        if self._as_it_is is not None:
            return self._as_it_is
        assert self.piece is not None, "one of the two is given"
        return self.piece.clip.to_part("wav")


def _prepare(
    audio: AudioClip | AudioPart | str | Path,
    max_seconds: float,
    max_bytes: int,
    overlap_seconds: float,
) -> list[_Upload]:
    """Read the sound and cut it into what one call takes; a file that is small enough is left as it is."""
    llm_audio = require_llm_audio()
    part: AudioPart | None = None
    clip: AudioClip
    if isinstance(audio, AudioPart | str | Path):
        part = audio if isinstance(audio, AudioPart) else _read(Path(audio))
        name = "AudioPart.data" if isinstance(audio, AudioPart) else f"audio: {audio}"
        try:
            clip = llm_audio.AudioClip.decode(
                part.data, part.format, sample_rate_hz=part.sample_rate_hz, name=name
            )
        except (llm_audio.AudioDependencyMissing, llm_audio.UnsupportedCodec):
            # The vendor knows more formats than we do; cutting needs one that we know.
            if len(part.data) > max_bytes:
                raise
            return [_Upload(None, as_it_is=part)]
    elif isinstance(audio, llm_audio.AudioClip):
        clip = audio
    else:
        raise InvalidValue.of("audio", audio, "an AudioClip, an AudioPart or a path")
    if (
        part is not None
        and part.format != "pcm16"
        and len(part.data) <= max_bytes
        and clip.duration_seconds <= max_seconds
    ):
        return [_Upload(llm_audio.ClipPiece(clip, 0.0), as_it_is=part)]
    if not len(clip):
        raise InvalidValue("audio: the clip has no frames, expected at least one")
    clip = clip.mono().resample(min(clip.sample_rate_hz, _SENT_RATE_HZ)).to("int16")
    limit = min(max_seconds, (max_bytes - 100) / (2 * clip.sample_rate_hz))
    if limit < _MIN_SECONDS:
        raise InvalidValue.of("max_bytes", max_bytes, "enough for a second of 16-bit sound")
    pieces = llm_audio.split_at_silences(
        clip, max_seconds=limit, overlap_seconds=min(overlap_seconds, limit / 4)
    )
    return [_Upload(piece) for piece in pieces]


def _read(path: Path) -> AudioPart:
    data = path.read_bytes()
    if not data:
        raise InvalidValue(f"audio: {path} is empty, expected a sound file")
    return AudioPart(data=data, format=path.suffix.lower().removeprefix(".") or "wav")


def _joined_transcripts(heard: Sequence[Transcript], pieces: Sequence[_Upload]) -> Transcript:
    """Return the transcripts of pieces as one, with times from the beginning of the whole."""
    from llm_audio import merge_transcripts

    whole = heard[0]
    if len(heard) == 1:
        return whole
    text, seconds, segments = whole.text, pieces[0].seconds, list(whole.segments)
    for transcript, upload in zip(heard[1:], pieces[1:], strict=False):
        assert upload.piece is not None, "only what is one piece goes as it is"
        start, overlap = upload.piece.start_seconds, upload.piece.overlap_seconds
        text = merge_transcripts(text, transcript.text, overlap_seconds=overlap)
        # Of the segments in the overlap, the first half is the earlier piece's.
        border = start + overlap / 2
        moved = [
            replace(s, start_seconds=s.start_seconds + start, end_seconds=s.end_seconds + start)
            for s in transcript.segments
        ]
        segments = [s for s in segments if not overlap or s.start_seconds < border]
        segments += [s for s in moved if not overlap or s.start_seconds >= border]
        seconds = start + upload.seconds
    return replace(
        whole,
        text=text,
        duration_seconds=seconds,
        segments=tuple(segments),
        usage=sum((transcript.usage for transcript in heard), Usage()),
        raw=[transcript.raw for transcript in heard],
    )


async def _ahead(clips: AsyncIterator[AudioClip]) -> AsyncGenerator[AudioClip, None]:
    """Pass clips on while the next ones are being made: a loudspeaker takes its time."""
    queue: asyncio.Queue[AudioClip | None] = asyncio.Queue()

    async def fill() -> None:
        try:
            async for clip in clips:
                queue.put_nowait(clip)
        finally:
            queue.put_nowait(None)

    filling = asyncio.create_task(fill())
    try:
        while (clip := await queue.get()) is not None:
            yield clip
        await filling
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
