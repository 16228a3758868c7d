"""What came back from a provider, in the same words for every vendor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from llm_core._waits import usable_wait
from llm_core.error_types import ErrorType
from llm_core.frozen import EMPTY
from llm_core.messages import AudioPart, Message, Part, ReasoningPart, Role, TextPart, ToolCall
from llm_core.record import NOT_JSON, Record
from llm_core.usage import Cost, Usage
from llm_core.value import immutable

__all__ = ["FinishReason", "ProviderResponse", "RateLimitFacts", "RateLimitWindow"]


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    """It was done, or met a stop text."""
    LENGTH = "length"
    """The token limit cut it off: what there is, is an answer, and whether it is enough the caller knows."""
    TOOL_CALLS = "tool_calls"
    """It waits for the results of tools."""
    CONTENT_FILTER = "content_filter"
    """A filter of the provider stopped it."""
    REFUSAL = "refusal"
    """The model declined; its words are the text."""
    INCOMPLETE = "incomplete"
    """The reply broke off without a reason from the vendor."""
    OTHER = "other"
    """A reason this version has no word for; see `raw`."""

    @property
    def failure(self) -> ErrorType | None:
        """The kind of failure that a reply with this reason is; None if it is an answer."""
        return _FAILURES.get(self)


_FAILURES: Final = MappingProxyType(
    {
        FinishReason.CONTENT_FILTER: ErrorType.CONTENT_FILTERED,
        FinishReason.REFUSAL: ErrorType.REFUSED,
        FinishReason.INCOMPLETE: ErrorType.TRUNCATED,
    }
)


@immutable
class RateLimitWindow(Record):
    """The state of one limit as the provider's headers told it."""

    limit: int | None = None
    """The most that one window allows."""
    remaining: int | None = None
    """What is left of it now."""
    reset_seconds: float | None = None
    """Seconds until the limit is back at its full value."""


@immutable
class RateLimitFacts(Record):
    """Everything the headers of one reply said about limits; None where they said nothing."""

    requests: RateLimitWindow | None = None
    tokens: RateLimitWindow | None = None
    input_tokens: RateLimitWindow | None = None
    output_tokens: RateLimitWindow | None = None
    retry_after: float | None = None
    """Seconds to wait before the next try, at most a year; None if what is given is no length of time."""

    def __post_init__(self) -> None:
        if self.retry_after is not None:
            object.__setattr__(self, "retry_after", usable_wait(self.retry_after))


@immutable
class ProviderResponse(Record):
    """One complete reply (or, inside an `ErrorInfo`, the part that arrived)."""

    provider: str
    model: str
    """The model that answered, as the vendor names it; often a dated version of the one asked."""
    parts: tuple[Part, ...] = ()
    """Text, reasoning, tool calls and audio in the order they came."""
    usage: Usage = Usage()
    finish_reason: FinishReason = FinishReason.STOP
    response_id: str | None = None
    """The vendor's id of the reply; what `previous_response_id` takes."""
    provider_request_id: str | None = None
    """The vendor's id of the HTTP request, for its support."""
    rate_limits: RateLimitFacts | None = None
    cost: Cost | None = None
    """The provider's own bill, if it sends one."""
    structured_by: str | None = None
    """How the schema was asked for: ``native``, ``tool`` or ``prompt``; None without schema."""
    dropped: tuple[str, ...] = ()
    """Features that were asked for and left out because the model lacks them."""
    server_seconds: Mapping[str, float] = EMPTY
    """Durations measured by the server, such as Ollama's ``load`` and ``eval``."""
    raw: Any = field(default=None, metadata=NOT_JSON, compare=False, repr=False)
    """The vendor's reply as a plain dict; not written to JSON."""

    @property
    def text(self) -> str:
        """The text parts joined, without anything in between."""
        parts = self.parts
        if len(parts) == 1 and type(parts[0]) is TextPart:  # as in most replies
            return parts[0].text
        return "".join([part.text for part in self.parts if isinstance(part, TextPart)])

    @property
    def reasoning(self) -> str:
        """The reasoning parts joined."""
        return "".join([part.text for part in self.parts if isinstance(part, ReasoningPart)])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls in order."""
        return tuple([part for part in self.parts if isinstance(part, ToolCall)])

    @property
    def audio(self) -> AudioPart | None:
        """The first audio part."""
        return next((part for part in self.parts if isinstance(part, AudioPart)), None)

    @property
    def message(self) -> Message:
        """The reply as an assistant message, to continue the conversation with."""
        return Message(role=Role.ASSISTANT, content=self.parts or (TextPart(text=""),))
