"""The words between the protocols: what is asked, what is replied, and how it goes out.

Every protocol reads its wire format into one `Ask` and renders one `Reply`; limits, faults,
latency and the referee see only these and the `Answer` made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_core import Value, immutable
from llm_sim.errors import Refusal

Json = dict[str, Any]
"""A JSON object as the json module reads it."""

Header = tuple[bytes, bytes]
"""Name in lower case, and value."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "stop_sequence"]
"""Why a reply ends, in neutral words; each protocol has its own."""


@immutable
class Request(Value):
    """An HTTP request, read to its end."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    query: bytes = b""


@immutable
class Tool(Value):
    """A function that the model may call."""

    name: str
    schema: Mapping[str, Any]
    """JSON schema of the arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a request asks for, whatever protocol it came by."""

    operation: str
    """Name of the endpoint, such as `chat` or `responses`."""
    model: str
    texts: tuple[str, ...]
    """The text of every message in order: what the prompt's tokens are counted from."""
    user_text: str
    """The text of the last user message: what scripts match."""
    assistant_turns: int = 0
    """How many assistant messages the conversation holds already."""
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of the tool that must be called."""
    parallel_tools: bool = True
    schema: Mapping[str, Any] | None = None
    """JSON schema that the text must satisfy; an empty one asks for any JSON object."""
    max_output_tokens: int | None = None
    """Inclusive; counts reasoning too, as the vendors do."""
    stop: tuple[str, ...] = ()
    stream: bool = False
    effort: str | None = None
    """Reasoning effort; None asks for no reasoning."""
    reasoning_budget_tokens: int | None = None
    choices: int = 1
    call_prefix: str = "call_"
    """How the ids of tool calls begin."""
    silent: bool = False
    """Asks for no text, such as embeddings do."""
    extra_tokens: int = 0
    """Tokens of the prompt that are not text: images, tool definitions, the protocol's own."""
    audio_tokens: int = 0
    """Tokens of the sound in the prompt, not in `extra_tokens`."""
    image_tokens: int = 0
    """Tokens of the images in the prompt, part of `extra_tokens`."""
    wants_audio: str | None = None
    """Format of the spoken reply that is asked for."""
    cache_marks: tuple[int, ...] | None = None
    """How many of `texts` stand before each explicit cache breakpoint; None caches by itself."""
    body: Json = field(default_factory=dict)
    """The request as it came, for what only its own protocol needs."""
    size_bytes: int = 0
    """The length of the body, where the request is kept for later ones."""


@immutable
class ToolCall(Value):
    """A call of a tool by the model."""

    id: str
    name: str
    arguments: str
    """JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call."""

    input_tokens: int = 0
    """The whole prompt, with what was read from and written to the cache, and the sound."""
    cached_tokens: int = 0
    """Part of `input_tokens` that was read from the prompt cache."""
    cache_write_tokens: int = 0
    """Part of `input_tokens` that was written to the prompt cache."""
    audio_input_tokens: int = 0
    """Part of `input_tokens` that is sound."""
    image_tokens: int = 0
    """Part of `input_tokens` that is images."""
    output_tokens: int = 0
    """The whole reply: text, tool calls, reasoning and sound."""
    reasoning_tokens: int = 0
    """Part of `output_tokens` that is reasoning."""
    audio_output_tokens: int = 0
    """Part of `output_tokens` that is sound."""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            **{name: getattr(self, name) + getattr(other, name) for name in Usage.__slots__}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the simulated model says; made once, rendered by any protocol."""

    pieces: tuple[str, ...] = ()
    """The text, cut into tokens."""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    audio: bytes = b""
    """16-bit mono PCM at 24 kHz."""
    finish_reason: FinishReason = "stop"
    stop_sequence: str | None = None
    usage: Usage = field(default_factory=Usage)
    delay_seconds: float = 0.0
    """Added to the time to the first token."""
    fault: str | None = None
    """Name of the fault that the script asks for."""

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


@immutable
class Stamp(Value):
    """The names and times that a vendor puts on an answer."""

    serial: int
    """Counts the calls of one simulator from 1; ids are made of it, so runs repeat."""
    created: int
    """Unix time in seconds."""

    def id(self, prefix: str, place: int = 0) -> str:
        """Make an id; `place` tells several ids of one kind in one answer apart."""
        return f"{prefix}{self.serial:020x}{place:04x}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a body on its way out."""

    data: bytes
    tokens: int = 0
    """Output tokens in it: what the pace of a stream is measured in."""
    action: Literal["", "flush", "wait", "close", "reset"] = ""
    """What happens after it was sent, with all that waits before it."""
    seconds: float = 0.0
    """How long `wait` lasts."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """A response on its way out; faults change it before it is sent."""

    status: int = 200
    headers: list[Header] = field(default_factory=list)
    content_type: bytes = b"application/json"
    body: bytes | None = None
    """A whole body; None when `chunks` are streamed."""
    chunks: Iterable[Chunk] = ()
    content_length: int | None = None
    """The length that a body in chunks announces; None frames it as a stream."""
    usage: Usage = field(default_factory=Usage)
    header_delay_seconds: float = 0.0
    """The time before the headers."""
    delay_seconds: float = 0.0
    """The time before the first token."""
    seconds_per_token: float = 0.0
    """How long each output token takes."""
    refusal: Refusal | None = None
    call: Call | None = None
    """What the referee knows of the call; None for calls that it does not watch."""


@dataclass(slots=True, kw_only=True)
class Call:
    """What happened to one request, filled in as it goes."""

    serial: int
    epoch: int
    """Counts the resets of the simulator before it."""
    at: float
    """Seconds on the simulator's clock."""
    method: str
    path: str
    key: str = ""
    model: str = ""
    operation: str = ""
    status: int = 0
    streamed: bool = False
    fault: str | None = None
    body: Json = field(default_factory=dict)
    """The request's JSON, empty if there was none or it was larger than 64 KiB."""
    usage: Usage = field(default_factory=Usage)
    ended: Literal["running", "completed", "abandoned", "broken"] = "running"
    """`abandoned` by the client, or `broken` by a fault."""
    account: str | None = None
    """The account on which it runs; None if it was not admitted."""
    fingerprint: int = 0
    """Equal for equal requests of one key: how retries are recognised."""
