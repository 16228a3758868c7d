"""Cutting a byte stream into messages: server-sent events and newline-delimited JSON.

Both decoders take chunks as the network cut them, anywhere, and give whole messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from llm_providers.json_reading import MalformedBody

__all__ = ["FrameDecoder", "NdjsonDecoder", "SseDecoder"]

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A message larger than this is an attack or a fault; the largest honest ones are base64 audio and images."""


class FrameDecoder(Protocol):
    """Turns chunks into messages' payloads."""

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """Return the payloads that `chunk` completes; raises MalformedBody for one that is too large."""

    def finish(self) -> Iterable[bytes]:
        """Return what the end of the body completes."""


class SseDecoder:
    """Server-sent events (WHATWG HTML, section 9.2), of which only the ``data`` matters here.

    The vendors repeat an event's name inside its data, so names, ids and retry hints are passed over.
    As the standard says, an event that the end of the body cuts off is dropped.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._ends_with_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """Return the data of each event that `chunk` completes."""
        if b"\r" in chunk or self._ends_with_cr:
            chunk = self._with_plain_newlines(chunk)
        if b"\n" not in chunk:
            self._keep(self._rest + chunk)
            return ()
        lines = (self._rest + chunk).split(b"\n")
        self._keep(lines.pop())
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                if self._data:
                    events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data, self._size = [], 0
            elif line == b"data":
                self._add(b"")
        return events

    def finish(self) -> Iterable[bytes]:
        """Return nothing: an unfinished event counts for nothing."""
        return ()

    def _with_plain_newlines(self, chunk: bytes) -> bytes:
        second_half = self._ends_with_cr and chunk.startswith(b"\n")
        if chunk:
            self._ends_with_cr = chunk.endswith(b"\r")
        if second_half:
            chunk = chunk[1:]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        _require_size(self._size)
        self._data.append(data)

    def _keep(self, rest: bytes) -> None:
        _require_size(len(rest))
        self._rest = rest


class NdjsonDecoder:
    """One JSON value per line; the last line may lack its newline."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """Return each line that `chunk` completes, blank ones left out."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        _require_size(len(self._rest))
        return [line for line in lines if line.strip()]

    def finish(self) -> Iterable[bytes]:
        """Return the last line, if there is one."""
        rest, self._rest = self._rest, b""
        return [rest] if rest.strip() else []


def _require_size(size: int) -> None:
    if size > MAX_FRAME_BYTES:
        raise MalformedBody(f"one message of the stream is larger than {MAX_FRAME_BYTES} bytes")
