"""What a vendor's protocol amounts to: pure functions between our words and the vendor's JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from llm_core import EMPTY, LLMCallRequest, ProviderResponse, StreamEvent, Value, immutable
from llm_providers.classify import VendorError
from llm_providers.reply import ReplyAssembly, ReplyFrame
from llm_providers.stream_framing import FrameDecoder

__all__ = ["Dialect", "PreparedCall", "StreamReader", "VendorFailure"]


@immutable
class PreparedCall(Value):
    """A request in the vendor's words, and what the conversion had to decide."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = EMPTY
    structured_by: str | None = None
    """``native``, ``tool`` or ``prompt``; None without response schema."""
    schema_tool: str | None = None
    """The tool that carries the structured answer, when `structured_by` is ``tool``."""
    dropped: tuple[str, ...] = ()
    audio_format: str = "wav"


class VendorFailure(Exception):
    """The vendor says inside a 200 reply or a stream that the call failed."""

    def __init__(self, error: VendorError) -> None:
        super().__init__(error.message)
        self.error = error


class StreamReader(Protocol):
    """Reads one stream; made anew for each."""

    @property
    def complete(self) -> bool:
        """Whether the vendor's terminal event was seen."""

    def read(self, payload: bytes) -> Iterable[StreamEvent]:
        """Return the events of one message; raises VendorFailure for an error event, MalformedBody for no JSON."""


class Dialect(Protocol):
    """One protocol of one vendor. No method does I/O."""

    def prepare(self, request: LLMCallRequest, *, stream: bool) -> PreparedCall:
        """Return `request` in the vendor's words; raises UnsupportedFeature for what cannot be said in them."""

    def read(self, payload: dict[str, Any], frame: ReplyFrame) -> ProviderResponse:
        """Return a plain reply in our words; raises VendorFailure if it says that the call failed."""

    def frames(self) -> FrameDecoder:
        """Return a new decoder for the framing of this protocol's streams."""

    def reader(self, assembly: ReplyAssembly) -> StreamReader:
        """Return a new reader that builds the reply in `assembly`."""
