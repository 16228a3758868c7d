"""`TraceContext`: to which distributed trace a call belongs, in the words of W3C Trace Context."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from llm_core.record import CheckedRecord, require
from llm_core.value import immutable, unchecked

__all__ = ["TraceContext"]

# https://www.w3.org/TR/trace-context/#traceparent-header: version 00, and what later ones keep.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")


def _random_hex(size: int) -> str:
    return os.urandom(size).hex()


@immutable
class TraceContext(CheckedRecord):
    """One span of a distributed trace, as it travels in HTTP headers."""

    trace_id: str
    """32 lowercase hexadecimal digits, not all zero."""
    span_id: str
    """16 lowercase hexadecimal digits, not all zero."""
    sampled: bool = True
    """Whether the spans of this trace are recorded."""
    state: str = ""
    """The ``tracestate`` header, passed on as it came; empty for none."""
    local: bool = False
    """Ids of our own making, which no tracer knows: they join our records and are not sent on."""

    def _validate(self) -> None:
        traced = _TRACE_ID.fullmatch(self.trace_id) is not None
        require(self, "trace_id", traced, "32 lowercase hexadecimal digits, not all zero")
        spanned = _SPAN_ID.fullmatch(self.span_id) is not None
        require(self, "span_id", spanned, "16 lowercase hexadecimal digits, not all zero")

    @classmethod
    def new(
        cls, token_hex: Callable[[int], str] = _random_hex, *, local: bool = False
    ) -> TraceContext:
        """Start a trace of its own; `token_hex` gives that many random bytes as hexadecimal."""
        digits = token_hex(24)
        return unchecked(cls)(trace_id=digits[:32], span_id=digits[32:], local=local)

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> TraceContext | None:
        """Read ``traceparent`` and ``tracestate`` (lowercase names); None if there is no valid one.

        A malformed header starts a new trace rather than failing the call, as the standard asks.
        """
        matched = _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip())
        if matched is None:
            return None
        trace_id, span_id, flags = matched.groups()
        if not _TRACE_ID.fullmatch(trace_id) or not _SPAN_ID.fullmatch(span_id):
            return None
        return cls(
            trace_id=trace_id,
            span_id=span_id,
            sampled=bool(int(flags, 16) & 1),
            state=headers.get("tracestate", ""),
        )

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that hand this context on; none for local ids."""
        if self.local:
            return {}
        flags = "01" if self.sampled else "00"
        written = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{flags}"}
        if self.state:
            written["tracestate"] = self.state
        return written
