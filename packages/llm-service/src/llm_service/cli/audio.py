"""`llm-service record | play | transcribe | say | talk`: sound from the command line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_core import LLMError, Message
from llm_service.audio import SPEECH_MODEL, TRANSCRIPTION_MODEL, speak
from llm_service.audio import transcribe as transcribe_sound
from llm_service.cli.attachments import read_piped
from llm_service.cli.console import tell
from llm_service.cli.options import (
    Number,
    Text,
    config_option,
    env_file_option,
    model_option,
    quiet_option,
)
from llm_service.cli.settings import CommandSettings
from llm_service.cli.speaking import echo_error, footer
from llm_service.service import BaseLLMService
from llm_service.sound_values import require_llm_audio

if TYPE_CHECKING:
    from llm_audio import AudioClip, Recording

__all__ = ["play", "record", "say", "talk", "transcribe"]

_FILE = click.Path(dir_okay=False, path_type=Path)
_PAUSE_SECONDS = 0.8
"""How long one is silent when one has finished: longer than within a sentence, shorter than is tedious."""

voice_option = click.option(
    "--voice", default="alloy", show_default=True, help="The name of the voice."
)
microphone_option = click.option(
    "--microphone", help="Number of the microphone, or a part of its name."
)
speaker_option = click.option("--speaker", help="Number of the loudspeaker, or a part of its name.")


@click.command()
@click.argument("file", type=_FILE)
@click.option("-s", "--seconds", type=Number(min=0, min_open=True), help="How long to record.")
@click.option("--until-silence", is_flag=True, help="End when you have spoken and are silent.")
@click.option(
    "--rate",
    default=16_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Frames per second.",
)
@microphone_option
@quiet_option
def record(
    file: Path,
    seconds: float | None,
    until_silence: bool,
    rate: int,
    microphone: str | None,
    quiet: bool,
) -> int:
    """Record from the microphone into FILE (.wav, .flac, .ogg, .opus or .mp3).

    Ends after --seconds, with --until-silence when you have spoken, and always
    with Ctrl-C. What was recorded is kept if the microphone goes away.

    Exit code: 0 recorded (also when Ctrl-C ended it), 1 the microphone went away,
    2 not carried out.
    """
    with _errors_as_lines():
        _require_place(file)
        taken, complaint = _record(
            seconds=seconds,
            until_silence=_PAUSE_SECONDS if until_silence else None,
            rate=rate,
            device=_device(microphone),
            quiet=quiet,
        )
        if not taken.clip:
            raise click.ClickException("nothing was recorded")
        taken.clip.to("int16").save(file)
    if not quiet:
        click.echo(f"{file}: {taken.clip.duration_seconds:.2f} s", err=True)
    if taken.losses or complaint:
        tell(complaint or "lost " + taken.losses)
    return 1 if complaint else 0


@click.command()
@click.argument("file", type=_FILE)
@speaker_option
def play(file: Path, speaker: str | None) -> int:
    """Play FILE (WAV, FLAC, OGG, Opus or MP3).

    Exit code: 0 played, 2 not carried out, 130 interrupted.
    """
    with _errors_as_lines():
        llm_audio = require_llm_audio()
        try:
            llm_audio.play(llm_audio.AudioClip.read(file), device=_device(speaker))
        except KeyboardInterrupt:
            raise click.Abort from None
    return 0


@click.command()
@click.argument("file", type=_FILE)
@click.option(
    "-m", "--model", default=TRANSCRIPTION_MODEL, show_default=True, help="The model that listens."
)
@click.option("--language", help="ISO 639-1 code, such as en.")
@click.option("--times", is_flag=True, help="Print when each part begins (whisper-1).")
@config_option
@env_file_option
@quiet_option
def transcribe(
    file: Path,
    model: str,
    language: str | None,
    times: bool,
    config_file: Path | None,
    env_file: str,
    quiet: bool,
) -> int:
    """Print what is said in FILE, of any length.

    What is too long or too large for the vendor is cut at silences.

    Exit code: 0 transcribed, 1 a call failed, 2 not carried out, 130 interrupted.
    """
    if not file.is_file():
        raise click.ClickException(f"{file}: no such file")
    with _errors_as_lines(), _open(model, config_file, env_file, quiet) as service:
        result = service.run_sync(
            lambda: transcribe_sound(service, file, model=model, language=language, segments=times)
        )
    if result.content is not None:
        click.echo(_with_times(result.content) if times else result.content.text)
    return _closing(result, quiet)


@click.command()
@click.argument("text", required=False, type=Text())
@click.option("-o", "--output", type=_FILE, help="Write a file instead of playing.")
@click.option(
    "-m", "--model", default=SPEECH_MODEL, show_default=True, help="The model that speaks."
)
@voice_option
@click.option("--speed", type=Number(0.25, 4), help="How fast; 1 is normal.")
@speaker_option
@config_option
@env_file_option
@quiet_option
def say(
    text: str | None,
    output: Path | None,
    model: str,
    voice: str,
    speed: float | None,
    speaker: str | None,
    config_file: Path | None,
    env_file: str,
    quiet: bool,
) -> int:
    """Speak TEXT (or what comes on standard input), of any length.

    It is heard from the beginning on while the rest is still being made.

    Exit code: 0 spoken, 1 a call failed, 2 not carried out, 130 interrupted.
    """
    words = text if text is not None else read_piped()
    if not words:
        raise click.UsageError("no text: give it as an argument or on standard input")
    with _errors_as_lines(), _open(model, config_file, env_file, quiet) as service:
        if output is not None:
            _require_place(output)
        result = service.run_sync(
            lambda: speak(
                service,
                words,
                voice=voice,
                model=model,
                speed=speed,
                play=output is None,
                device=_device(speaker),
            )
        )
        if output is not None and result.content is not None:
            result.content.save(output)
    return _closing(result, quiet)


@click.command()
@model_option
@click.option(
    "--system",
    type=Text(),
    default="Answer in one or two spoken sentences.",
    show_default=True,
    help="An instruction to the model.",
)
@click.option(
    "--listen-model", default=TRANSCRIPTION_MODEL, show_default=True, help="The model that listens."
)
@click.option(
    "--speech-model", default=SPEECH_MODEL, show_default=True, help="The model that speaks."
)
@voice_option
@click.option("--turns", type=click.IntRange(min=1), help="End after so many turns.")
@click.option(
    "--wait",
    default=60.0,
    show_default=True,
    help="Seconds of silence that end the talk.",
    type=Number(min=0, min_open=True),
)
@microphone_option
@speaker_option
@config_option
@env_file_option
@quiet_option
def talk(
    model: str | None,
    system: str,
    listen_model: str,
    speech_model: str,
    voice: str,
    turns: int | None,
    wait: float,
    microphone: str | None,
    speaker: str | None,
    config_file: Path | None,
    env_file: str,
    quiet: bool,
) -> int:
    """Talk with a model by voice, turn by turn.

    Speak, be silent, and hear the answer. Ctrl-C ends; so does saying nothing.

    Exit code: 0 all answered, 1 a call failed, 2 not carried out, 130 interrupted
    during an answer.
    """
    with _errors_as_lines(), _open(model, config_file, env_file, quiet) as service:
        conversation = _SpokenConversation(
            service, system, listen_model, speech_model, voice, _device(speaker), quiet
        )
        turn = 0
        while turns is None or turn < turns:
            taken, complaint = _record(
                until_silence=_PAUSE_SECONDS,
                wait_seconds=wait,
                device=_device(microphone),
                quiet=quiet,
            )
            if complaint:
                raise click.ClickException(complaint)
            if taken.ended_by != "silence":
                break
            if not conversation.answer(taken.clip):
                return 1
            turn += 1
    return 0


class _SpokenConversation:
    """What was said so far, and who listens, answers and speaks."""

    def __init__(
        self,
        service: BaseLLMService,
        system: str,
        listen_model: str,
        speech_model: str,
        voice: str,
        speaker: int | str | None,
        quiet: bool,
    ) -> None:
        self._service = service
        self._messages = [Message.system(system)]
        self._listen_model = listen_model
        self._speech_model = speech_model
        self._voice = voice
        self._speaker = speaker
        self._quiet = quiet

    def answer(self, clip: AudioClip) -> bool:
        """Answer what is said in the clip by voice; False, told on stderr, if a call failed."""
        heard = self._run(lambda: transcribe_sound(self._service, clip, model=self._listen_model))
        if heard is None:
            return False
        click.echo(f"> {heard.content.text}")
        self._messages.append(Message.user(heard.content.text))
        messages = tuple(self._messages)
        answered = self._run(
            lambda: self._service.generate(messages=messages, operation_name="talk")
        )
        if answered is None:
            return False
        click.echo(answered.content)
        self._messages.append(Message.assistant(answered.content))
        spoken = self._run(
            lambda: speak(
                self._service,
                answered.content,
                voice=self._voice,
                model=self._speech_model,
                play=True,
                device=self._speaker,
            )
        )
        return spoken is not None

    def _run(self, call: Callable[[], Any]) -> Any:
        result = self._service.run_sync(call)
        return result if _closing(result, self._quiet) == 0 else None


def _record(
    *,
    seconds: float | None = None,
    until_silence: float | None = None,
    wait_seconds: float | None = None,
    rate: int = 16_000,
    device: int | str | None,
    quiet: bool,
) -> tuple[Recording, str]:
    """Record with a level meter on stderr; returns the recording, and why it ended early if it did.

    Ctrl-C ends it as if that had been asked for, where it was given no other end; else it aborts.
    """
    llm_audio = require_llm_audio()
    meter, stop = llm_audio.LevelMeter(), threading.Event()
    shows_meter = sys.stderr.isatty() and not quiet

    def show(block: AudioClip) -> None:
        meter.feed(block)
        if shows_meter:
            click.echo(f"\r● {meter.bar()}", nl=False, err=True)

    try:
        with _interrupt_sets(stop):
            taken = llm_audio.record(
                seconds,
                until_silence=until_silence,
                wait_seconds=wait_seconds,
                stop=stop,
                on_block=show,
                device=device,
                sample_rate_hz=rate,
            )
    except llm_audio.DeviceLost as error:
        if error.recorded is None:
            raise
        lost = llm_audio.Recording(
            clip=error.recorded, ended_by=llm_audio.RecordingEnd.STOP, losses=""
        )
        return lost, str(error)
    finally:
        if shows_meter:
            click.echo("\r\033[K", nl=False, err=True)
    return taken, ""


@contextmanager
def _interrupt_sets(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C set `stop` instead of raising, as long as the context lasts."""
    import signal

    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _require_place(file: Path) -> None:
    """Refuse a file that could not be written before there is sound that would be lost."""
    require_llm_audio()
    from llm_audio.codecs import format_of_path

    format_of_path(file)
    if not file.parent.is_dir():
        raise click.ClickException(f"{file}: its folder does not exist")


@contextmanager
def _errors_as_lines() -> Iterator[None]:
    """Turn errors about sound, devices and files into one line and exit code 2."""
    try:
        yield
    except LLMError as error:
        raise click.ClickException(str(error)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        place = error.filename or "the sound file"
        raise click.ClickException(f"{place}: {error.strerror or error}") from None


def _open(
    model: str | None, config_file: Path | None, env_file: str, quiet: bool
) -> BaseLLMService:
    settings = CommandSettings(config_file, env_file=env_file, model=model)
    return settings.service(price_book=None if quiet else settings.price_book())


def _closing(result: Any, quiet: bool) -> int:
    """Tell what a call took, or why it failed; returns the exit code."""
    if result.error is not None:
        echo_error(result.error)
        return 1
    if not quiet and sys.stderr.isatty():
        click.secho(footer(result), err=True, dim=True)
    return 0


def _with_times(transcript: Any) -> str:
    lines = [f"{s.start_seconds:8.2f}  {s.text.strip()}" for s in transcript.segments]
    return "\n".join(lines) or transcript.text


def _device(wanted: str | None) -> int | str | None:
    return int(wanted) if wanted is not None and wanted.isdigit() else wanted
