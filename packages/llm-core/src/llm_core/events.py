"""What a stream says, in the same words for every vendor.

A provider's stream yields `StreamStarted`, then deltas, and ends always and exactly once with
`StreamDone` or `StreamFailed`.
A service's stream yields the same and ends always and exactly once with `StreamResult`, which
carries the `GenerationResult`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from llm_core.error_info import ErrorInfo
from llm_core.messages import ToolCall
from llm_core.record import Record
from llm_core.response import ProviderResponse
from llm_core.result import GenerationResult
from llm_core.usage import Usage
from llm_core.value import immutable

__all__ = [
    "AudioDelta",
    "ReasoningDelta",
    "StreamDone",
    "StreamEvent",
    "StreamFailed",
    "StreamRestarted",
    "StreamResult",
    "StreamStarted",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallEnded",
    "ToolCallStarted",
    "UsageUpdate",
]


@immutable
class StreamStarted(Record):
    """The provider has accepted the request."""

    kind: ClassVar[str] = "started"

    model: str
    response_id: str | None = None


@immutable
class TextDelta(Record):
    """A piece of the answer."""

    kind: ClassVar[str] = "text"

    text: str


@immutable
class ReasoningDelta(Record):
    """A piece of the model's thought."""

    kind: ClassVar[str] = "reasoning"

    text: str


@immutable
class ToolCallStarted(Record):
    """A tool call begins; `index` counts the calls of this reply from 0."""

    kind: ClassVar[str] = "tool_call_started"

    index: int
    id: str
    name: str


@immutable
class ToolCallDelta(Record):
    """A piece of a tool call's arguments, as JSON text."""

    kind: ClassVar[str] = "tool_call_delta"

    index: int
    arguments_text: str


@immutable
class ToolCallEnded(Record):
    """A tool call is whole."""

    kind: ClassVar[str] = "tool_call_ended"

    index: int
    tool_call: ToolCall


@immutable
class AudioDelta(Record):
    """A piece of encoded audio; the pieces joined are one file or stream of samples."""

    kind: ClassVar[str] = "audio"

    data: bytes
    transcript: str | None = None


@immutable
class UsageUpdate(Record):
    """The tokens known so far; each update replaces the one before."""

    kind: ClassVar[str] = "usage"

    usage: Usage


@immutable
class StreamRestarted(Record):
    """The stream failed and begins anew: forget what came before."""

    kind: ClassVar[str] = "restarted"

    attempt: int
    """The number of the attempt that begins."""
    error: ErrorInfo


@immutable
class StreamDone(Record):
    """The vendor's terminal event was seen: the reply is complete."""

    kind: ClassVar[str] = "done"

    response: ProviderResponse


@immutable
class StreamFailed(Record):
    """The stream broke; `error.partial` keeps what had arrived."""

    kind: ClassVar[str] = "failed"

    error: ErrorInfo


@immutable
class StreamResult(Record):
    """The last event of a service's stream."""

    kind: ClassVar[str] = "result"

    result: GenerationResult[Any]


StreamEvent = (
    StreamStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallEnded
    | AudioDelta
    | UsageUpdate
    | StreamRestarted
    | StreamDone
    | StreamFailed
    | StreamResult
)
"""Anything a stream may yield."""
