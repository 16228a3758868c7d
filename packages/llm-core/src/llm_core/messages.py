"""What is said: messages and the parts they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from llm_core.errors import InvalidValue
from llm_core.frozen import EMPTY
from llm_core.record import CheckedRecord, require
from llm_core.value import immutable

__all__ = [
    "AudioPart",
    "FilePart",
    "ImagePart",
    "Message",
    "Part",
    "ReasoningPart",
    "Role",
    "TextPart",
    "ToolCall",
    "ToolResult",
]


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@immutable
class TextPart(CheckedRecord):
    """Plain text."""

    kind: ClassVar[str] = "text"

    text: str


@immutable
class ImagePart(CheckedRecord):
    """An image, as bytes or by URL: exactly one of the two."""

    kind: ClassVar[str] = "image"

    data: bytes | None = None
    url: str | None = None
    media_type: str | None = None
    """IANA media type such as ``image/png``; None lets the adapter detect it from the bytes."""
    detail: str | None = None
    """The vendor's resolution hint, such as ``low`` or ``high``."""

    def _validate(self) -> None:
        _require_one_source(self, data=self.data, url=self.url)


@immutable
class AudioPart(CheckedRecord):
    """Sound as an encoded file (not raw samples, unless the format says so)."""

    kind: ClassVar[str] = "audio"

    data: bytes
    format: str = "wav"
    """``wav``, ``mp3``, ``flac``, ``opus``, ``aac`` or ``pcm16`` (raw 16-bit little endian)."""
    sample_rate_hz: int | None = None
    """Needed for ``pcm16``, which has no header; None otherwise."""
    transcript: str | None = None
    """The words in it, when the provider told them."""
    reference_id: str | None = None
    """The vendor's id, by which a later turn may refer to this audio."""

    def _validate(self) -> None:
        require(self, "data", len(self.data) > 0, "encoded audio, not empty")


@immutable
class FilePart(CheckedRecord):
    """A document: as bytes, by URL, or by the id of an earlier upload; exactly one of the three."""

    kind: ClassVar[str] = "file"

    data: bytes | None = None
    url: str | None = None
    file_id: str | None = None
    media_type: str | None = None
    filename: str | None = None

    def _validate(self) -> None:
        _require_one_source(self, data=self.data, url=self.url, file_id=self.file_id)


@immutable
class ReasoningPart(CheckedRecord):
    """What the model thought before answering, kept to be sent back in the next turn."""

    kind: ClassVar[str] = "reasoning"

    text: str = ""
    signature: str | None = None
    """The vendor's proof or encrypted form of the thought; opaque, sent back as it came."""
    reference_id: str | None = None
    """The vendor's id of the thought."""


@immutable
class ToolCall(CheckedRecord):
    """The model's wish to run a tool."""

    kind: ClassVar[str] = "tool_call"

    id: str
    name: str
    arguments: Mapping[str, Any] = EMPTY
    """The parsed arguments; empty when `arguments_text` is no JSON object."""
    arguments_text: str = ""
    """The arguments exactly as the model wrote them."""
    complete: bool = True
    """False when the reply was cut before the call was whole: do not run it."""


@immutable
class ToolResult(CheckedRecord):
    """What a tool answered."""

    kind: ClassVar[str] = "tool_result"

    tool_call_id: str
    content: str
    is_error: bool = False


Part = TextPart | ImagePart | AudioPart | FilePart | ReasoningPart | ToolCall | ToolResult
"""Anything a message may hold."""


@immutable
class Message(CheckedRecord):
    """One turn: who speaks, and the parts in order.

    The class methods take text and parts mixed: ``Message.user("What is this?", image)``.
    """

    role: Role
    content: tuple[Part, ...]
    name: str | None = None
    """A participant's name, for vendors that tell participants of one role apart."""
    cache: bool = False
    """Ask the vendor to cache the prompt up to the end of this message, where that is explicit."""

    def _validate(self) -> None:
        require(self, "content", len(self.content) > 0, "at least one part")

    @property
    def text(self) -> str:
        """The text parts joined, without anything in between."""
        return "".join([part.text for part in self.content if isinstance(part, TextPart)])

    @classmethod
    def system(cls, *parts: str | Part, cache: bool = False) -> Message:
        """Build an instruction to the model."""
        return cls(role=Role.SYSTEM, content=_parts(parts), cache=cache)

    @classmethod
    def user(cls, *parts: str | Part, name: str | None = None, cache: bool = False) -> Message:
        """Build what the user says."""
        return cls(role=Role.USER, content=_parts(parts), name=name, cache=cache)

    @classmethod
    def assistant(cls, *parts: str | Part, cache: bool = False) -> Message:
        """Build what the model said, or, as the last message, how its answer must begin."""
        return cls(role=Role.ASSISTANT, content=_parts(parts), cache=cache)

    @classmethod
    def tool(cls, *results: ToolResult, cache: bool = False) -> Message:
        """Build the answers to tool calls."""
        return cls(role=Role.TOOL, content=_parts(results), cache=cache)


def _parts(parts: tuple[str | Part, ...]) -> tuple[Part, ...]:
    return tuple([TextPart(text=part) if isinstance(part, str) else part for part in parts])


def _require_one_source(record: object, **sources: object) -> None:
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        path, names = type(record).__name__, ", ".join(sources)
        message = f"{path}: got {given or 'none'}, expected exactly one of {names}"
        raise InvalidValue(message, details={"field": path})
