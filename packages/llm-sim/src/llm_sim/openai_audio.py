"""OpenAI Audio: transcriptions, translations and speech.

A transcription's text is looked up by the file's name, as if the user had said it; without a rule
it is the name itself. Speech is a tone for each token of the input, a quarter of a second long, whose
pitch is the word's (`llm_sim.sound.tone_hz`).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator

from llm_sim import openai_wire as wire
from llm_sim import tokens
from llm_sim.exchange import Ask, Chunk, Json, Reply, Request, Stamp
from llm_sim.fields import Fields, dump
from llm_sim.forms import read_form
from llm_sim.sound import encode
from llm_sim.wire import JSON, SSE

_LONGEST_INPUT = 4096

_TEXT = b"text/plain; charset=utf-8"
_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_SPEECH_TYPES = {"mp3": b"audio/mpeg", "wav": b"audio/wav", "pcm": b"audio/pcm"}
_SPEECH_FIELDS = frozenset(
    ["input", "instructions", "model", "response_format", "speed", "stream_format", "voice"]
)


class Transcriptions:
    """`POST /v1/audio/transcriptions`, and `/v1/audio/translations`, which differs by name only."""

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def read(self, request: Request) -> Ask:
        """Read a form; raise Refusal as the vendor does."""
        form = read_form(request)
        fields = form.checked()
        sound = form.upload("file")
        shape = fields.optional_text("response_format") or "json"
        if shape not in _FORMATS:
            listed = ", ".join(f"'{name}'" for name in _FORMATS)
            raise wire.refuse(
                f"Invalid value: '{shape}'. Supported values are: {listed}.",
                "response_format",
                "value",
            )
        seconds = tokens.count_audio_seconds(base64.b64encode(sound.data).decode())
        prompt = fields.optional_text("prompt") or ""
        return Ask(
            operation=self._operation,
            model=fields.text("model"),
            texts=(prompt,) if prompt else (),
            user_text=sound.filename,
            stream=fields.body.get("stream") == "true",
            audio_tokens=math.ceil(seconds * tokens.AUDIO_INPUT_TOKENS_PER_SECOND),
            cache_marks=(),
            body={**fields.body, "response_format": shape, "seconds": round(seconds, 2)},
        )

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        if ask.stream:
            return SSE
        return _TEXT if ask.body["response_format"] in ("text", "srt", "vtt") else JSON

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write the transcript in the format that was asked for."""
        shape, seconds = ask.body["response_format"], ask.body["seconds"]
        if shape == "text":
            return f"{reply.text}\n".encode("utf-8", "replace")
        if shape == "srt":
            return f"1\n{_clock(0, ',')} --> {_clock(seconds, ',')}\n{reply.text}\n\n\n".encode()
        if shape == "vtt":
            return f"WEBVTT\n\n{_clock(0)} --> {_clock(seconds)}\n{reply.text}\n\n".encode()
        if shape == "json":
            return dump({"text": reply.text, "usage": _usage(ask, reply)})
        language = ask.body.get("language", "english")
        made = {"task": "transcribe", "language": language, "duration": seconds}
        usage = {"type": "duration", "seconds": math.ceil(seconds)}
        segments = [_segment(reply, seconds)]
        return dump({**made, "text": reply.text, "segments": segments, "usage": usage})

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write the transcript piece by piece."""
        for piece in reply.pieces:
            event = dump({"type": "transcript.text.delta", "delta": piece})
            yield Chunk(b"data: " + event + b"\n\n", 1)
        done = {"type": "transcript.text.done", "text": reply.text, "usage": _usage(ask, reply)}
        yield Chunk(b"data: " + dump(done) + b"\n\n")

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        error = {"message": message, "type": "server_error", "param": None, "code": None}
        return b"data: " + dump({"type": "error", "error": error}) + b"\n\n"


class Speech:
    """`POST /v1/audio/speech`."""

    def read(self, request: Request) -> Ask:
        """Read a request; raise Refusal as the vendor does."""
        fields = Fields(wire.read_json(request.body), wire.WORDING)
        fields.known(_SPEECH_FIELDS)
        text = fields.text("input")
        if not fields.body.get("voice"):
            raise wire.WORDING.missing("voice")
        if len(text) > _LONGEST_INPUT:
            raise wire.refuse(
                f"Invalid 'input': string too long. Expected a string with maximum length "
                f"{_LONGEST_INPUT}, but got a string with length {len(text)} instead.",
                "input",
                "string_above_max_length",
            )
        fields.number("speed", 0.25, 4)
        shape = fields.optional_text("response_format") or "mp3"
        if shape not in _SPEECH_TYPES:
            raise wire.refuse(
                f"Invalid value: '{shape}'. The simulator speaks 'mp3', 'wav' and 'pcm'.",
                "response_format",
                "value",
            )
        return Ask(
            operation="speech",
            model=fields.text("model"),
            texts=(text,),
            user_text=text,
            stream=fields.body.get("stream_format") == "sse",
            wants_audio=shape,
            cache_marks=(),
            body=fields.body,
        )

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        return SSE if ask.stream else _SPEECH_TYPES[ask.wants_audio or "mp3"]

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write the sound as a file."""
        return encode(reply.audio, ask.wants_audio or "mp3")

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write the file in pieces, one for each token."""
        sound = self.render(ask, reply, stamp)
        step = max(len(sound) // max(len(reply.pieces), 1), 1)
        for start in range(0, len(sound), step):
            piece = base64.b64encode(sound[start : start + step]).decode()
            yield Chunk(
                b"data: " + dump({"type": "speech.audio.delta", "audio": piece}) + b"\n\n", 1
            )
        done = {"type": "speech.audio.done", "usage": _usage(ask, reply)}
        yield Chunk(b"data: " + dump(done) + b"\n\n")

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        error = {"message": message, "type": "server_error", "param": None, "code": None}
        return b"data: " + dump({"type": "error", "error": error}) + b"\n\n"


def _usage(ask: Ask, reply: Reply) -> Json:
    used = reply.usage
    return {
        "type": "tokens",
        "input_tokens": used.input_tokens,
        "input_token_details": {
            "audio_tokens": used.audio_input_tokens,
            "text_tokens": used.input_tokens - used.audio_input_tokens,
        },
        "output_tokens": used.output_tokens,
        "total_tokens": used.total_tokens,
    }


def _segment(reply: Reply, seconds: float) -> Json:
    return {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": seconds,
        "text": reply.text,
        "tokens": list(range(len(reply.pieces))),
        "temperature": 0.0,
        "avg_logprob": -0.1,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }


def _clock(seconds: float, point: str = ".") -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
