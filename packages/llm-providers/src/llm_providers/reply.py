"""Building replies: what every reply has in common, and the assembly of one from a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_core import (
    AudioDelta,
    AudioPart,
    FinishReason,
    ImagePart,
    Part,
    ProviderResponse,
    RateLimitFacts,
    ReasoningDelta,
    ReasoningPart,
    StreamEvent,
    StreamStarted,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
    UsageUpdate,
    Value,
    immutable,
)
from llm_providers.json_reading import MalformedBody, parse_object
from llm_providers.media import from_base64

__all__ = ["ReplyAssembly", "ReplyFrame", "is_whole", "sample_rate_of", "tool_call"]


@immutable
class ReplyFrame(Value):
    """What is known of a reply before its body is read."""

    provider: str
    model: str
    """The model that was asked for; the body may name a dated version of it."""
    schema_tool: str | None = None
    """The tool whose arguments are the structured answer, when the schema was asked for by tool."""
    structured_by: str | None = None
    dropped: tuple[str, ...] = ()
    audio_format: str = "wav"
    rate_limits: RateLimitFacts | None = None
    provider_request_id: str | None = None

    def response(
        self,
        *,
        model: str,
        parts: list[Part],
        usage: Usage,
        finish_reason: FinishReason,
        response_id: str | None,
        raw: Any = None,
        server_seconds: Mapping[str, float] | None = None,
    ) -> ProviderResponse:
        """Return the whole reply; a structured answer given as a tool call becomes text."""
        if self.schema_tool is not None:
            parts = [self._unwrapped(part) for part in parts]
            finish_reason = self.unwrapped_reason(
                finish_reason, any(isinstance(part, ToolCall) for part in parts)
            )
        return ProviderResponse(
            provider=self.provider,
            model=model or self.model,
            parts=tuple(parts),
            usage=usage,
            finish_reason=finish_reason,
            response_id=response_id or None,
            provider_request_id=self.provider_request_id,
            rate_limits=self.rate_limits,
            structured_by=self.structured_by,
            dropped=self.dropped,
            server_seconds=server_seconds or {},
            raw=raw,
        )

    def unwrapped_reason(self, reason: FinishReason, tools_left: bool) -> FinishReason:
        """Return the finish reason once the structured answer no longer counts as a tool call."""
        if reason is FinishReason.TOOL_CALLS and not tools_left:
            return FinishReason.STOP
        return reason

    def _unwrapped(self, part: Part) -> Part:
        if isinstance(part, ToolCall) and part.name == self.schema_tool:
            return TextPart(text=part.arguments_text)
        return part


def sample_rate_of(audio_format: str) -> int | None:
    """Return the rate of raw samples, 24 kHz (OpenAI's guide «Audio and speech»); None for formats with a header."""
    return 24_000 if audio_format == "pcm16" else None


def tool_call(call_id: str, name: str, arguments_text: str, *, complete: bool = True) -> ToolCall:
    """Return a tool call with its arguments parsed as far as they are a JSON object."""
    try:
        arguments = parse_object(arguments_text) if arguments_text else {}
    except MalformedBody:
        arguments = {}
    return ToolCall(
        id=call_id,
        name=name,
        arguments=arguments,
        arguments_text=arguments_text,
        complete=complete,
    )


def is_whole(arguments_text: str) -> bool:
    """Whether the arguments of a tool call are a JSON object from its first brace to its last."""
    try:
        parse_object(arguments_text)
    except MalformedBody:
        return False
    return True


class _Piece:
    """One part of the reply while it grows."""

    __slots__ = ("done", "id", "image", "index", "kind", "name", "signature", "texts")

    def __init__(self, kind: str, index: int = 0, id: str = "", name: str = "") -> None:
        self.kind = kind
        self.index = index
        self.id = id
        self.name = name
        self.signature = ""
        self.image = b""
        self.texts: list[str] = []
        self.done = False


class ReplyAssembly:
    """The mutable account of one streamed reply: gives the events to pass on, and in the end the whole reply.

    Parts are kept in the order in which they began.
    Deltas of text and reasoning go to the latest part of their kind; tool calls are told apart by the vendor's key.
    """

    def __init__(self, frame: ReplyFrame) -> None:
        self._frame = frame
        self._pieces: list[_Piece] = []
        self._tools: dict[object, _Piece] = {}
        self._audio = bytearray()
        self._transcript: list[str] = []
        self._audio_id = ""
        self._current: _Piece | None = None
        self.model = ""
        self.response_id = ""
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.server_seconds: dict[str, float] = {}
        self.raw: Any = None
        self._started = False

    def start(self, model: str, response_id: str) -> tuple[StreamEvent, ...]:
        """Note who answers; gives StreamStarted the first time."""
        self.model = model or self.model
        self.response_id = response_id or self.response_id
        if self._started:
            return ()
        self._started = True
        return (
            StreamStarted(
                model=self.model or self._frame.model,
                response_id=self.response_id or None,
            ),
        )

    def text(self, text: str) -> tuple[StreamEvent, ...]:
        """Add to the answer."""
        if not text:
            return ()
        self._grow("text", text)
        return self._said(TextDelta(text=text))

    def reasoning(self, text: str) -> tuple[StreamEvent, ...]:
        """Add to the thought."""
        if not text:
            return ()
        self._grow("reasoning", text)
        return self._said(ReasoningDelta(text=text))

    def close_part(self) -> None:
        """End the current text or thought: what follows of the same kind is a part of its own."""
        self._current = None

    def sign_reasoning(self, *, signature: str = "", reference_id: str = "") -> None:
        """Put the vendor's proof or id on the latest thought, which may have no text."""
        piece = self._current
        if piece is None or piece.kind != "reasoning":
            piece = self._begin("reasoning")
        piece.signature += signature
        piece.id = reference_id or piece.id

    def tool_start(self, key: object, call_id: str, name: str) -> tuple[StreamEvent, ...]:
        """Begin the tool call `key`; a second start only fills in what was not known."""
        piece = self._tools.get(key)
        if piece is not None:
            piece.id, piece.name = piece.id or call_id, piece.name or name
            return ()
        hidden = name == self._frame.schema_tool and self._frame.schema_tool is not None
        index = sum(other.kind == "tool" for other in self._tools.values())
        piece = _Piece("text-tool" if hidden else "tool", index, call_id, name)
        self._tools[key] = piece
        self._pieces.append(piece)
        self._current = None
        if hidden:
            return ()
        return self._said(ToolCallStarted(index=index, id=call_id, name=name))

    def tool_delta(self, key: object, arguments_text: str) -> tuple[StreamEvent, ...]:
        """Add to the arguments of the tool call `key`; what has no beginning is passed over."""
        piece = self._tools.get(key)
        if piece is None or piece.done or not arguments_text:
            return ()
        piece.texts.append(arguments_text)
        if piece.kind == "text-tool":
            return self._said(TextDelta(text=arguments_text))
        return (ToolCallDelta(index=piece.index, arguments_text=arguments_text),)

    def tool_text(self, key: object) -> str:
        """Return the arguments of the tool call `key` so far."""
        piece = self._tools.get(key)
        return "" if piece is None else "".join(piece.texts)

    def tool_end(self, key: object) -> tuple[StreamEvent, ...]:
        """Declare the tool call `key` whole."""
        piece = self._tools.get(key)
        if piece is None or piece.done:
            return ()
        piece.done = True
        if piece.kind == "text-tool":
            return ()
        call = tool_call(piece.id, piece.name, "".join(piece.texts))
        return (ToolCallEnded(index=piece.index, tool_call=call),)

    def end_whole_tools(self) -> tuple[StreamEvent, ...]:
        """Declare those tool calls whole whose arguments are: for an answer that was cut off, maybe within one."""
        whole = [key for key in self._tools if is_whole(self.tool_text(key))]
        return tuple([event for key in whole for event in self.tool_end(key)])

    def end_all_tools(self) -> tuple[StreamEvent, ...]:
        """Declare every tool call whole that is still open."""
        return tuple([event for key in list(self._tools) for event in self.tool_end(key)])

    def audio(
        self, data: bytes, transcript: str = "", reference_id: str = ""
    ) -> tuple[StreamEvent, ...]:
        """Add sound and its words."""
        self._audio += data
        self._audio_id = reference_id or self._audio_id
        if transcript:
            self._transcript.append(transcript)
        if not data and not transcript:
            return ()
        return self._said(AudioDelta(data=data, transcript=transcript or None))

    def image(self, base64_text: str) -> None:
        """Add a finished picture; it is part of the reply but no event."""
        data = from_base64(base64_text)
        if data:
            piece = self._begin("image")
            piece.image = data
            self._current = None

    def update_usage(self, usage: Usage) -> tuple[StreamEvent, ...]:
        """Replace the known usage."""
        if usage == self.usage:
            return ()
        self.usage = usage
        return self._said(UsageUpdate(usage=usage))

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the answer has come."""
        return not self._pieces

    @property
    def has_tools(self) -> bool:
        """Whether a tool call has begun, the structured answer not counted."""
        return any(piece.kind == "tool" for piece in self._tools.values())

    def whole(self) -> ProviderResponse:
        """Return the reply as complete."""
        return self._response(self.finish_reason or FinishReason.STOP, self.usage or Usage())

    def partial(self, estimate: Usage) -> ProviderResponse:
        """Return what has arrived, its open tool calls marked incomplete.

        `estimate` (input tokens counted here) fills in for a usage that never came;
        output is then taken as one token per four characters.
        """
        usage = self.usage
        if usage is None or (usage.output_tokens == 0 and self._pieces):
            characters = sum(len(text) for piece in self._pieces for text in piece.texts)
            known = usage or estimate
            usage = Usage(
                input_tokens=known.input_tokens,
                output_tokens=(characters + 3) // 4,
                cache_read_tokens=known.cache_read_tokens,
                cache_write_tokens=known.cache_write_tokens,
                estimated=True,
            )
        return self._response(FinishReason.INCOMPLETE, usage)

    def _response(self, reason: FinishReason, usage: Usage) -> ProviderResponse:
        parts = [part for piece in self._pieces if (part := _part(piece)) is not None]
        if self._audio:
            parts.append(
                AudioPart(
                    data=bytes(self._audio),
                    format=self._frame.audio_format,
                    sample_rate_hz=sample_rate_of(self._frame.audio_format),
                    transcript="".join(self._transcript) or None,
                    reference_id=self._audio_id or None,
                )
            )
        if self._frame.schema_tool is not None:
            reason = self._frame.unwrapped_reason(reason, self.has_tools)
        return ProviderResponse(
            provider=self._frame.provider,
            model=self.model or self._frame.model,
            parts=tuple(parts),
            usage=usage,
            finish_reason=reason,
            response_id=self.response_id or None,
            provider_request_id=self._frame.provider_request_id,
            rate_limits=self._frame.rate_limits,
            structured_by=self._frame.structured_by,
            dropped=self._frame.dropped,
            server_seconds=self.server_seconds,
            raw=self.raw,
        )

    def _said(self, event: StreamEvent) -> tuple[StreamEvent, ...]:
        """Return the event, after the stream's beginning if the server forgot to tell that."""
        return (event,) if self._started else (*self.start("", ""), event)

    def _grow(self, kind: str, text: str) -> None:
        piece = self._current
        if piece is None or piece.kind != kind:
            piece = self._begin(kind)
        piece.texts.append(text)

    def _begin(self, kind: str) -> _Piece:
        piece = _Piece(kind)
        self._pieces.append(piece)
        self._current = piece
        return piece


def _part(piece: _Piece) -> Part | None:
    text = "".join(piece.texts)
    if piece.kind == "reasoning":
        if not (text or piece.signature or piece.id):
            return None
        return ReasoningPart(
            text=text, signature=piece.signature or None, reference_id=piece.id or None
        )
    if piece.kind == "tool":
        return tool_call(piece.id, piece.name, text, complete=piece.done)
    if piece.kind == "image":
        return ImagePart(data=piece.image)
    return TextPart(text=text) if text else None
